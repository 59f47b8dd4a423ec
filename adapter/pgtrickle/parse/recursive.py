"""WITH RECURSIVE: the non-recursive and the recursive term as operator trees."""

from __future__ import annotations

from collections.abc import Callable

from pglast import ast, enums

from pgtrickle.errors import UnsupportedQuery
from pgtrickle.ir.operators import Operator, Recursion, SelfReference, children_of
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.names import Names

#: A parsed query: its rows, and the names that its columns show.
Parsed = tuple[Operator, tuple[str, ...]]
#: Parses a query, or part of one, in which these names in FROM stand for these rows.
Parse = Callable[[ast.SelectStmt, dict[str, Parsed]], Parsed]


def recursion(
    cte: ast.CommonTableExpr, parse: Parse, names: Names, unknown: Type, texts: tuple[str, ...] = ()
) -> Parsed | None:
    """A recursive common table expression as a `Recursion`.

    Args:
        cte: the expression; it is changed in place.
        parse: parses its terms.
        names: for new columns.
        unknown: their type.
        texts: names of columns that the step compares by their text.

    Returns:
        None if it cannot be one: a term has no operator tree, or reads the recursion where only text can (LATERAL).
    """
    query = cte.ctequery
    if query.op != enums.SetOperation.SETOP_UNION:
        return None
    try:
        base, shown = parse(query.larg, {})
        renames = tuple(part.sval for part in cte.aliascolnames or ())
        shown = renames + shown[len(renames) :]
        name = names.fresh(cte.ctename)
        reference = SelfReference(name, tuple(Column(names.fresh(one), unknown) for one in shown))
        step, _ = parse(query.rarg, {cte.ctename: (reference, shown)})
    except UnsupportedQuery:
        return None
    if _count(step, reference) != 1 or _count(base, reference):
        return None
    columns = tuple(Column(names.fresh(one), unknown) for one in shown)
    compared = tuple(column.name for column, one in zip(columns, shown, strict=True) if one in texts)
    return Recursion(name, base, step, columns, not query.all, compared), shown


def _count(op: Operator, reference: SelfReference) -> int:
    return int(op is reference) + sum(_count(child, reference) for child in children_of(op))
