"""The pure parts between parser and printer: keys, pruning, pushing, deltas, rules, meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pgtrickle.analyze.meaning import meaning_of
from pgtrickle.delta import RULES, delta
from pgtrickle.delta.aggregates import AGGREGATES, rule_for
from pgtrickle.errors import InternalError
from pgtrickle.ir import operators as ir
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.keys import derive_key
from pgtrickle.ir.operators import InputKey, children_of
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.rewrite.prune import prune
from pgtrickle.rewrite.push import push


def scan(number: int, *names: str, key: str | None = None) -> ir.Scan:
    attributes = tuple((i + 1, name) for i, name in enumerate(names))
    columns = tuple(Column(name, INT8) for name in names)
    return ir.Scan(InputKey("table", number), attributes, columns, (frozenset({key}),) if key else ())


def equal(left: str, right: str) -> Expr:
    return Expr(text(col(left), " = ", col(right)).parts, (col(left), col(right)))


def nodes(op: ir.Operator) -> list[Any]:
    return [op, *(node for child in children_of(op) for node in nodes(child))]


ORDERS = scan(1, "o_id", "o_customer", key="o_id")
CUSTOMERS = scan(2, "c_id", "c_name", key="c_id")
JOINED = ir.Join((ORDERS, CUSTOMERS), (equal("o_customer", "c_id"),))


def test_a_join_to_a_key_keeps_the_other_sides_key() -> None:
    assert derive_key(JOINED) == {"o_id"}


LINES = replace(scan(3, "l_order", "l_number", "l_amount"), keys=(frozenset({"l_order", "l_number"}),))
OF_AN_ORDER = (equal("l_order", "o_id"),)


def test_a_column_of_a_key_may_be_shown_under_the_name_that_a_join_equates_it_with() -> None:
    joined = ir.Join((ORDERS, LINES), OF_AN_ORDER)
    shown = tuple(column for column in joined.columns if column.name in ("o_id", "l_number"))
    projected = ir.Project(joined, shown, tuple(col(column.name) for column in shown))
    assert derive_key(projected) == {"o_id", "l_number"}


def test_an_outer_join_needs_no_column_that_its_condition_takes_from_the_left() -> None:
    assert derive_key(ir.OuterJoin(ir.OuterKind.LEFT, ORDERS, LINES, OF_AN_ORDER)) == {"o_id", "l_number"}
    full = derive_key(ir.OuterJoin(ir.OuterKind.FULL, ORDERS, LINES, OF_AN_ORDER))
    assert full is None or "l_order" in full


def test_a_join_on_other_columns_needs_both_keys() -> None:
    assert derive_key(ir.Join((ORDERS, CUSTOMERS), (equal("o_customer", "c_name"),))) == {"o_id", "c_id"}


def test_a_projection_that_drops_a_key_column_has_no_key() -> None:
    assert derive_key(ir.Project(ORDERS, (Column("x", INT8),), (col("o_customer"),))) is None


def test_a_grouping_without_columns_has_at_most_one_row() -> None:
    assert derive_key(ir.Aggregate(ORDERS, (), (), scalar=True)) == frozenset()


def test_pruning_keeps_what_conditions_read() -> None:
    pruned = prune(JOINED, frozenset({"c_name"}))
    assert {column.name for column in pruned.columns} == {"o_customer", "c_id", "c_name"}


def test_a_condition_on_one_input_is_pushed_to_it() -> None:
    pushed = push(ir.Join(JOINED.inputs, (*JOINED.conditions, text(col("c_name"), " > 1"))))
    assert isinstance(pushed, ir.Join)
    assert isinstance(pushed.inputs[1], ir.Filter)


def test_the_delta_of_what_did_not_change_is_empty() -> None:
    assert isinstance(delta(JOINED, frozenset()), ir.Empty)


def test_the_delta_of_a_join_reads_only_the_changes_of_what_changed() -> None:
    changes = [node for node in nodes(delta(JOINED, frozenset({ORDERS.input}))) if isinstance(node, ir.Change)]
    assert [change.scan.input for change in changes] == [ORDERS.input]


def test_simultaneous_changes_on_both_sides_are_subtracted_once() -> None:
    tree = nodes(delta(JOINED, frozenset({ORDERS.input, CUSTOMERS.input})))
    assert sum(isinstance(node, ir.Negate) for node in tree) == 1
    assert sum(isinstance(node, ir.Join) for node in tree) == 3


def test_a_join_of_many_changed_inputs_grows_linearly() -> None:
    chain = [scan(i, f"a{i}", f"b{i}") for i in range(12)]
    conditions = tuple(equal(f"a{i}", f"b{i - 1}") for i in range(1, 12))
    tree = delta(ir.Join(tuple(chain), conditions), frozenset(op.input for op in chain))
    distinct = {id(node) for node in nodes(tree) if isinstance(node, ir.Join)}
    assert len(distinct) <= 3 * 12


def test_weighted_rows_never_reach_an_operator_that_is_not_linear() -> None:
    with pytest.raises(InternalError):
        ir.Aggregate(ir.Change(ORDERS), ("o_id",), ())
    with pytest.raises(InternalError):
        ir.OuterJoin(ir.OuterKind.LEFT, ir.Change(ORDERS), CUSTOMERS, ())


def test_an_expression_cannot_read_a_column_that_is_not_there() -> None:
    with pytest.raises(InternalError):
        ir.Filter(ORDERS, (text(col("c_name"), " > 1"),))


def test_every_operator_a_query_can_have_has_a_delta_rule_or_stands_on_a_stage() -> None:
    on_top = {ir.Aggregate, ir.Window, ir.Pick, ir.Recursion, ir.Opaque}
    rewritten = {ir.GroupingSets, ir.Attach, ir.Single, ir.Keep}
    weighted = {ir.Change, ir.Empty, ir.Negate, ir.Consolidate, ir.Fence, ir.Weigh}
    inside_deltas = weighted | {ir.Expose, ir.Lookup, ir.Restrict, ir.Named}
    of_steps = {ir.SelfReference}
    every = set(ir.Operator.__args__)
    assert every == set(RULES) | on_top | rewritten | inside_deltas | of_steps


def test_an_aggregate_with_distinct_or_order_has_no_adding_rule() -> None:
    call = ir.AggregateCall(Column("s", INT8), text("sum(DISTINCT ", col("o_id"), ")"), "sum", (col("o_id"),))
    assert rule_for(call, ORDERS.columns) is None


@pytest.mark.parametrize("name", sorted(AGGREGATES))
def test_state_columns_of_a_rule_have_names_of_their_own(name: str) -> None:
    args = () if name == "count" else (col("o_id"),) * (2 if name.startswith(("regr_", "covar_", "corr")) else 1)
    call = ir.AggregateCall(Column("x", INT8), text("f()"), name, args, None, True)
    for rule in AGGREGATES[name]:
        names = [column.name for column in rule.state(call)]
        assert len(names) == len(set(names)) > 0


def test_flat_and_nested_ands_mean_the_same_and_ors_do_not() -> None:
    nested = "{BOOLEXPR :boolop and :args ({BOOLEXPR :boolop and :args ({A} {B}) :location 3} {C}) :location 1}"
    flat = "{BOOLEXPR :boolop and :args ({A} {B} {C}) :location 9}"
    other = nested.replace("boolop and :args ({A}", "boolop or :args ({A}")
    assert meaning_of(nested, 1) == meaning_of(flat, 1) != meaning_of(other, 1)


def test_names_and_places_have_no_meaning_but_other_relations_have() -> None:
    assert meaning_of("{X :relid 7 :resname a :location 3}", 7) == meaning_of("{X :relid 8 :resname b :location 4}", 8)
    assert meaning_of("{X :relid 7}", 1) != meaning_of("{X :relid 8}", 1)
