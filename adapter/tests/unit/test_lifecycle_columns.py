"""The least change of columns that turns a table into its query's shape."""

from __future__ import annotations

from pgtrickle.lifecycle.columns import TableColumn, compare_columns


def columns(*names, **types):
    return tuple(
        TableColumn(n, name, types.get(name, "int"), 23 if name not in types else 25, -1, None)
        for n, name in enumerate(names, 1)
    )


def names(found):
    return [column.name for column in found]


def test_equal_columns_need_nothing():
    assert compare_columns(columns("a", "b"), columns("a", "b")).none


def test_a_column_at_the_end_is_added():
    changes = compare_columns(columns("a", "b"), columns("a", "b", "c"))
    assert (names(changes.drop), names(changes.alter), names(changes.add)) == ([], [], ["c"])


def test_a_column_in_the_middle_is_dropped():
    changes = compare_columns(columns("a", "b", "c"), columns("a", "c"))
    assert (names(changes.drop), names(changes.add)) == (["b"], [])


def test_a_column_in_front_makes_those_behind_it_be_appended_again():
    changes = compare_columns(columns("a", "b"), columns("a", "x", "b"))
    assert (names(changes.drop), names(changes.add)) == (["b"], ["x", "b"])


def test_without_order_columns_stay_where_they_are():
    changes = compare_columns(columns("a", "b"), columns("a", "x", "b"), keep_order=False)
    assert (names(changes.drop), names(changes.add)) == ([], ["x"])


def test_swapped_columns_are_reordered():
    changes = compare_columns(columns("a", "b"), columns("b", "a"))
    assert (names(changes.drop), names(changes.add)) == (["a"], ["a"])


def test_a_type_change_alters_in_place():
    changes = compare_columns(columns("a", "b"), columns("a", "b", b="text"))
    assert (names(changes.drop), names(changes.alter), names(changes.add)) == ([], ["b"], [])
    assert changes.alter[0].type == "text"
