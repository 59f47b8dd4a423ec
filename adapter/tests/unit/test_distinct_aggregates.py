"""Aggregates of DISTINCT values are taken apart where everything can be kept by state then, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.ir import operators as ir
from pgtrickle.ir.describe import show
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import InputKey
from pgtrickle.ir.schema import INT8, Column, Equality, Type
from pgtrickle.plan import Strategy
from pgtrickle.rewrite.distinct_aggregates import distinct_aggregates
from pgtrickle.rewrite.stages import cut_stages

LOOSE = replace(INT8, equality=Equality.COARSE)


def points(x: Type = INT8) -> ir.Scan:
    columns = (Column("g", INT8), Column("x", x), Column("y", INT8))
    return ir.Scan(InputKey("table", 1), ((1, "g"), (2, "x"), (3, "y")), columns)


def distinct(name: str, column: str = "x", condition: Expr | None = None) -> ir.AggregateCall:
    shown = text("count(DISTINCT ", col(column), ")")
    return ir.AggregateCall(Column(name, INT8), shown, "count", (col(column),), condition, distinct=True)


ALL = ir.AggregateCall(Column("n", INT8), text("count(*)"), "count", (), None, True)
OTHER = ir.AggregateCall(Column("o", INT8), text("array_agg(", col("y"), ")"), "array_agg", (col("y"),), None, True)


def strategies(
    *calls: ir.AggregateCall, child: ir.Scan | None = None, keys: tuple[str, ...] = ("g",)
) -> list[Strategy]:
    grouping = ir.Aggregate(child or points(), keys, calls, scalar=not keys)
    stages = cut_stages(grouping, tuple(column.name for column in grouping.columns))
    assert [column.name for column in stages[-1].columns] == [column.name for column in grouping.columns]
    return [stage.strategy for stage in stages]


def test_distinct_values_get_a_grouping_of_their_own() -> None:
    assert strategies(distinct("d")) == [Strategy.AGGREGATE] * 2
    assert strategies(distinct("d"), ALL) == [Strategy.AGGREGATE] * 2
    assert strategies(distinct("d"), ALL, keys=()) == [Strategy.AGGREGATE] * 2


def test_aggregates_of_the_same_distinct_values_share_it() -> None:
    assert len(strategies(distinct("d"), distinct("e"))) == 2
    assert len(strategies(distinct("d"), distinct("e", "y"), ALL)) == 3
    assert len(strategies(distinct("d"), distinct("e", condition=text(col("y"), " > 1")))) == 3


def test_equal_values_that_look_different_are_computed_again() -> None:
    assert strategies(distinct("d"), child=points(LOOSE)) == [Strategy.KEYS]


def test_beside_an_aggregate_that_is_computed_again_nothing_is_gained() -> None:
    assert strategies(distinct("d"), OTHER) == [Strategy.KEYS]


def test_rows_and_distinct_values_are_not_counted_together() -> None:
    grouping = distinct_aggregates(ir.Aggregate(points(), ("g",), (distinct("d"), ALL)))
    assert isinstance(grouping, ir.Aggregate)
    values, rows = grouping.calls
    assert values.filter is None
    assert values.args == (col("d_value"),)
    assert rows.filter == col("n_row")
    union = grouping.child
    assert isinstance(union, ir.UnionAll)
    (everything, found) = union.children
    assert isinstance(everything, ir.Project)
    assert isinstance(found, ir.Project)
    shown = [column.name for column in union.columns]
    assert isinstance(everything.child, ir.Project)
    assert everything.child.exprs[-1] == text("TRUE")
    assert everything.exprs[shown.index("n_row")] == col("n_row")
    assert found.exprs[shown.index("n_row")] == text("NULL::boolean")
    assert everything.exprs[shown.index("d_value")] == text("NULL::bigint")


def test_a_group_whose_rows_the_filter_leaves_out_is_not_lost() -> None:
    grouping = distinct_aggregates(ir.Aggregate(points(), ("g",), (distinct("d", condition=text(col("y"), " > 1")),)))
    assert isinstance(grouping, ir.Aggregate)
    assert isinstance(grouping.child, ir.Keep)
    values = grouping.child.child
    assert isinstance(values, ir.Aggregate)
    assert isinstance(values.child, ir.Project)
    assert show(values.child.exprs[1]) == "CASE WHEN y > 1 THEN x END"
    assert values.child.child == points()
