"""Common table expressions that a subquery names but does not define."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pglast import ast, enums

from pgtrickle.ir.operators import InputKey
from pgtrickle.parse.tree import walk


def unqualified_relations(query: ast.Node) -> frozenset[str]:
    """The names in FROM, at any depth, that are not tables: common table expressions."""
    return frozenset(
        node.relname
        for node in walk(query, into_subqueries=True)
        if isinstance(node, ast.RangeVar) and node.schemaname is None
    )


def with_ctes(
    subselect: ast.SelectStmt, ctes: Mapping[str, str], inputs_of: Callable[[object], frozenset[InputKey]]
) -> frozenset[InputKey]:
    """Give a subquery the definitions of the common table expressions that it names; the tables these read."""
    from pgtrickle.parse.select import parse_query

    own = {cte.ctename for cte in (subselect.withClause.ctes if subselect.withClause else ())}
    named = unqualified_relations(subselect)
    if not (named - own) & ctes.keys() and not _shadows(subselect, own & ctes.keys()):
        return frozenset()
    if own & ctes.keys():
        _wrap(subselect)
    definition = ", ".join(ctes.values())
    clause = parse_query(f"WITH {definition} SELECT 1").withClause
    inputs = inputs_of(clause.ctes)
    if subselect.withClause is not None:
        clause.ctes = (*clause.ctes, *subselect.withClause.ctes)
        clause.recursive = bool(subselect.withClause.recursive)
    subselect.withClause = clause
    return inputs


def _shadows(subselect: ast.SelectStmt, names: frozenset[str] | set[str]) -> bool:
    """Whether a WITH that hides names of the one around it may read what it hides."""
    inner = subselect.withClause.ctes if names else ()
    return any(unqualified_relations(cte.ctequery) & names for cte in inner)


def _wrap(subselect: ast.SelectStmt) -> None:
    """Make the query a subquery of itself, so that its WITH hides one around it, in place."""
    inner = ast.SelectStmt(**{attribute: getattr(subselect, attribute) for attribute in subselect})
    for attribute in tuple(subselect):
        setattr(subselect, attribute, None)
    subselect.targetList = (ast.ResTarget(val=ast.ColumnRef(fields=(ast.A_Star(),))),)
    subselect.fromClause = (ast.RangeSubselect(lateral=False, subquery=inner, alias=ast.Alias(aliasname="hidden")),)
    subselect.op = enums.SetOperation.SETOP_NONE
    subselect.limitOption = enums.LimitOption.LIMIT_OPTION_DEFAULT
    subselect.all = False
