"""The statements that keep groupings in state tables, as text: what is read, and when."""

from __future__ import annotations

import re
from dataclasses import replace

from pgtrickle.emit import stage_load, stage_refresh
from pgtrickle.ir import operators as ir
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import InputKey
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.plan import Bindings, Plan, Relation, Stage, StageBinding, Strategy, TableBinding

FLOAT8 = replace(INT8, oid=701, base_oid=701, name="double precision")
SOURCE = InputKey("table", 1)
POINTS = ir.Scan(SOURCE, ((1, "g"), (2, "x")), (Column("g", INT8), Column("x", INT8)))
BINDINGS = Bindings(
    {1: TableBinding(Relation("public", "points"), Relation("pgtrickle_changes", "b_1"))},
    {},
    {0: StageBinding(Relation("public", "st"), None, Relation("pgtrickle_state", "s1_0_state"))},
)


def call(name: str, function: str, argument: str = "x", condition: Expr | None = None) -> ir.AggregateCall:
    shown = text(f"pg_catalog.{function}(", col(argument), ")")
    return ir.AggregateCall(Column(name, INT8), shown, function, (col(argument),), condition, True)


def plan_of(*calls: ir.AggregateCall, keys: tuple[str, ...]) -> Plan:
    grouping = ir.Aggregate(POINTS, keys, calls, scalar=not keys)
    inputs = frozenset({SOURCE})
    stage = Stage(0, Strategy.AGGREGATE, "", grouping.columns, keys, inputs, grouping)
    return Plan((stage,), (), "DIFFERENTIAL", "")


def refresh(*calls: ir.AggregateCall, keys: tuple[str, ...] = ("g",)) -> str:
    plan = plan_of(*calls, keys=keys)
    statement = stage_refresh(plan, plan.root, BINDINGS, frozenset({SOURCE}))
    assert statement is not None
    return statement.as_string(None)


def test_totals_never_read_the_input() -> None:
    assert '"public"."points"' not in refresh(call("s", "sum"), call("c", "count"))


def test_an_extreme_reads_the_groups_that_are_spoilt_and_no_other() -> None:
    statement = refresh(call("lo", "min"), call("s", "sum"))
    assert statement.count('FROM "public"."points"') == 2  # keys without and with NULL
    for read in re.findall(r'FROM "public"\."points" AS t\) AS \S+ CROSS JOIN \((.*?)\)', statement):
        assert 'FROM "spoilt"' in read


def test_values_are_balanced_only_in_groups_where_one_that_left_may_count() -> None:
    statement = refresh(call("lo", "min"), call("s", "sum"))
    steps = dict(re.findall(r'"(\w+)" AS (?:MATERIALIZED )?\(\n(.*?)\n\)', statement, re.DOTALL))
    assert '"n_s' not in steps["came"]
    assert '"n_s' in steps["balanced"]
    assert 'FROM "doubted"' in steps["balanced"]


def test_without_groups_each_extreme_is_a_subquery_that_runs_only_if_it_is_spoilt() -> None:
    statement = refresh(call("lo", "min"), call("hi", "max", condition=text(col("g"), " > 1")), keys=())
    reads = re.findall(r'WHEN m\."x_s(\d)" THEN \(SELECT pg_catalog\.(\w+)\(', statement)
    assert reads == [("1", "min"), ("2", "max")]
    assert statement.count('FROM "public"."points"') == 2


def test_aggregates_of_one_argument_share_what_they_keep() -> None:
    plan = plan_of(call("s", "sum"), call("a", "avg"), call("v", "variance"), call("lo", "min"), keys=("g",))
    (state, _) = stage_load(plan, plan.root, BINDINGS)
    columns = re.findall(r'AS "(s\d+)"', state.as_string(None))
    assert columns == ["s1", "s2", "s3", "s4"]  # count, sum, squares, minimum; an integer is never NaN


def test_what_no_null_can_leave_out_is_counted_once_for_all() -> None:
    never_null = ir.Scan(SOURCE, ((1, "g"), (2, "x")), (Column("g", INT8), Column("x", INT8, nullable=False)))
    calls = (call("s", "sum"), call("n", "count"))
    grouping = ir.Aggregate(never_null, ("g",), calls)
    stage = Stage(0, Strategy.AGGREGATE, "", grouping.columns, ("g",), frozenset({SOURCE}), grouping)
    (state, _) = stage_load(Plan((stage,), (), "DIFFERENTIAL", ""), stage, BINDINGS)
    assert re.findall(r'AS "(__count|s\d+)"', state.as_string(None)) == ["__count", "s1"]


def test_a_computed_argument_is_computed_behind_a_fence() -> None:
    product = ir.Project(POINTS, (Column("g", INT8), Column("x", INT8)), (col("g"), text(col("x"), " * 2")))
    for child, fenced in ((POINTS, False), (product, True)):
        grouping = ir.Aggregate(child, ("g",), (call("s", "sum"),))
        stage = Stage(0, Strategy.AGGREGATE, "", grouping.columns, ("g",), frozenset({SOURCE}), grouping)
        (state, _) = stage_load(Plan((stage,), (), "DIFFERENTIAL", ""), stage, BINDINGS)
        assert ("OFFSET 0" in state.as_string(None)) is fenced


def test_a_filter_makes_an_extreme_of_its_own() -> None:
    condition = text(col("g"), " > 1")
    plan = plan_of(call("a", "max"), call("b", "max", condition=condition), call("c", "max"), keys=("g",))
    (state, _) = stage_load(plan, plan.root, BINDINGS)
    assert re.findall(r'AS "(s\d+)"', state.as_string(None)) == ["s1", "s2"]


def test_a_slope_is_looked_up_for_groups_without_spread_only() -> None:
    arguments = (col("x"), col("g"))
    slope = ir.AggregateCall(Column("s", FLOAT8), text("regr_slope(x, g)"), "regr_slope", arguments, None, True)
    points = replace(POINTS, columns=tuple(replace(column, type=FLOAT8) for column in POINTS.columns))
    grouping = ir.Aggregate(points, (), (slope,), scalar=True)
    stage = Stage(0, Strategy.AGGREGATE, "", grouping.columns, (), frozenset({SOURCE}), grouping)
    plan = Plan((stage,), (), "DIFFERENTIAL", "")
    statement = stage_refresh(plan, stage, BINDINGS, frozenset({SOURCE}))
    assert statement is not None
    shown = statement.as_string(None)
    assert re.findall(r'WHEN m\."(x_s\d)" THEN \(SELECT pg_catalog\.(\w+)\(', shown) == [("x_s8", "regr_slope")]
    wanted = re.search(r'COALESCE\((.*?), FALSE\) AS "x_s8"', shown)
    assert wanted is not None
    assert set(re.findall(r'"(n_s\d)"', wanted[1])) == {f"n_s{number}" for number in range(1, 7)}
