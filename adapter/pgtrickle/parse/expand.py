"""Replace views by their queries."""

from __future__ import annotations

from collections.abc import Mapping

from pglast import ast

from pgtrickle.parse.select import parse_query
from pgtrickle.parse.tree import transform


def expand_views(stmt: ast.SelectStmt, views: Mapping[tuple[str, str], str]) -> bool:
    """Put the query of every view in the place of its name, in place, until no view is left.

    Args:
        stmt: a query as the server prints it, every relation schema-qualified.
        views: the text of each view, by schema and name.

    Returns:
        Whether there was any.
    """
    found = False

    def replace(node: ast.Node) -> ast.Node | None:
        nonlocal found
        if not isinstance(node, ast.RangeVar) or node.schemaname is None:
            return None
        text = views.get((node.schemaname, node.relname))
        if text is None:
            return None
        found = True
        inner = parse_query(text)
        transform(inner, replace)
        alias = node.alias or ast.Alias(aliasname=node.relname)
        return ast.RangeSubselect(lateral=False, subquery=inner, alias=alias)

    transform(stmt, replace)
    return found
