"""Nested unions become one where that is the same, and stay where types or other readers stand against it."""

from __future__ import annotations

from pgtrickle.ir import operators as ir
from pgtrickle.ir.schema import INT4, INT8, Column, Type
from pgtrickle.rewrite.unions import unions


def points(number: int, type_: Type = INT8) -> ir.Scan:
    return ir.Scan(ir.InputKey("table", number), ((1, "x"),), (Column(f"x{number}", type_),))


def union(name: str, *branches: ir.Operator, type_: Type = INT8) -> ir.Aggregate:
    every = ir.UnionAll(branches, (Column(name, type_),))
    return ir.Aggregate(every, (name,), ())


A, B, C = points(1), points(2), points(3)


def test_a_union_of_unions_is_one_grouping_of_all_branches() -> None:
    found = unions(union("u", union("v", A, B), C))
    assert found == union("u", A, B, C)


def test_duplicates_of_one_branch_need_not_be_removed_first() -> None:
    assert unions(union("u", ir.Aggregate(A, ("x1",), ()), B)) == union("u", A, B)


def test_union_all_keeps_the_duplicates_that_a_union_below_it_removes() -> None:
    inner = union("v", A, B)
    outer = ir.UnionAll((inner, C), (Column("u", INT8),))
    assert unions(outer) == outer


def test_branches_of_other_types_are_converted_where_they_were() -> None:
    nested = union("u", union("v", points(1, INT4), points(2, INT4), type_=INT4), C)
    assert unions(nested) == nested


def test_what_is_read_twice_is_kept_once() -> None:
    shared = union("v", A, B)
    found = unions(union("u", shared, shared, C))
    assert isinstance(found, ir.Aggregate)
    first, second, _ = ir.children_of(found.child)
    assert first is second
    assert first == shared
