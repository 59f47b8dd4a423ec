"""The DAG of stream tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgtrickle.errors import DependencyCycle
from pgtrickle.schedule.order import Dag

#      1
#     / \
#    2   3     7 -> 8     9
#     \ / \
#      4   5
#      |
#      6
DAG = Dag(range(1, 10), [(1, 2), (1, 3), (2, 4), (3, 4), (3, 5), (4, 6), (7, 8), (100, 9)])


def test_sources_come_before_their_dependents() -> None:
    order = DAG.ordered()
    assert sorted(order) == list(range(1, 10))
    assert all(order.index(source) < order.index(dependent) for source, dependent in DAG.edges)


def test_edges_to_base_tables_are_left_out() -> None:
    assert DAG.sources(9) == ()


def test_ancestors_and_descendants_are_transitive() -> None:
    assert DAG.ancestors([6]) == {1, 2, 3, 4}
    assert DAG.descendants([3]) == {4, 5, 6}
    assert DAG.ancestors([]) == frozenset()


def test_levels_depend_on_earlier_levels_only() -> None:
    assert DAG.levels() == ((1, 7, 9), (2, 3, 8), (4, 5), (6,))


def test_due_tables_that_share_an_ancestor_move_together_even_if_it_is_not_due() -> None:
    assert DAG.groups([2, 5]) == ((2, 5),)


def test_a_chain_is_one_group_in_dependency_order() -> None:
    assert DAG.groups([6, 4, 1]) == ((1, 4, 6),)


def test_unconnected_due_tables_are_groups_of_their_own() -> None:
    assert sorted(DAG.groups([9, 8, 6])) == [(6,), (8,), (9,)]


def test_a_due_table_does_not_drag_its_dependents_along() -> None:
    assert DAG.groups([1]) == ((1,),)


def test_a_common_dependent_does_not_join_what_it_reads() -> None:
    dag = Dag([1, 2, 3], [(1, 3), (2, 3)])
    assert sorted(dag.groups([1, 2])) == [(1,), (2,)]
    assert dag.groups([1, 2, 3]) == ((1, 2, 3),)


def test_a_diamond_is_found_with_its_sides() -> None:
    diamonds = DAG.diamonds()
    assert [(d.top, d.bottom, d.members) for d in diamonds] == [(1, 4, {1, 2, 3, 4})]


def test_a_short_cut_is_a_diamond_too() -> None:
    dag = Dag([1, 2, 3], [(1, 2), (2, 3), (1, 3)])
    assert [(d.top, d.bottom) for d in dag.diamonds()] == [(1, 3)]


def test_a_chain_above_a_diamond_does_not_belong_to_it() -> None:
    dag = Dag(range(5), [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)])
    assert [(d.top, d.bottom) for d in dag.diamonds()] == [(1, 4)]


def test_a_circle_is_refused_by_name() -> None:
    with pytest.raises(DependencyCycle) as caught:
        Dag([1, 2, 3], [(1, 2), (2, 3), (3, 1)], {1: "a", 2: "b", 3: "c"})
    assert caught.value.detail is not None
    assert set(caught.value.detail.split(" -> ")) == {"a", "b", "c"}


NODES = st.integers(0, 11)


@given(st.sets(st.tuples(NODES, NODES)), st.sets(NODES))
def test_groups_partition_the_due_tables_and_never_share_an_ancestor(
    pairs: set[tuple[int, int]], due: set[int]
) -> None:
    dag = Dag(range(12), [(a, b) for a, b in pairs if a < b])
    groups = dag.groups(due)
    assert sorted(node for group in groups for node in group) == sorted(due)
    closures = [dag.ancestors(group) | set(group) for group in groups]
    assert all(not (a & b) for i, a in enumerate(closures) for b in closures[:i])
