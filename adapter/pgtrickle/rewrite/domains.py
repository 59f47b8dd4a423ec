"""Domains that refuse NULL, in queries that make NULL of a column.

PostgreSQL lets a NULL of such a domain come out of an outer join, but not go through a conversion to the domain, and
changes are kept in the type under it.
"""

from __future__ import annotations

from pgtrickle.errors import UnsupportedQuery
from pgtrickle.ir.operators import Expand, GroupingSets, Operator, OuterJoin, OuterKind, Pad, Project, Single
from pgtrickle.ir.schema import Column
from pgtrickle.rewrite.record import nodes_of


def refuse_not_null(root: Operator) -> None:
    """Refuse a typed tree in which a column of such a domain can become NULL and is shown as it is.

    Raises:
        UnsupportedQuery: naming the domain.
    """
    nodes = tuple(nodes_of(root))
    made = [column for node in nodes for column in _nulled(node) if column.type.not_null]
    if not made:
        return
    shown = {column.name for column in root.columns}
    shown |= {expr.column for node in nodes if isinstance(node, Project) for expr in node.exprs if expr.column}
    refused = next((column.type.name for column in made if column.name in shown), None)
    if refused is not None:
        raise UnsupportedQuery(
            f"the query can make NULL of a column of the domain {refused}, which refuses NULL",
            clause="domain",
            hint="Cast the column to the type under the domain.",
        )


def _nulled(op: Operator) -> tuple[Column, ...]:
    """The columns that an operator shows as NULL for want of a row."""
    match op:
        case OuterJoin():
            return op.right.columns if op.kind is OuterKind.LEFT else op.left.columns + op.right.columns
        case Pad():
            return op.other.columns
        case Single():
            return op.rows.columns
        case GroupingSets():
            return op.columns[: len(op.keys)]
        case Expand(outer=True):
            return op.added
        case _:
            return ()
