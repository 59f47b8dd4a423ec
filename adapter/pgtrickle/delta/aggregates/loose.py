"""sum, avg, variance and stddev over numeric values of any scale.

The scale that PostgreSQL shows is that of the value with the most digits in the group. To know it when such a value
leaves, the rows of each scale are counted, all counts in one number: a row of scale s adds 10^(18 s), so the digits of
the total are the counts, and its length tells the largest scale that is left. Sums never lose digits, so rounding them
to that scale is exact. NaN and the infinities are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.variance import deviation, spread
from pgtrickle.delta.aggregates.weighted import count, present, total
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import NUMERIC, Type

_DIGITS = 18
_SPECIAL = {"nan": "NaN", "plus": "Infinity", "minus": "-Infinity"}


def _accepts(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].base_oid == NUMERIC


def _number(call: AggregateCall) -> Expr:
    return text("(", call.args[0], ")::pg_catalog.numeric")


def _totals(call: AggregateCall) -> tuple[StateColumn, ...]:
    number = _number(call)
    # scale() is NULL for NaN and the infinities.
    finite = text("pg_catalog.scale(", number, ") IS NOT NULL")
    place = text("('1e' || ", f"({_DIGITS} * pg_catalog.scale(", number, ")))::pg_catalog.numeric")
    special = tuple(
        StateColumn(name, "pg_catalog.int8", count(call, text(number, f" = '{shown}'::pg_catalog.numeric")))
        for name, shown in _SPECIAL.items()
    )
    return (
        StateColumn("n", "pg_catalog.int8", count(call, *present(call))),
        *special,
        StateColumn("sum", "pg_catalog.numeric", total(call, number, finite)),
        StateColumn("scales", "pg_catalog.numeric", total(call, place, finite)),
    )


def _totals_and_squares(call: AggregateCall) -> tuple[StateColumn, ...]:
    number = _number(call)
    finite = text("pg_catalog.scale(", number, ") IS NOT NULL")
    squares = total(call, text(number, " * ", number), finite)
    return (*_totals(call), StateColumn("squares", "pg_catalog.numeric", squares))


def _scale(state: Mapping[str, str]) -> Expr:
    digits = text("pg_catalog.length(pg_catalog.trunc(", col(state["scales"]), ")::pg_catalog.text)")
    return text("((", digits, f" - 1) / {_DIGITS})")


def _sum(state: Mapping[str, str]) -> Expr:
    return text("pg_catalog.round(", col(state["sum"]), ", ", _scale(state), ")")


def _unless_special(state: Mapping[str, str], finite: Expr) -> Expr:
    """What NaN and infinities make of a sum: opposite infinities are no number."""
    nan, plus, minus = (text(col(state[name]), " > 0") for name in ("nan", "plus", "minus"))
    return text(
        "CASE WHEN ", nan, " OR (", plus, " AND ", minus, ") THEN 'NaN'::pg_catalog.numeric",
        " WHEN ", plus, " THEN 'Infinity'::pg_catalog.numeric",
        " WHEN ", minus, " THEN '-Infinity'::pg_catalog.numeric ELSE ", finite, " END",
    )  # fmt: skip


def _sum_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", _unless_special(state, _sum(state)), " END")


def _avg_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    mean = text(_sum(state), " / ", col(state["n"]), "::pg_catalog.numeric")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", _unless_special(state, mean), " END")


def _deviation(sample: bool, root: bool) -> Callable[[AggregateCall, Mapping[str, str]], Expr]:
    enough = 1 if sample else 0

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        squares = text("pg_catalog.round(", col(state["squares"]), ", 2 * ", _scale(state), ")")
        finite = spread(col(state["n"]), _sum(state), squares, sample=sample)
        special = text(col(state["nan"]), " + ", col(state["plus"]), " + ", col(state["minus"]), " > 0")
        value = text("CASE WHEN ", special, " THEN 'NaN'::pg_catalog.numeric ELSE ", finite, " END")
        return text("CASE WHEN ", col(state["n"]), f" > {enough} THEN ", deviation(value, root=root), " END")

    return result


LOOSE_SUM = AggregateRule(_totals, _sum_result, _accepts)
LOOSE_AVG = AggregateRule(_totals, _avg_result, _accepts)
LOOSE_VAR_SAMP = AggregateRule(_totals_and_squares, _deviation(sample=True, root=False), _accepts)
LOOSE_VAR_POP = AggregateRule(_totals_and_squares, _deviation(sample=False, root=False), _accepts)
LOOSE_STDDEV_SAMP = AggregateRule(_totals_and_squares, _deviation(sample=True, root=True), _accepts)
LOOSE_STDDEV_POP = AggregateRule(_totals_and_squares, _deviation(sample=False, root=True), _accepts)
