"""Columns that ``JOIN ... USING`` has merged, where a nested query reads them.

The server prints a merged column that is computed (of a FULL JOIN, or of columns of two types) without a qualifier, and
everything else in a nested query with one. Of such names it makes sure that no other column of the query has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

from pglast import ast, enums

from pgtrickle.parse.tree import transform, walk


def qualify_merged(stmt: ast.SelectStmt) -> None:
    """Qualify the merged columns that nested queries read of those around them, in place.

    The qualifier is the alias of the join that merged them (``USING (...) AS x``), which is given one if it has none.
    """
    taken = {node.aliasname for node in walk(stmt, into_subqueries=True) if isinstance(node, ast.Alias)}
    _qualify(stmt, {}, (name for name in map("merged_{}".format, count()) if name not in taken))


def _qualify(stmt: ast.SelectStmt, outer: Mapping[str, ast.JoinExpr], fresh: Iterator[str]) -> None:
    own = {part.sval: join for item in stmt.fromClause or () for join in _joins(item) for part in join.usingClause}
    seen = {**outer, **own}

    def replace(node: ast.Node) -> ast.Node | None:
        if isinstance(node, ast.SelectStmt) and node is not stmt:
            _qualify(node, seen, fresh)
            return node
        if not isinstance(node, ast.ColumnRef) or len(node.fields) > 1 or not isinstance(node.fields[0], ast.String):
            return None
        join = outer.get(node.fields[0].sval) if node.fields[0].sval not in own else None
        if join is None:
            return None
        if join.join_using_alias is None:
            join.join_using_alias = ast.Alias(aliasname=next(fresh))
        return ast.ColumnRef(fields=(ast.String(sval=join.join_using_alias.aliasname), *node.fields))

    # The order of a set operation, or of VALUES, names output columns.
    order = stmt.sortClause
    plain = stmt.op == enums.SetOperation.SETOP_NONE and not stmt.valuesLists
    stmt.sortClause = order if plain else None
    transform(stmt, replace)
    stmt.sortClause = stmt.sortClause if plain else order


def _joins(item: ast.Node) -> Iterator[ast.JoinExpr]:
    """The joins whose merged columns an item of FROM shows, each after those of which it hides some."""
    if isinstance(item, ast.JoinExpr) and item.alias is None:
        yield from _joins(item.larg)
        yield from _joins(item.rarg)
        if item.usingClause:
            yield item
