"""Rows that are equal in all columns: told apart by a number where two orders have to agree which one is which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count

from pglast import ast, enums

from pgtrickle.parse.tree import transform, walk

#: Of tables by schema and name: sets of columns that no two rows share.
Keys = Mapping[tuple[str, str], tuple[frozenset[str], ...]]

#: The frame that a window without one has.
_FRAME_DEFAULT = 0x00422
_CLAUSES = ("targetList", "sortClause", "windowClause", "distinctClause")
_numbers = count(1)


def may_repeat(stmt: ast.SelectStmt, keys: Keys) -> bool:
    """Whether two rows of a SELECT can be equal in all columns that it uses; never those of a grouping."""
    if stmt.groupClause or stmt.havingClause or not stmt.fromClause:
        return False
    refs = tuple(own_refs(stmt))
    tables = tuple(_tables(stmt.fromClause))
    return not all(table is not None and _is_known(table, refs, keys) for table in tables)


def _is_known(table: ast.RangeVar, refs: tuple[ast.ColumnRef, ...], keys: Keys) -> bool:
    """Whether the columns that are used include a key of this table."""
    alias = table.alias.aliasname if table.alias else table.relname
    if table.alias is not None and table.alias.colnames:
        return False
    shown = {ref.fields[-1].sval for ref in refs if len(ref.fields) == 1 or ref.fields[-2].sval == alias}
    return any(key <= shown for key in keys.get((table.schemaname or "", table.relname), ()))


def _tables(items: tuple[ast.Node, ...]) -> Iterator[ast.RangeVar | None]:
    """The tables that are joined; None for anything of which no key is known."""
    for item in items:
        if isinstance(item, ast.JoinExpr) and item.jointype != enums.JoinType.JOIN_FULL and not item.alias:
            yield from _tables((item.larg, item.rarg))
        else:
            yield item if isinstance(item, ast.RangeVar) else None


def number_copies(stmt: ast.SelectStmt, images: Callable[[ast.Node], tuple[ast.Node, ...]]) -> ast.ColumnRef | None:
    """Read the rows of a SELECT through a subquery that numbers equal ones, in place.

    Args:
        stmt: a query without grouping.
        images: the expressions by which values of a column are told apart.

    Returns:
        A reference to the number; None if the query cannot be read so (it uses whole rows).
    """
    refs = {repr(ref.fields): ref for ref in own_refs(stmt)}
    if not refs or any(isinstance(ref.fields[-1], ast.A_Star) for ref in refs.values()):
        return None
    alias = f"pgt_rows_{next(_numbers)}"
    names = {key: f"c{number}" for number, key in enumerate(refs, 1)}

    def column(name: str) -> ast.ColumnRef:
        return ast.ColumnRef(fields=(ast.String(sval=alias), ast.String(sval=name)))

    def replace(node: ast.Node) -> ast.Node | None:
        return (
            column(names[repr(node.fields)]) if isinstance(node, ast.ColumnRef) and repr(node.fields) in names else None
        )

    over = ast.WindowDef(
        partitionClause=tuple(image for ref in refs.values() for image in images(ref)), frameOptions=_FRAME_DEFAULT
    )
    number = ast.FuncCall(funcname=(ast.String(sval="pg_catalog"), ast.String(sval="row_number")), over=over)
    inner = ast.SelectStmt(
        targetList=(
            *(ast.ResTarget(name=names[key], val=ref) for key, ref in refs.items()),
            ast.ResTarget(name="copy", val=number),
        ),
        fromClause=stmt.fromClause,
        whereClause=stmt.whereClause,
        op=enums.SetOperation.SETOP_NONE,
        limitOption=enums.LimitOption.LIMIT_OPTION_DEFAULT,
    )
    for target in stmt.targetList or ():
        if target.name is None and isinstance(target.val, ast.ColumnRef):
            target.name = target.val.fields[-1].sval
    for clause in _CLAUSES:
        setattr(stmt, clause, transform(getattr(stmt, clause), replace))
    stmt.fromClause = (ast.RangeSubselect(lateral=False, subquery=inner, alias=ast.Alias(aliasname=alias)),)
    stmt.whereClause = None
    return column("copy")


def own_refs(stmt: ast.SelectStmt) -> Iterator[ast.ColumnRef]:
    """The references to columns of a SELECT's own FROM, those in its subqueries included."""
    aliases = set(_aliases(stmt.fromClause))
    for clause in _CLAUSES:
        for node in walk(getattr(stmt, clause), into_subqueries=True):
            if isinstance(node, ast.ColumnRef) and (len(node.fields) == 1 or node.fields[-2].sval in aliases):
                yield node


def _aliases(items: object) -> Iterator[str]:
    for node in walk(items):
        alias = getattr(node, "alias", None)
        if isinstance(alias, ast.Alias):
            yield alias.aliasname
        elif isinstance(node, ast.RangeVar):
            yield node.relname
        using = getattr(node, "join_using_alias", None)
        if isinstance(using, ast.Alias):
            yield using.aliasname
