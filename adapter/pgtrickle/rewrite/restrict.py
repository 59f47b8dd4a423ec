"""Push a restriction to certain keys towards the scans."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.ir.expr import col
from pgtrickle.ir.operators import Filter, Operator, Project, Restrict, UnionAll


def restrict(op: Operator, keys: Operator, key: tuple[str, ...]) -> Operator:
    """The rows of ``op`` whose ``key`` is among ``keys``.

    Joins are left to the planner, which turns the restriction into index look-ups by itself; a union is not: it has
    to be restricted branch by branch.
    """
    match op:
        case Project() if len({_column(op, name) for name in key} - {None}) == len(key):
            inner = tuple(_column(op, name) or "" for name in key)
            return replace(op, child=restrict(op.child, _renamed(keys, inner), inner))
        case Filter():
            return replace(op, child=restrict(op.child, keys, key))
        case UnionAll():
            return UnionAll(tuple(_branch(op, child, keys, key) for child in op.children), op.columns)
        case _:
            return Restrict(op, keys, key)


def _branch(union: UnionAll, child: Operator, keys: Operator, key: tuple[str, ...]) -> Operator:
    positions = {column.name: i for i, column in enumerate(union.columns)}
    inner = tuple(child.columns[positions[name]].name for name in key)
    return restrict(child, _renamed(keys, inner), inner)


def _renamed(keys: Operator, names: tuple[str, ...]) -> Operator:
    columns = tuple(replace(column, name=name) for column, name in zip(keys.columns, names, strict=True))
    return Project(keys, columns, tuple(col(column.name) for column in keys.columns))


def _column(op: Project, name: str) -> str | None:
    for column, expr in zip(op.columns, op.exprs, strict=True):
        if column.name == name:
            return expr.column
    return None
