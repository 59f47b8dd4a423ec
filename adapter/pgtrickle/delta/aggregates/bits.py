"""bit_and and bit_or: the bits are kept; a group is looked at again only if a row left that may have decided one.

Only a row with a 0 where the result has a 0 can have decided an AND, only one with a 1 where it has a 1 an OR.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, KeptValue
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

_INTEGERS = frozenset({20, 21, 23})
_BIT = 1560


def _accepts(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].base_oid in _INTEGERS | {_BIT}


def _any_zero(call: AggregateCall, bits: Expr) -> Expr:
    if call.column.type.base_oid == _BIT:
        return text('pg_catalog."position"(', bits, ", B'0') > 0")
    return text(bits, " <> -1")


def _any_one(call: AggregateCall, bits: Expr) -> Expr:
    if call.column.type.base_oid == _BIT:
        return text('pg_catalog."position"(', bits, ", B'1') > 0")
    return text(bits, " <> 0")


def _bits(pick: str, joined: str, shared: str, decided: Callable[[AggregateCall, Expr], Expr]) -> AggregateRule:
    def merged(before: Expr, came: Expr) -> Expr:
        return text("COALESCE(", before, f" {joined} ", came, ", ", before, ", ", came, ")")

    def state(call: AggregateCall) -> tuple[KeptValue, ...]:
        def spoilt(before: Expr, came: Expr, now: Expr, left: Expr) -> Expr:
            return decided(call, text("(", now, f" {shared} ", left, ")"))

        (arg,) = call.args
        return (KeptValue("bits", f"pg_catalog.{pick}", arg, arg, call.filter, merged, spoilt),)

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        return col(state["bits"])

    return AggregateRule(state, result, _accepts)


BIT_AND = _bits("bit_and", "&", "|", _any_zero)
BIT_OR = _bits("bit_or", "|", "&", _any_one)
