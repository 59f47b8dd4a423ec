"""What a recursion has to look like for its changes to be followed, and where its rows are looked up."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.errors import UnsupportedQuery
from pgtrickle.ir.expr import col
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Join,
    Operator,
    OuterJoin,
    Project,
    Recursion,
    SelfReference,
    UnionAll,
    Window,
    rebuild,
)
from pgtrickle.ir.recursion import path_of, reads_itself
from pgtrickle.ir.schema import Equality

_NOT_LINEAR = {
    Aggregate: "DISTINCT, GROUP BY or a set operation over the recursion",
    Window: "a window function or LIMIT over the recursion",
    UnionAll: "a union of which only one branch reads the recursion",
}


def obstacle(op: Recursion) -> str | None:
    """Why a recursion (with types) has to be computed as a whole; None if its changes can be followed."""
    node = op.step
    while not isinstance(node, SelfReference):
        below = path_of(node, op.name)
        if below is None:
            return _NOT_LINEAR.get(type(node), f"{type(node).__name__} over the recursion")
        node = below
    loose = [column for column in op.columns if column.type.equality is not Equality.EXACT]
    if op.distinct and loose:
        return f"UNION of columns of type {loose[0].type.name}, of which equal values may look different"
    return None


def refuse_loose_texts(op: Recursion) -> None:
    """Refuse to compare columns by their text of which equal values look different.

    Raises:
        UnsupportedQuery: naming the column's type.
    """
    for column in op.columns:
        if column.name in op.texts and column.type.equality is not Equality.EXACT:
            raise UnsupportedQuery(
                f"SEARCH or CYCLE by a column of type {column.type.name}, of which equal values may look different",
                clause="CYCLE",
                hint="Cast the column to a type of fixed form.",
            )


def without_distinct(op: Recursion) -> Recursion:
    """UNION drops duplicates itself: a DISTINCT in its step changes nothing, as long as the step is linear without."""
    return replace(op, step=_plain(op.step, op.name)) if op.distinct else op


def _plain(op: Operator, name: str) -> Operator:
    if isinstance(op, Aggregate) and not op.calls and not op.scalar and reads_itself(op.child, name):
        if any(column.type.equality is not Equality.EXACT for column in op.columns):
            return op
        below = _plain(op.child, name)
        return Project(below, op.columns, tuple(col(column.name) for column in op.columns))
    below = path_of(op, name)
    return op if below is None else rebuild(op, lambda child: _plain(child, name) if child is below else child)


def probed_columns(op: Recursion) -> tuple[int, ...]:
    """The positions of the columns by which the step joins the recursion's rows to others."""
    names, found = _origins(op.step, op.name)
    del names
    positions = {column: position for position, column in enumerate(_reference(op.step, op.name))}
    return tuple(sorted(positions[name] for name in found))


def _reference(op: Operator, name: str) -> tuple[str, ...]:
    if isinstance(op, SelfReference) and op.name == name:
        return tuple(column.name for column in op.columns)
    below = path_of(op, name)
    return () if below is None else _reference(below, name)


def _origins(op: Operator, name: str) -> tuple[dict[str, str], frozenset[str]]:
    """Column of an operator -> column of the recursion that it shows; and the latter's columns that are joined by."""
    if isinstance(op, SelfReference):
        return {column.name: column.name for column in op.columns}, frozenset()
    below = path_of(op, name)
    if below is None:
        return {}, frozenset()
    names, found = _origins(below, name)
    if isinstance(op, Project):
        shown = zip(op.columns, op.exprs, strict=True)
        return {c.name: names[e.column] for c, e in shown if e.column in names}, found
    if isinstance(op, Join | OuterJoin | Anti):
        sides = [side.column for condition in op.conditions for side in condition.sides or ()]
        found |= {names[side] for side in sides if side in names}
    return names, found
