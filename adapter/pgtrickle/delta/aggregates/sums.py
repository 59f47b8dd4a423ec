"""sum and avg over integers and numeric of fixed scale.

A sum of values that all have the same scale has that scale again, so adding and subtracting gives the very text that
PostgreSQL gives. Values without a fixed scale, floats and intervals are not accepted: their groups are computed again.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.weighted import total
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

INT2, INT4, INT8, NUMERIC = 21, 23, 20, 1700
INTEGERS = frozenset({INT2, INT4, INT8})


def accepts_exact_number(types: tuple[Type, ...]) -> bool:
    """Integers, and numeric of which all values have one scale."""
    if len(types) != 1:
        return False
    (only,) = types
    return only.base_oid in INTEGERS or (only.oid == NUMERIC and only.fixed_scale is not None)


def _not_null(arg: Expr) -> Expr:
    return text(arg, " IS NOT NULL")


def _is_nan(arg: Expr) -> Expr:
    return text("(", arg, ")::pg_catalog.numeric = 'NaN'::pg_catalog.numeric")


def totals(call: AggregateCall) -> tuple[StateColumn, ...]:
    """Count of non-NULL values, count of NaN, and the sum of the others."""
    (arg,) = call.args
    number = text("(", arg, ")::pg_catalog.numeric")
    finite = text(number, " <> 'NaN'::pg_catalog.numeric")
    summed = total(call, number, finite, as_type="pg_catalog.numeric")
    return (
        StateColumn("n", "pg_catalog.int8", total(call, text("1"), _not_null(arg))),
        StateColumn("nan", "pg_catalog.int8", total(call, text("1"), _is_nan(arg))),
        StateColumn("sum", "pg_catalog.numeric", summed),
    )


def sum_of(state: Mapping[str, str]) -> Expr:
    """The numeric sum, NaN if a NaN is among the values."""
    return text("CASE WHEN ", col(state["nan"]), " > 0 THEN 'NaN'::pg_catalog.numeric ELSE ", col(state["sum"]), " END")


def _sum_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    value = text("(", sum_of(state), f")::{call.column.type.name}")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", value, " END")


def _avg_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    count = text(col(state["n"]), "::pg_catalog.numeric")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN (", sum_of(state), ") / ", count, " END")


SUM = AggregateRule(totals, _sum_result, accepts_exact_number)
AVG = AggregateRule(totals, _avg_result, accepts_exact_number)
