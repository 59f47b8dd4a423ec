"""LIMIT and OFFSET that leave nothing to chance although nothing orders the rows, and those that do nothing at all."""

from __future__ import annotations

from pglast import ast, enums

from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.guards import at_most_one
from pgtrickle.parse.tree import returns_sets, walk


def has_limit(stmt: ast.SelectStmt) -> bool:
    """Whether LIMIT, OFFSET or FETCH can drop rows (LIMIT ALL and LIMIT NULL cannot)."""
    count = stmt.limitCount
    no_count = count is None or (isinstance(count, ast.A_Const) and bool(count.isnull))
    return not (no_count and stmt.limitOffset is None)


def drop_void_limits(stmt: ast.SelectStmt) -> bool:
    """Drop LIMIT NULL, OFFSET NULL and OFFSET 0, at any depth and in place.

    Returns:
        Whether there was any.
    """
    changed = False
    for node in tuple(walk(stmt, into_subqueries=True)):
        if not isinstance(node, ast.SelectStmt):
            continue
        if node.limitCount is not None and _is_null(node.limitCount):
            node.limitCount, changed = None, True
        if node.limitOffset is not None and (_is_null(node.limitOffset) or constant_of(node.limitOffset) == 0):
            node.limitOffset, changed = None, True
    return changed


def drop_idle_limits(stmt: ast.SelectStmt, expressions: Expressions) -> None:
    """Drop every LIMIT that cannot drop a row that matters, in place: of at most one row, and in EXISTS."""
    for node in tuple(walk(stmt, into_subqueries=True)):
        if isinstance(node, ast.SubLink) and node.subLinkType == enums.SubLinkType.EXISTS_SUBLINK:
            query = node.subselect
            if _keeps_one(query):
                query.limitCount = None
                if not returns_sets(query.sortClause, expressions.returns_set):
                    query.sortClause = None
        elif isinstance(node, ast.SelectStmt) and _keeps_one(node) and at_most_one(node, expressions):
            node.limitCount = None


def _keeps_one(query: ast.SelectStmt) -> bool:
    """Whether there is a LIMIT that keeps at least the first row."""
    if query.limitOffset is not None or any(node is not None for node in query.distinctClause or ()):
        return False
    return query.limitCount is not None and (constant_of(query.limitCount) or 0) > 0


def keeps_none(query: ast.SelectStmt) -> bool:
    """Whether this is LIMIT 0."""
    return query.limitCount is not None and constant_of(query.limitCount) == 0


def left_to_chance(query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether nothing says which rows LIMIT or OFFSET keep: no order, several rows, and not all of them alike."""
    if not has_limit(query) or query.sortClause or keeps_none(query):
        return False
    return not (at_most_one(query, expressions) or _are_alike(query, expressions))


def _are_alike(query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether all rows of a query are the same constants."""
    if query.op != enums.SetOperation.SETOP_NONE or query.valuesLists or query.distinctClause:
        return False
    kinds = (ast.ColumnRef, ast.FuncCall, ast.SubLink)
    return not any(isinstance(node, kinds) or expressions.is_aggregate(node) for node in walk(query.targetList))


def constant_of(node: ast.Node) -> int | None:
    """The integer that an argument of LIMIT is, None if it is NULL or anything else."""
    inner = node.arg if isinstance(node, ast.TypeCast) else node
    if not isinstance(inner, ast.A_Const) or inner.isnull:
        return None
    if isinstance(inner.val, ast.Integer):
        return inner.val.ival
    value = inner.val.sval if isinstance(inner.val, ast.String) else ""
    return int(value) if value.isdecimal() and value.isascii() else None


def _is_null(node: ast.Node) -> bool:
    inner = node.arg if isinstance(node, ast.TypeCast) else node
    return isinstance(inner, ast.A_Const) and bool(inner.isnull)
