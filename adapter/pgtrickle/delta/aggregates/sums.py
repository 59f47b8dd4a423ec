"""sum and avg over integers and numeric of fixed scale.

A sum of values that all have the same scale has that scale again, so adding and subtracting gives the very text that
PostgreSQL gives. Integers are never NaN, and short ones are multiplied and added up as integers. Values without a fixed
scale or without an end, floats and intervals have rules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.weighted import count, integer_total, present, total
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

INT2, INT4, INT8 = 21, 23, 20


@dataclass(frozen=True, slots=True)
class ExactKind:
    """A kind of numbers whose sums are exact.

    Attributes:
        accepts: whether the argument types are of this kind.
        totals: what is kept: ``n`` non-NULL values, their ``sum``, and ``nan`` where there can be one, left out of it.
    """

    accepts: Callable[[tuple[Type, ...]], bool]
    totals: Callable[[AggregateCall], tuple[StateColumn, ...]]


def _accepts_short(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].base_oid in (INT2, INT4)


def _accepts_long(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].base_oid == INT8


def _accepts_numeric(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].is_numeric and types[0].fixed_scale is not None and not types[0].endless


def _short(call: AggregateCall) -> tuple[StateColumn, ...]:
    return _number(call), StateColumn("sum", "pg_catalog.numeric", integer_total(call, call.args[0]))


def _long(call: AggregateCall) -> tuple[StateColumn, ...]:
    return _number(call), StateColumn("sum", "pg_catalog.numeric", total(call, call.args[0]))


def _numeric(call: AggregateCall) -> tuple[StateColumn, ...]:
    number = text("(", call.args[0], ")::pg_catalog.numeric")
    nan = text(number, " = 'NaN'::pg_catalog.numeric")
    finite = text(number, " <> 'NaN'::pg_catalog.numeric")
    return (
        _number(call),
        StateColumn("nan", "pg_catalog.int8", count(call, nan)),
        StateColumn("sum", "pg_catalog.numeric", total(call, number, finite)),
    )


def _number(call: AggregateCall) -> StateColumn:
    return StateColumn("n", "pg_catalog.int8", count(call, *present(call)))


EXACT_KINDS = (
    ExactKind(_accepts_short, _short),
    ExactKind(_accepts_long, _long),
    ExactKind(_accepts_numeric, _numeric),
)


def sum_of(state: Mapping[str, str]) -> Expr:
    """The numeric sum, NaN if a NaN is among the values."""
    if "nan" not in state:
        return col(state["sum"])
    return text("CASE WHEN ", col(state["nan"]), " > 0 THEN 'NaN'::pg_catalog.numeric ELSE ", col(state["sum"]), " END")


def _sum_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    value = text("(", sum_of(state), f")::{call.column.type.name}")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", value, " END")


def _avg_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    divisor = text(col(state["n"]), "::pg_catalog.numeric")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN (", sum_of(state), ") / ", divisor, " END")


SUM = tuple(AggregateRule(kind.totals, _sum_result, kind.accepts) for kind in EXACT_KINDS)
AVG = tuple(AggregateRule(kind.totals, _avg_result, kind.accepts) for kind in EXACT_KINDS)
