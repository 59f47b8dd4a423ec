"""Outer columns of subqueries of which equal values may look different: told apart by their image too."""

from __future__ import annotations

from pgtrickle.delta.aggregates.extremes import image_of
from pgtrickle.errors import UnsupportedQuery
from pgtrickle.ir.expr import col
from pgtrickle.ir.operators import Anti, Apply, Expand, Filter, Join, Operator, OuterJoin, Project, Scan, children_of
from pgtrickle.ir.schema import BYTEA, TEXT, Column, Equality


def refuse_without_equality(child: Operator, names: frozenset[str]) -> None:
    """Refuse outer columns that cannot be grouped.

    Raises:
        UnsupportedQuery: naming the column's type.
    """
    for column in child.columns:
        if column.name in names and column.type.equality is Equality.NONE:
            raise UnsupportedQuery(
                f"a subquery reads an outer column of type {column.type.name}, which has no =",
                clause="correlated subquery",
                hint="Cast the column to a type that has one, or rewrite the subquery as a join.",
            )


def with_images(child: Operator, names: frozenset[str]) -> tuple[Operator, tuple[str, ...]]:
    """The rows with the images of those columns of which equal values may look different; the names of the images.

    Values that are equal in the image as well are one to a subquery, whatever it does with them.

    Raises:
        UnsupportedQuery: which of several equal values a column shows is not told by the query.
    """
    loose = [c for c in child.columns if c.name in names and c.type.equality is not Equality.EXACT]
    if not loose:
        return child, ()
    for column in loose:
        if not _is_told(child, column.name):
            raise UnsupportedQuery(
                f"a subquery reads an outer column of type {column.type.name}, of which equal values may look"
                " different, out of a grouping",
                clause="correlated subquery",
                hint="Cast the column to a type of fixed form, or rewrite the subquery as a join.",
            )
    images = tuple(Column(f"{c.name}_image", TEXT if c.type.image_is_text else BYTEA, c.nullable) for c in loose)
    exprs = tuple(image_of(c.type, col(c.name)) for c in loose)
    shown = Project(child, (*child.columns, *images), (*(col(c.name) for c in child.columns), *exprs))
    return shown, tuple(image.name for image in images)


def _is_told(op: Operator, name: str) -> bool:
    """Whether a column is computed from columns of tables only, so that its values look the same at any time."""
    match op:
        case Scan():
            return op.input.kind != "stage"
        case Project():
            expr = next(expr for expr, column in zip(op.exprs, op.columns, strict=True) if column.name == name)
            return all(_is_told(op.child, ref) for ref in expr.refs)
        case Filter() | Join() | OuterJoin() | Anti() | Apply() | Expand():
            owners = (c for c in children_of(op) if name in {column.name for column in c.columns})
            return any(_is_told(owner, name) for owner in owners)
        case _:
            return False
