"""regr_count, regr_avgx, regr_sxx, covar_pop and their like: totals over the rows in which both arguments are known.

`floats` says why the totals are decimal. What divides by a spread (corr, regr_r2, regr_slope, regr_intercept) is
looked up for groups with little or no spread: there PostgreSQL divides what its roundings left over, and nothing else
gives that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgtrickle.delta.aggregates.floats import (
    accepts_floats,
    decimal,
    deviations,
    is_finite,
    narrowed,
    specials,
    unless_special,
)
from pgtrickle.delta.aggregates.rule import AggregateRule, LookedUp, StateColumn, StatePart
from pgtrickle.delta.aggregates.weighted import count, present, total
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

#: A spread that is a smaller part of the squares than this is made of roundings, mostly.
_FLAT = "1e-12"
#: What is smaller may be 0 as a float.
_TINY = "1e-290"


def _accepts(types: tuple[Type, ...]) -> bool:
    return len(types) == 2 and accepts_floats(types)


def _pairs(call: AggregateCall) -> StateColumn:
    return StateColumn("n", "pg_catalog.int8", count(call, *present(call)))


def _count_state(call: AggregateCall) -> tuple[StateColumn, ...]:
    return (_pairs(call),)


def _count(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    return col(state["n"])


def _numeric(call: AggregateCall, name: str, value: Expr, *conditions: Expr) -> StateColumn:
    return StateColumn(name, "pg_catalog.numeric", total(call, value, *conditions))


def _mean(position: int) -> AggregateRule:
    """regr_avgy (argument 0) and regr_avgx (argument 1)."""

    def state_of(call: AggregateCall) -> tuple[StateColumn, ...]:
        arg, known = call.args[position], present(call)
        summed = _numeric(call, "sum", decimal(arg), *known, is_finite(arg))
        return (_pairs(call), *specials(call, arg, *known), summed)

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        mean = text(narrowed(col(state["sum"])), " / ", col(state["n"]), "::pg_catalog.float8")
        return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", unless_special(state, mean), " END")

    return AggregateRule(state_of, result, _accepts)


def _moment(first: int, second: int, finish: Callable[[Expr, Expr], Expr], enough: int = 0) -> AggregateRule:
    """What is made of the sum of products of deviations of two arguments, or of one with itself."""

    def state_of(call: AggregateCall) -> tuple[StateColumn, ...]:
        one, other, known = call.args[first], call.args[second], present(call)
        finite = (is_finite(one), is_finite(other)) if first != second else (is_finite(one),)
        return (
            _pairs(call),
            StateColumn("finite", "pg_catalog.int8", count(call, *known, *finite)),
            _numeric(call, "one", decimal(one), *known, *finite),
            _numeric(call, "other", decimal(other), *known, *finite),
            _numeric(call, "products", text(decimal(one), " * ", decimal(other)), *known, *finite),
        )

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        n = col(state["n"])
        value = finish(
            narrowed(deviations(n, col(state["products"]), col(state["one"]), col(state["other"]))),
            text(n, "::pg_catalog.float8"),
        )
        special = text(col(state["finite"]), " < ", n)
        known = text("CASE WHEN ", special, " THEN 'NaN'::pg_catalog.float8 ELSE ", value, " END")
        return text("CASE WHEN ", n, f" > {enough} THEN ", known, " END")

    return AggregateRule(state_of, result, _accepts)


def _product(state: Mapping[str, str], one: str, other: str) -> Expr:
    """The sum of products of deviations, times the number of rows: exact."""
    n = text(col(state["n"]), "::pg_catalog.numeric")
    return text("(", n, " * ", col(state[one + other]), " - ", col(state[one]), " * ", col(state[other]), ")")


def _flat(state: Mapping[str, str], name: str) -> Expr:
    """Whether the values of an argument are the same, or nearly so for their size or for a float."""
    squares = text(col(state["n"]), "::pg_catalog.numeric * ", col(state[name * 2]))
    return text(_product(state, name, name), f" <= GREATEST({_FLAT} * ", squares, f", {_TINY})")


def _slope_like(function: str, finish: Callable[[Mapping[str, str]], Expr]) -> AggregateRule:
    """What is made of Sxx, Syy and Sxy of finite values that have a spread."""

    def wanted(state: Mapping[str, str]) -> Expr:
        special = text(col(state["finite"]), " < ", col(state["n"]))
        flat = text("(", _flat(state, "x"), " OR ", _flat(state, "y"), ")")
        return text("(", special, " OR ", col(state["n"]), " > 1 AND ", flat, ")")

    def state_of(call: AggregateCall) -> tuple[StatePart, ...]:
        y, x = call.args
        rows = (*present(call), is_finite(y), is_finite(x))
        return (
            _pairs(call),
            StateColumn("finite", "pg_catalog.int8", count(call, *rows)),
            _numeric(call, "x", decimal(x), *rows),
            _numeric(call, "y", decimal(y), *rows),
            _numeric(call, "xx", text(decimal(x), " * ", decimal(x)), *rows),
            _numeric(call, "yy", text(decimal(y), " * ", decimal(y)), *rows),
            _numeric(call, "xy", text(decimal(x), " * ", decimal(y)), *rows),
            LookedUp("value", f"pg_catalog.{function}", text(y, ", ", x), call.filter, wanted),
        )

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        looked_up = text("CASE WHEN ", wanted(state), " THEN ", col(state["value"]))
        return text(looked_up, " WHEN ", col(state["n"]), " > 1 THEN ", narrowed(finish(state)), " END")

    return AggregateRule(state_of, result, _accepts)


def _corr(state: Mapping[str, str]) -> Expr:
    squares = text(_product(state, "x", "x"), " * ", _product(state, "y", "y"))
    value = text(_product(state, "x", "y"), " / pg_catalog.sqrt(", squares, ")")
    return text("GREATEST(LEAST(", value, ", 1), -1)")


def _r2(state: Mapping[str, str]) -> Expr:
    mixed = _product(state, "x", "y")
    return text("(", mixed, " * ", mixed, " / (", _product(state, "x", "x"), " * ", _product(state, "y", "y"), "))")


def _slope(state: Mapping[str, str]) -> Expr:
    return text("(", _product(state, "x", "y"), " / ", _product(state, "x", "x"), ")")


def _intercept(state: Mapping[str, str]) -> Expr:
    n, x, y = (col(state[name]) for name in ("n", "x", "y"))
    return text("((", y, " - ", x, " * ", _slope(state), ") / ", n, "::pg_catalog.numeric)")


CORR = _slope_like("corr", _corr)
REGR_R2 = _slope_like("regr_r2", _r2)
REGR_SLOPE = _slope_like("regr_slope", _slope)
REGR_INTERCEPT = _slope_like("regr_intercept", _intercept)
REGR_COUNT = AggregateRule(_count_state, _count, lambda types: len(types) == 2)
REGR_AVGY, REGR_AVGX = _mean(0), _mean(1)
REGR_SYY = _moment(0, 0, lambda sum_of_products, n: sum_of_products)
REGR_SXX = _moment(1, 1, lambda sum_of_products, n: sum_of_products)
REGR_SXY = _moment(0, 1, lambda sum_of_products, n: sum_of_products)
COVAR_POP = _moment(0, 1, lambda sum_of_products, n: text(sum_of_products, " / ", n))
COVAR_SAMP = _moment(0, 1, lambda sum_of_products, n: text(sum_of_products, " / (", n, " - 1)"), enough=1)
