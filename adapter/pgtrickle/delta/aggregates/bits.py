"""bit_and and bit_or: the bits are kept; a group is looked at again only if a row left that may have decided one.

Only a row with a 0 where the result has a 0 can have decided an AND, only one with a 1 where it has a 1 an OR. Bit
strings are looked up whenever one leaves: there is no value for no row that fits every length.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, KeptValue, StateColumn, StatePart
from pgtrickle.delta.aggregates.weighted import count, present
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

_INTEGERS = frozenset({20, 21, 23})
_BIT = 1560


def _accepts(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].base_oid in _INTEGERS | {_BIT}


def _bits(pick: str, joined: str, shared: str, neutral: int) -> AggregateRule:
    def merged(before: Expr, came: Expr) -> Expr:
        return text("COALESCE(", before, f" {joined} ", came, ", ", before, ", ", came, ")")

    def state(call: AggregateCall) -> tuple[StatePart, ...]:
        (arg,) = call.args

        def spoilt(before: Expr, came: Expr, now: Expr, left: Expr) -> Expr:
            if call.column.type.base_oid == _BIT:
                return text(left, " IS NOT NULL")
            return text("(", now, f" {shared} ", left, f") <> {neutral}")

        kept = KeptValue("bits", f"pg_catalog.{pick}", arg, arg, call.filter, merged, spoilt)
        return (StateColumn("n", "pg_catalog.int8", count(call, *present(call))), kept)

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        # The last row may leave without having decided a bit.
        return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", col(state["bits"]), " END")

    return AggregateRule(state, result, _accepts)


BIT_AND = _bits("bit_and", "&", "|", -1)
BIT_OR = _bits("bit_or", "|", "&", 0)
