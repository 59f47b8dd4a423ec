"""The order in which a query reads its rows because the only item of its FROM is an ordered query.

SQL promises nothing there, but PostgreSQL keeps it, and ``SELECT json_agg(q) FROM (SELECT ... ORDER BY x) AS q`` or
``SELECT * FROM (SELECT ... ORDER BY x) AS q LIMIT 5`` are written because it does. Where the order is free, it is that.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy

from pglast import ast, enums

from pgtrickle.parse.outputs import output_names
from pgtrickle.parse.tree import walk


def inherited_order(stmt: ast.SelectStmt) -> tuple[ast.SortBy, ...]:
    """The order of the only item of FROM as sort items of the query; what it is ordered by is shown by it, in place."""
    item = stmt.fromClause[0] if len(stmt.fromClause or ()) == 1 else None
    query = _query_of(stmt, item)
    if query is None or not query.sortClause:
        return ()
    alias = item.alias.aliasname if item.alias else getattr(item, "relname", None)
    if alias is None:
        return ()
    renames = _renames(stmt, item)
    names = [*renames, *output_names(query)[len(renames) :]]
    extensible = isinstance(item, ast.RangeSubselect) and _may_show_more(query) and not _is_read_whole(stmt, alias)
    items: list[ast.SortBy] = []
    for sort in query.sortClause:
        position = _position(query, sort.node)
        if position is None:
            if not extensible:
                break
            position = _show(query, item, sort.node)
            names.append(query.targetList[position].name)
        mine = copy(sort)
        mine.node = ast.ColumnRef(fields=(ast.String(sval=alias), ast.String(sval=names[position])))
        items.append(mine)
    return tuple(items)


def takes_rows_as_they_come(stmt: ast.SelectStmt, is_aggregate: Callable[[ast.Node], bool]) -> bool:
    """Whether a query shows the rows of its FROM one by one, without an order of its own that a window may need."""
    if stmt.op != enums.SetOperation.SETOP_NONE or stmt.valuesLists:
        return False
    if stmt.distinctClause or stmt.groupClause or stmt.havingClause:
        return False
    shown = tuple(walk(stmt.targetList))
    return not any(is_aggregate(node) or (isinstance(node, ast.FuncCall) and node.over is not None) for node in shown)


def _query_of(stmt: ast.SelectStmt, item: ast.Node | None) -> ast.SelectStmt | None:
    if isinstance(item, ast.RangeSubselect):
        return item.subquery
    if isinstance(item, ast.RangeVar) and item.schemaname is None and stmt.withClause is not None:
        found = (cte for cte in stmt.withClause.ctes if cte.ctename == item.relname)
        return next((cte.ctequery for cte in found if isinstance(cte.ctequery, ast.SelectStmt)), None)
    return None


def _renames(stmt: ast.SelectStmt, item: ast.Node) -> list[str]:
    if item.alias is not None and item.alias.colnames:
        return [part.sval for part in item.alias.colnames]
    if isinstance(item, ast.RangeVar):
        cte = next(cte for cte in stmt.withClause.ctes if cte.ctename == item.relname)
        return [part.sval for part in cte.aliascolnames or ()]
    return []


def _position(query: ast.SelectStmt, node: ast.Node) -> int | None:
    """Which output column a query is sorted by."""
    if isinstance(node, ast.A_Const):
        return node.val.ival - 1 if isinstance(node.val, ast.Integer) else None
    if query.op != enums.SetOperation.SETOP_NONE or query.valuesLists:
        names = output_names(query)
        name = node.fields[-1].sval if isinstance(node, ast.ColumnRef) and len(node.fields) == 1 else None
        return names.index(name) if name in names else None
    wanted = repr(node)
    found = (number for number, target in enumerate(query.targetList or ()) if repr(target.val) == wanted)
    return next(found, None)


def _may_show_more(query: ast.SelectStmt) -> bool:
    if query.op != enums.SetOperation.SETOP_NONE or query.valuesLists:
        return False
    return all(node is not None for node in query.distinctClause or ())


def _is_read_whole(stmt: ast.SelectStmt, alias: str) -> bool:
    return any(
        isinstance(node, ast.ColumnRef)
        and isinstance(node.fields[-1], ast.A_Star)
        and (len(node.fields) == 1 or node.fields[-2].sval == alias)
        for node in walk(stmt, into_subqueries=True)
    )


def _show(query: ast.SelectStmt, item: ast.RangeSubselect, node: ast.Node) -> int:
    """A further output column for what a query is sorted by; its position."""
    position = len(query.targetList)
    name = f"pgt_order_{position}"
    query.targetList = (*query.targetList, ast.ResTarget(name=name, val=deepcopy(node)))
    if item.alias is not None and item.alias.colnames:
        item.alias.colnames = (*item.alias.colnames, ast.String(sval=name))
    return position
