"""Common table expressions: those that a subquery names but does not define, and those that nothing names."""

from __future__ import annotations

from collections import Counter
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


def drop_unused(stmt: ast.SelectStmt) -> bool:
    """Leave out, in place, the common table expressions that nothing refers to: PostgreSQL does not evaluate them.

    Returns:
        Whether there were any.
    """
    selects = [node for node in walk(stmt, into_subqueries=True) if isinstance(node, ast.SelectStmt)]
    read = _references(stmt)
    for select in selects:
        ctes = select.withClause.ctes if select.withClause else ()
        for cte in ctes:
            inside = _references(cte.ctequery)
            if isinstance(cte.ctequery, ast.SelectStmt) and read[cte.ctename] == inside[cte.ctename]:
                kept = tuple(other for other in ctes if other is not cte)
                select.withClause.ctes = kept
                select.withClause = select.withClause if kept else None
                drop_unused(stmt)  # what only this one read
                return True
    return False


def _references(query: ast.Node) -> Counter[str]:
    """How often each name stands in FROM without a schema, at any depth."""
    nodes = walk(query, into_subqueries=True)
    return Counter(node.relname for node in nodes if isinstance(node, ast.RangeVar) and node.schemaname is None)


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
