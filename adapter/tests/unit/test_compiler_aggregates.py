"""Which rule keeps an aggregate, by the types of its arguments: without one its groups are computed again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgtrickle.delta.aggregates import AGGREGATES, rule_for
from pgtrickle.ir.expr import col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import BOOL, INT4, INT8, Column, Equality, Type


def number(oid: int, **facts: object) -> Type:
    return replace(INT8, oid=oid, base_oid=oid, **facts)  # pyright: ignore[reportArgumentType]


TYPES = {
    "smallint": number(21),
    "integer": INT4,
    "bigint": INT8,
    "boolean": BOOL,
    "numeric": number(1700, equality=Equality.COARSE),
    "numeric(10,2)": number(1700, typmod=((10 << 16) | 2) + 4),
    "float4": number(700, equality=Equality.COARSE),
    "float8": number(701, equality=Equality.COARSE),
    "float8 of few digits": number(701, equality=Equality.COARSE, exact_text=False),
    "interval": number(1186, equality=Equality.COARSE, category="T"),
    "money": number(790),
    "text": number(25, category="S"),
    "point": number(600, sortable=False, hashable=False, equality=Equality.NONE, equals=None),
}
EXACT = ("smallint", "integer", "bigint", "numeric(10,2)")
MOMENTS = ("variance", "var_samp", "var_pop", "stddev", "stddev_samp", "stddev_pop")
PAIRS = (
    *("regr_count", "regr_avgx", "regr_avgy", "regr_sxx", "regr_syy", "regr_sxy"),
    *("covar_pop", "covar_samp", "corr", "regr_r2", "regr_slope", "regr_intercept"),
)
#: (aggregates, position of the rule in `AGGREGATES` or None, argument types)
EXPECTED = (
    (("sum", "avg", *MOMENTS), 0, ("smallint", "integer")),
    (("sum", "avg", *MOMENTS), 1, ("bigint",)),
    (("sum", "avg", *MOMENTS), 2, ("numeric(10,2)",)),
    (("sum", "avg", *MOMENTS), 3, ("numeric",)),
    (("sum", "avg", *MOMENTS), 4, ("float4", "float8")),
    (("sum", "avg"), 5, ("interval",)),
    (("sum",), 6, ("money",)),
    (("sum", "avg", *MOMENTS), None, ("text", "point", "float8 of few digits")),
    (MOMENTS, None, ("interval",)),
    (("min", "max"), 0, (*EXACT, "numeric", "float8", "interval", "money", "text")),
    (("min", "max"), None, ("point",)),
    (("bit_and", "bit_or"), 0, ("smallint", "integer", "bigint")),
    (("bool_and", "every", "bool_or"), 0, ("boolean",)),
    (("count",), 0, tuple(TYPES)),
)
CASES = [(name, kind, rule) for names, rule, kinds in EXPECTED for name in names for kind in kinds]


def call(name: str, *columns: str) -> AggregateCall:
    args = tuple(col(column) for column in columns)
    return AggregateCall(Column("result", INT8), text(f"{name}(", *args, ")"), name, args=args, plain=True)


@pytest.mark.parametrize(("name", "kind", "position"), CASES, ids=[f"{name} {kind}" for name, kind, _ in CASES])
def test_the_rule_follows_from_the_type(name: str, kind: str, position: int | None) -> None:
    found = rule_for(call(name, "x"), (Column("x", TYPES[kind]),))
    assert found is (None if position is None else AGGREGATES[name][position])


@pytest.mark.parametrize("name", PAIRS)
def test_aggregates_of_two_numbers_are_kept_for_floats_alone(name: str) -> None:
    floats = (Column("x", TYPES["float8"]), Column("y", TYPES["float8"]))
    assert rule_for(call(name, "x", "y"), floats) is AGGREGATES[name][0]
    inexact = (floats[0], Column("y", TYPES["float8 of few digits"]))
    assert (rule_for(call(name, "x", "y"), inexact) is None) == (name != "regr_count")


def test_every_rule_is_expected_for_some_type() -> None:
    tested = {name for names, _, _ in EXPECTED for name in names} | set(PAIRS)
    assert set(AGGREGATES) - tested <= {"any_value"}


def test_a_call_over_anything_but_columns_has_no_rule_unless_it_counts() -> None:
    computed = text(col("x"), " + 1")
    columns = (Column("x", INT8),)
    summed = AggregateCall(Column("s", INT8), text("sum(", computed, ")"), "sum", args=(computed,), plain=True)
    counted = AggregateCall(Column("c", INT8), text("count(", computed, ")"), "count", args=(computed,), plain=True)
    assert rule_for(summed, columns) is None
    assert rule_for(counted, columns) is AGGREGATES["count"][0]
