"""sum, avg, variance and stddev over floating-point numbers, from exact decimal totals.

The shortest text that gives a number back is exact to a relative 10^-17 and always the same for the same number. Added
up in numeric, what came in goes out again to the last digit, so the error never grows with the history; it is that of
one rounding at the end, which is less than PostgreSQL's own. NaN, the infinities and -0 are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.weighted import count, present, total
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

FLOAT4, FLOAT8 = 700, 701
FLOATS = frozenset({FLOAT4, FLOAT8})
_SPECIAL = {"nan": "NaN", "plus": "Infinity", "minus": "-Infinity"}
#: Below half of the smallest number of a type a cast of numeric fails instead of giving 0.
_SMALLEST = {FLOAT4: "1e-45", FLOAT8: "3e-324"}


def accepts_floats(types: tuple[Type, ...]) -> bool:
    """Floating-point numbers whose text gives them back."""
    return all(kind.base_oid in FLOATS and kind.exact_text for kind in types)


def double(arg: Expr) -> Expr:
    """The value as PostgreSQL adds it up; float4 becomes the very float8 that it is."""
    return text("(", arg, ")::pg_catalog.float8")


def decimal(arg: Expr) -> Expr:
    """The value as numeric, by its shortest text."""
    return text(double(arg), "::pg_catalog.text::pg_catalog.numeric")


def is_finite(arg: Expr) -> Expr:
    """Whether the value is neither NULL nor NaN nor infinite (NaN is the greatest value)."""
    return text("pg_catalog.abs(", double(arg), ") < 'Infinity'::pg_catalog.float8")


def narrowed(value: Expr, oid: int = FLOAT8) -> Expr:
    """A numeric value as a floating-point number, rounded once."""
    kind = "pg_catalog.float4" if oid == FLOAT4 else "pg_catalog.float8"
    tiny = text("pg_catalog.abs(", value, f") < {_SMALLEST[oid]}")
    return text("(CASE WHEN ", tiny, " THEN 0 ELSE ", value, f" END)::{kind}")


def specials(call: AggregateCall, arg: Expr, *conditions: Expr, suffix: str = "") -> tuple[StateColumn, ...]:
    """Counts of NaN and of both infinities."""
    return tuple(
        StateColumn(
            name + suffix,
            "pg_catalog.int8",
            count(call, *conditions, text(double(arg), f" = '{shown}'::pg_catalog.float8")),
        )
        for name, shown in _SPECIAL.items()
    )


def unless_special(state: Mapping[str, str], finite: Expr, kind: str = "pg_catalog.float8", suffix: str = "") -> Expr:
    """What NaN and infinities make of a sum: opposite infinities are no number."""
    nan, plus, minus = (text(col(state[name + suffix]), " > 0") for name in _SPECIAL)
    return text(
        "CASE WHEN ", nan, " OR (", plus, " AND ", minus, f") THEN 'NaN'::{kind}",
        " WHEN ", plus, f" THEN 'Infinity'::{kind}",
        " WHEN ", minus, f" THEN '-Infinity'::{kind} ELSE ", finite, " END",
    )  # fmt: skip


def _totals(call: AggregateCall) -> tuple[StateColumn, ...]:
    (arg,) = call.args
    summed = total(call, decimal(arg), is_finite(arg))
    return (
        StateColumn("n", "pg_catalog.int8", count(call, *present(call))),
        *specials(call, arg),
        StateColumn("sum", "pg_catalog.numeric", summed),
    )


def _sum_state(call: AggregateCall) -> tuple[StateColumn, ...]:
    # A sum of nothing but -0 is -0; of all other zeros, and of everything that cancels out, it is 0.
    negative = text(double(call.args[0]), "::pg_catalog.text = '-0'")
    return (*_totals(call), StateColumn("zeros", "pg_catalog.int8", count(call, negative)))


def _sum_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    oid = FLOAT4 if call.column.type.base_oid == FLOAT4 else FLOAT8
    kind = "pg_catalog.float4" if oid == FLOAT4 else "pg_catalog.float8"
    zeros = text("CASE WHEN ", col(state["zeros"]), " = ", col(state["n"]), f" THEN '-0'::{kind} ELSE ")
    finite = text(zeros, narrowed(col(state["sum"]), oid), " END")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", unless_special(state, finite, kind), " END")


def _avg_result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    mean = text(narrowed(col(state["sum"])), " / ", col(state["n"]), "::pg_catalog.float8")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", unless_special(state, mean), " END")


def _squares(call: AggregateCall) -> tuple[StateColumn, ...]:
    (arg,) = call.args
    number, finite = decimal(arg), is_finite(arg)
    return (
        StateColumn("n", "pg_catalog.int8", count(call, *present(call))),
        StateColumn("finite", "pg_catalog.int8", count(call, finite)),
        StateColumn("sum", "pg_catalog.numeric", total(call, number, finite)),
        StateColumn(
            "squares",
            "pg_catalog.numeric",
            total(call, text(number, " * ", number), finite),
        ),
    )


def deviations(n: Expr, products: Expr, one: Expr, other: Expr) -> Expr:
    """The sum of products of deviations from the means: Sxx, Syy or Sxy; ``n`` is not 0."""
    count = text(n, "::pg_catalog.numeric")
    return text("((", count, " * ", products, " - ", one, " * ", other, ") / ", count, ")")


def _spread(sample: bool, root: bool) -> Callable[[AggregateCall, Mapping[str, str]], Expr]:
    enough = 1 if sample else 0

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        n = col(state["n"])
        squared = deviations(n, col(state["squares"]), col(state["sum"]), col(state["sum"]))
        divisor = text("(", n, f" - {enough})::pg_catalog.float8")
        variance = text(narrowed(squared), " / ", divisor)
        value = text("pg_catalog.sqrt(", variance, ")") if root else variance
        special = text(col(state["finite"]), " < ", n)
        known = text("CASE WHEN ", special, " THEN 'NaN'::pg_catalog.float8 ELSE ", value, " END")
        return text("CASE WHEN ", n, f" > {enough} THEN ", known, " END")

    return result


FLOAT_SUM = AggregateRule(_sum_state, _sum_result, accepts_floats)
FLOAT_AVG = AggregateRule(_totals, _avg_result, accepts_floats)
FLOAT_VAR_SAMP = AggregateRule(_squares, _spread(sample=True, root=False), accepts_floats)
FLOAT_VAR_POP = AggregateRule(_squares, _spread(sample=False, root=False), accepts_floats)
FLOAT_STDDEV_SAMP = AggregateRule(_squares, _spread(sample=True, root=True), accepts_floats)
FLOAT_STDDEV_POP = AggregateRule(_squares, _spread(sample=False, root=True), accepts_floats)
