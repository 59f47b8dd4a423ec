"""What a delta reads: no rows of what did not change, no cross product where conditions connect the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgtrickle.delta import delta
from pgtrickle.delta.outer import equality_pairs
from pgtrickle.ir import operators as ir
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import InputKey, Operator, children_of
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.rewrite.equality import null_safe
from pgtrickle.rewrite.push import push
from pgtrickle.rewrite.restrict import restrict


def scan(number: int, *names: str) -> ir.Scan:
    attributes = tuple((i + 1, name) for i, name in enumerate(names))
    return ir.Scan(InputKey("table", number), attributes, tuple(Column(name, INT8) for name in names), ())


def equal(left: str, right: str) -> Expr:
    return Expr(text(col(left), " = ", col(right)).parts, (col(left), col(right)))


def nodes(op: Operator) -> list[Any]:
    return [op, *(node for child in children_of(op) for node in nodes(child))]


A, B, C, D = (scan(i, f"{name}_k", f"{name}_v") for i, name in enumerate("abcd"))
EVERY = frozenset(op.input for op in (A, B, C, D))
ON = (equal("a_k", "b_k"),)
OPERATORS: dict[str, Callable[[Operator], Operator]] = {
    "scan": lambda op: op,
    "filter": lambda op: ir.Filter(op, (text(col("a_v"), " > 1"),)),
    "project": lambda op: ir.Project(op, (Column("x", INT8),), (col("a_v"),)),
    "union": lambda op: ir.UnionAll((op, op), op.columns),
    "expand": lambda op: ir.Expand(op, text("f(", col("a_v"), ")"), (Column("x", INT8),), frozenset(), False),
    "apply": lambda op: ir.Apply(op, ()),
    "pad": lambda op: ir.Pad(op, B),
    "join": lambda op: ir.Join((op, B), ON),
    "left join": lambda op: ir.OuterJoin(ir.OuterKind.LEFT, op, B, ON),
    "full join": lambda op: ir.OuterJoin(ir.OuterKind.FULL, op, B, ON),
    "anti join": lambda op: ir.Anti(op, B, ON),
    "semi join": lambda op: ir.Anti(op, B, ON, semi=True),
    "theta anti join": lambda op: ir.Anti(op, B, (text(col("a_k"), " < ", col("b_k")),)),
    "theta left join": lambda op: ir.OuterJoin(ir.OuterKind.LEFT, op, B, (text(col("a_k"), " < ", col("b_k")),)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_nothing_is_read_for_an_operator_whose_inputs_did_not_change(name: str) -> None:
    op = OPERATORS[name](A)
    assert isinstance(delta(op, frozenset({C.input})), ir.Empty)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_delta_contains_no_empty_part(name: str) -> None:
    op = OPERATORS[name](A)
    for changed in ({A.input}, {A.input, B.input}):
        assert not any(isinstance(node, ir.Empty) for node in nodes(delta(op, frozenset(changed))))


@pytest.mark.parametrize("name", [name for name in OPERATORS if "join" in name])
def test_changes_of_one_side_alone_read_no_changes_of_the_other(name: str) -> None:
    op = OPERATORS[name](A)
    for side in (A, B):
        read = {node.scan.input for node in nodes(delta(op, frozenset({side.input}))) if isinstance(node, ir.Change)}
        assert read == {side.input}


def test_a_union_reads_only_the_branches_that_changed() -> None:
    tree = delta(ir.UnionAll((A, ir.Project(B, A.columns, (col("b_k"), col("b_v")))), A.columns), frozenset({B.input}))
    assert isinstance(tree, ir.UnionAll)
    assert len(tree.children) == 1


CHAIN = ir.Join((A, B, C, D), (equal("a_k", "b_k"), equal("b_v", "c_k"), equal("c_v", "d_k")))


@pytest.mark.parametrize("changed", [{A, D}, {A, C}, {B, D}, {A, B, C, D}, {C, D}])
def test_a_join_takes_its_inputs_in_the_order_of_their_connections(changed: set[ir.Scan]) -> None:
    tree = delta(CHAIN, frozenset(op.input for op in changed))
    joins = [node for node in nodes(tree) if isinstance(node, ir.Join)]
    assert joins
    assert all(_is_connected(join) for join in joins)
    assert not any(isinstance(node, ir.Empty) for node in nodes(tree))


def _is_connected(join: ir.Join) -> bool:
    seen = {column.name for column in join.inputs[0].columns}
    left = list(join.inputs[1:])
    while left:
        for child in left:
            own = {column.name for column in child.columns}
            if any(c.refs & seen and c.refs & own for c in join.conditions):
                seen |= own
                left.remove(child)
                break
        else:
            return False
    return True


def test_changes_come_first_in_a_join() -> None:
    tree = delta(CHAIN, frozenset({C.input}))
    first = next(node for node in nodes(tree) if isinstance(node, ir.Join)).inputs[0]
    assert isinstance(first, ir.Change)


def test_the_few_rows_come_first_in_the_joins_of_an_anti_join() -> None:
    tree = delta(OPERATORS["anti join"](A), frozenset({A.input, B.input}))
    joins = [node for node in nodes(tree) if isinstance(node, ir.Join)]
    assert joins
    assert not any(isinstance(join.inputs[0], ir.Scan) for join in joins)


def test_an_equality_join_looks_up_keys_and_any_other_condition_rows() -> None:
    keyed, theta = (delta(OPERATORS[name](A), frozenset({B.input})) for name in ("anti join", "theta anti join"))
    assert not any(isinstance(node, ir.Lookup) for node in nodes(keyed))
    assert any(isinstance(node, ir.Lookup) for node in nodes(theta))


@pytest.mark.parametrize(
    "conditions",
    [
        (equal("b_k", "a_k"),),
        (*ON, text("FALSE")),
        (*ON, text(col("b_v"), " > 1")),
        (*ON, equal("b_v", "a_v")),
    ],
)
def test_equalities_are_found_whichever_side_is_written_first(conditions: tuple[Expr, ...]) -> None:
    tree = delta(ir.Anti(A, B, conditions), frozenset({B.input}))
    assert not any(isinstance(node, ir.Lookup) for node in nodes(tree))


@pytest.mark.parametrize("other", [text(col("a_v"), " > 1"), equal("a_v", "a_k")])
def test_a_condition_on_the_left_side_alone_is_looked_up_row_by_row(other: Expr) -> None:
    tree = delta(ir.Anti(A, B, (*ON, other)), frozenset({B.input}))
    assert any(isinstance(node, ir.Lookup) for node in nodes(tree))


def test_what_follows_the_last_changed_input_is_joined_in_one_step() -> None:
    tree = delta(CHAIN, frozenset({B.input, C.input}))
    assert isinstance(tree, ir.Project)
    assert isinstance(tree.child, ir.Join)
    assert {child.columns for child in tree.child.inputs[1:]} == {A.columns, D.columns}


KEYS = ir.Named("keys", (Column("a_k", INT8),))


def test_a_restriction_goes_below_what_does_not_make_the_key() -> None:
    projected = ir.Project(A, (Column("x", INT8), Column("y", INT8)), (col("a_k"), text(col("a_v"), " + 1")))
    below = restrict(ir.Filter(projected, (text(col("y"), " > 1"),)), ir.Named("keys", (Column("x", INT8),)), ("x",))
    assert [type(node) for node in nodes(below)[:4]] == [ir.Filter, ir.Project, ir.Restrict, ir.Scan]
    stays = restrict(projected, ir.Named("keys", (Column("y", INT8),)), ("y",))
    assert isinstance(stays, ir.Restrict)


def test_a_restriction_goes_into_every_branch_of_a_union() -> None:
    union = ir.UnionAll((A, ir.Project(B, A.columns, (col("b_k"), col("b_v")))), A.columns)
    restricted = restrict(union, KEYS, ("a_k",))
    assert isinstance(restricted, ir.UnionAll)
    assert sum(isinstance(node, ir.Restrict) for node in nodes(restricted)) == 2


def test_conditions_between_inputs_stay_in_the_join_and_are_not_lost() -> None:
    conditions = (*ON, text(col("a_v"), " > 1"), text(col("b_v"), " > 2"), text("TRUE"))
    pushed = push(ir.Join((A, B), conditions))
    assert isinstance(pushed, ir.Join)
    assert pushed.conditions == (*ON, text("TRUE"))
    assert [type(child) for child in pushed.inputs] == [ir.Filter, ir.Filter]


def test_a_condition_under_which_nulls_meet_is_no_equality_of_an_outer_join() -> None:
    plain = ir.Anti(A, B, ON)
    assert equality_pairs(plain) is not None
    nullable = null_safe(((A.columns[0], "b_k"),))
    assert nullable[-1].sides == (col("a_k"), col("b_k"))
    assert equality_pairs(ir.Anti(A, B, nullable[-1:])) is None
    renamed = nullable[-1].substitute({"a_k": col("d_k")})
    assert equality_pairs(ir.Anti(D, B, (renamed,))) is None
    known = null_safe(((Column("a_k", INT8, nullable=False), "b_k"),))
    assert equality_pairs(ir.Anti(A, B, known)) is not None
