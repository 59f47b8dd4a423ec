"""Aggregates, and GROUPING, that stand in a subquery and belong to the query around it: they read only its columns."""

from __future__ import annotations

from pglast import ast

from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.tree import transform, walk

#: The name by which a subquery refers to them.
OUTER_AGGREGATES = "pgt_outer"


def free_refs(call: ast.Node) -> tuple[ast.ColumnRef, ...]:
    """The column references of an aggregate that decide which query it belongs to: not those to its own subqueries."""
    inside = names_in(call)
    refs = (node for node in walk(call, into_subqueries=True) if isinstance(node, ast.ColumnRef))
    return tuple(ref for ref in refs if len(ref.fields) == 1 or ref.fields[-2].sval not in inside)


def names_in(node: object) -> frozenset[str]:
    """The names of all FROM items at any depth below a node."""
    found = set[str]()
    for inner in walk(node, into_subqueries=True):
        alias = getattr(inner, "alias", None)
        if isinstance(alias, ast.Alias):
            found.add(alias.aliasname)
        elif isinstance(inner, ast.RangeVar):
            found.add(inner.relname)
    return frozenset(found)


def take_outer_aggregates(stmt: ast.SelectStmt, own: frozenset[str], expressions: Expressions) -> dict[str, ast.Node]:
    """Replace the aggregates of a query inside its subqueries by references ``pgt_outer.name``, in place.

    Args:
        stmt: the query.
        own: the names of its FROM items; the server tells them apart from those of all subqueries.
        expressions: tells aggregates.

    Returns:
        The aggregates by name.
    """
    found: dict[str, ast.Node] = {}

    def replace(node: ast.Node) -> ast.Node | None:
        if not (expressions.is_aggregate(node) or isinstance(node, ast.GroupingFunc)):
            return None
        refs = free_refs(node)
        if not refs or not all(len(ref.fields) > 1 and ref.fields[-2].sval in own for ref in refs):
            return None
        name = expressions.names.fresh("aggregate")
        found[name] = node
        return ast.ColumnRef(fields=(ast.String(sval=OUTER_AGGREGATES), ast.String(sval=name)))

    for node in tuple(walk((stmt.targetList, stmt.havingClause, stmt.sortClause))):
        if isinstance(node, ast.SubLink):
            transform(node.subselect, replace)
    return found
