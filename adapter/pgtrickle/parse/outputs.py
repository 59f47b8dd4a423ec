"""The names of a query's output columns, from its text alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from pglast import ast, enums

from pgtrickle.parse.expression import whole_rows
from pgtrickle.parse.tree import transform, walk

#: How the server tells columns of one name apart when it prints them.
_NUMBERED = re.compile(r"(.+)_\d+")


def output_names(stmt: ast.SelectStmt) -> tuple[str, ...]:
    """The names of a query's output columns."""
    if stmt.op != enums.SetOperation.SETOP_NONE:
        return output_names(stmt.larg)
    if stmt.valuesLists:
        return tuple(f"column{number + 1}" for number in range(len(stmt.valuesLists[0])))
    return tuple(target.name or implied_name(target.val) for target in stmt.targetList or ())


def implied_name(node: ast.Node) -> str:
    """The column name where the server printed no AS: that of the column itself."""
    if isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.String):
        return node.fields[-1].sval
    if isinstance(node, ast.FuncCall):
        return node.funcname[-1].sval
    return "?column?"


def name_outputs(stmt: ast.SelectStmt) -> None:
    """Write down the names that columns give to output columns, at any depth and in place.

    What stands for an outer column has another name, but a row of the query shows the column's (``to_json(q)``).
    """
    for node in walk(stmt, into_subqueries=True):
        targets = node.targetList or () if isinstance(node, ast.SelectStmt) else ()
        for target in targets:
            if target.name is None and isinstance(target.val, ast.ColumnRef):
                last = target.val.fields[-1]
                target.name = last.sval if isinstance(last, ast.String) else None


def share_names(stmt: ast.SelectStmt) -> None:
    """Give columns of whole rows that the server numbered (``x, x_1``) one name again, in place."""
    rows = whole_rows(stmt)
    for node in walk(stmt, into_subqueries=True):
        if isinstance(node, ast.Alias) and node.aliasname in rows:
            names = [part.sval for part in node.colnames or ()]
            bases = ((_NUMBERED.fullmatch(name), name) for name in names)
            shared = (found[1] if found and found[1] in names else name for found, name in bases)
            node.colnames = tuple(ast.String(sval=name) for name in shared) or None


def show_rows_of_using(stmt: ast.SelectStmt) -> None:
    """Write the rows of ``JOIN ... USING (...) AS x`` as ``x.*``, in place: the server prints ROW of the columns."""
    for query in walk(stmt, into_subqueries=True):
        if isinstance(query, ast.SelectStmt):
            joins = [
                node for node in walk(query.fromClause) if isinstance(node, ast.JoinExpr) and node.join_using_alias
            ]
            shown = {tuple(part.sval for part in join.usingClause): join.join_using_alias.aliasname for join in joins}
            for clause in ("targetList", "whereClause", "groupClause", "havingClause", "sortClause", "windowClause"):
                setattr(query, clause, transform(getattr(query, clause), partial(_row_of_using, shown)))


def _row_of_using(shown: Mapping[tuple[str, ...], str], node: ast.Node) -> ast.Node | None:
    is_column = isinstance(node, ast.ResTarget) and isinstance(node.val, ast.RowExpr)
    if is_column or isinstance(node, ast.SelectStmt):
        return node  # there, a star would be the columns
    if not isinstance(node, ast.RowExpr) or not all(isinstance(arg, ast.ColumnRef) for arg in node.args or ()):
        return None
    lasts = tuple(arg.fields[-1] for arg in node.args or ())
    alias = shown.get(tuple(last.sval for last in lasts if isinstance(last, ast.String)))
    return None if alias is None else ast.ColumnRef(fields=(ast.String(sval=alias), ast.A_Star()))


def name_columns_of_json(stmt: ast.SelectStmt, renamed: Mapping[str, tuple[str, ...]]) -> bool:
    """Give each ``JSON_TABLE`` with one of these aliases the names of its columns, in place; whether there are any."""
    unnamed = [
        node.alias
        for node in walk(stmt, into_subqueries=True)
        if isinstance(node, ast.JsonTable) and node.alias is not None and node.alias.aliasname in renamed
    ]
    for alias in unnamed:
        alias.colnames = tuple(ast.String(sval=name) for name in renamed[alias.aliasname])
    return bool(unnamed)


def name_tables(stmt: ast.SelectStmt) -> None:
    """Write down the names that ``XMLTABLE`` and ``JSON_TABLE`` have where they are given none, in place."""
    for node in walk(stmt, into_subqueries=True):
        name = _TABLES.get(type(node))
        if name is not None and node.alias is None:
            node.alias = ast.Alias(aliasname=name)


_TABLES = {ast.RangeTableFunc: "xmltable", ast.JsonTable: "json_table"}
