"""The constructs that have no delta rule: one table of what is refused and why."""

from __future__ import annotations

from pglast import ast

from pgtrickle.errors import UnsupportedQuery
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.tree import walk

_HINT = "Use refresh_mode AUTO or FULL: the query is then computed again and only the differences are written."

#: Node type -> (construct, reason), wherever it stands in a scalar expression.
REFUSED_NODES: dict[type[ast.Node], tuple[str, str]] = {
    ast.SubLink: ("subquery in an expression", "a subquery at this place has no delta rule yet"),
    ast.ParamRef: ("parameter", "a stored query cannot have parameters"),
    ast.SetToDefault: ("DEFAULT", "DEFAULT has no meaning in a query"),
    ast.CurrentOfExpr: ("CURRENT OF", "CURRENT OF has no meaning in a query"),
}


def unsupported(construct: str, reason: str, *, detail: str | None = None) -> UnsupportedQuery:
    """The error for a construct without a delta rule."""
    return UnsupportedQuery(f"{construct}: {reason}", clause=construct, detail=detail, hint=_HINT)


def refuse_in_expression(node: object) -> None:
    """Refuse what no scalar expression may contain.

    Raises:
        UnsupportedQuery: naming the construct and the text around it.
    """
    for inner in walk(node):
        refused = REFUSED_NODES.get(type(inner))
        if refused:
            raise unsupported(*refused, detail=print_node(inner))


def refuse_in_select(stmt: ast.SelectStmt) -> None:
    """Refuse the clauses of a SELECT that have no delta rule."""
    if stmt.lockingClause:
        raise unsupported("FOR UPDATE/SHARE", "a stream table cannot lock rows of its sources")
    if stmt.intoClause:
        raise unsupported("SELECT INTO", "a defining query must not create tables")
