"""Grouping sets become a union of groupings."""

from __future__ import annotations

from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Aggregate, GroupingSets, Operator, Project, UnionAll, rebuild


def grouping_sets(op: Operator, done: dict[int, tuple[Operator, Operator]] | None = None) -> Operator:
    """The same rows without GroupingSets; types have to be known. Shared nodes stay shared."""
    done = {} if done is None else done
    if id(op) not in done:
        below = rebuild(op, lambda child: grouping_sets(child, done))
        done[id(op)] = (op, _union(below) if isinstance(below, GroupingSets) else below)
    return done[id(op)][1]


def _union(op: GroupingSets) -> UnionAll:
    return UnionAll(tuple(_branch(op, keys) for keys in op.sets), op.columns)


def _branch(op: GroupingSets, keys: tuple[str, ...]) -> Project:
    grouped = Aggregate(op.child, keys, op.calls, scalar=not keys)
    exprs: list[Expr] = []
    for column in op.columns[: len(op.keys)]:
        exprs.append(col(column.name) if column.name in keys else text(f"NULL::{column.type.name}"))
    exprs += [col(call.column.name) for call in op.calls]
    exprs += [text(str(_mask(marked, keys))) for _, marked in op.markers]
    return Project(grouped, op.columns, tuple(exprs))


def _mask(marked: tuple[str, ...], keys: tuple[str, ...]) -> int:
    """GROUPING(): one bit per argument, the last one lowest, set if the grouping set leaves it out."""
    mask = 0
    for name in marked:
        mask = mask * 2 + (name not in keys)
    return mask
