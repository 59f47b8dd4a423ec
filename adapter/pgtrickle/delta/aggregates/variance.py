"""Variance and standard deviation over integers and numeric of fixed scale.

PostgreSQL computes them from count, sum and sum of squares in numeric arithmetic; the same totals through the same
division give the same digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.sums import EXACT_KINDS, ExactKind
from pgtrickle.delta.aggregates.weighted import total
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall

#: Nothing, at a scale that a sum then has too.
_MANY_DIGITS = "0e-100::pg_catalog.numeric"


def _state(kind: ExactKind) -> Callable[[AggregateCall], tuple[StateColumn, ...]]:
    def state(call: AggregateCall) -> tuple[StateColumn, ...]:
        (arg,) = call.args
        number = text("(", arg, ")::pg_catalog.numeric")
        kept = kind.totals(call)
        with_nan = any(column.name == "nan" for column in kept)
        finite = [text(number, " <> 'NaN'::pg_catalog.numeric")] if with_nan else []
        squares = total(call, text(number, " * ", number), *finite)
        return (*kept, StateColumn("squares", "pg_catalog.numeric", squares))

    return state


def spread(n: Expr, total_sum: Expr, squares: Expr, *, sample: bool) -> Expr:
    """The variance from count, sum and sum of squares."""
    count = text(n, "::pg_catalog.numeric")
    difference = text("(", count, " * ", squares, " - ", total_sum, " * ", total_sum, ")")
    divisor = text("(", count, " * (", count, " - 1))") if sample else text("(", count, " * ", count, ")")
    # PostgreSQL gives a plain 0 for values without spread, not a 0 with the scale of a division.
    return text("CASE WHEN ", difference, " <= 0 THEN 0::pg_catalog.numeric ELSE ", difference, " / ", divisor, " END")


def deviation(variance: Expr, *, root: bool) -> Expr:
    """The variance itself, or its root at the scale of the variance, as PostgreSQL takes it."""
    if not root:
        return variance
    value = text("(", variance, ")")
    scale = text("COALESCE(pg_catalog.scale(", value, "), 0)")
    # The function sqrt gives a few digits more than are shown, and what was rounded there may not be rounded again.
    root_of_it = text("pg_catalog.sqrt(", value, " + ", _MANY_DIGITS, ")")
    return text("pg_catalog.round(", root_of_it, ", ", scale, ")")


def _result(sample: bool, root: bool) -> Callable[[AggregateCall, Mapping[str, str]], Expr]:
    enough = 1 if sample else 0

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        finite = spread(col(state["n"]), col(state["sum"]), col(state["squares"]), sample=sample)
        value = finite
        if "nan" in state:
            value = text("CASE WHEN ", col(state["nan"]), " > 0 THEN 'NaN'::pg_catalog.numeric ELSE ", finite, " END")
        return text("CASE WHEN ", col(state["n"]), f" > {enough} THEN ", deviation(value, root=root), " END")

    return result


def _rules(*, sample: bool, root: bool) -> tuple[AggregateRule, ...]:
    result = _result(sample=sample, root=root)
    return tuple(AggregateRule(_state(kind), result, kind.accepts) for kind in EXACT_KINDS)


VAR_SAMP = _rules(sample=True, root=False)
VAR_POP = _rules(sample=False, root=False)
STDDEV_SAMP = _rules(sample=True, root=True)
STDDEV_POP = _rules(sample=False, root=True)
