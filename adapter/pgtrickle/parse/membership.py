"""EXISTS and IN as a condition of WHERE: semi and anti joins."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pglast import ast, enums

from pgtrickle.ir.expr import Expr, col, equals, text
from pgtrickle.ir.operators import Anti, Operator, Project
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.scope import Scope
from pgtrickle.parse.tree import returns_sets, walk


@dataclass(frozen=True, slots=True)
class Membership:
    """A condition of WHERE that only asks whether matching rows exist."""

    subselect: ast.SelectStmt
    test: ast.Node | None
    negated: bool


def membership_of(node: ast.Node) -> Membership | None:
    """EXISTS (...), x IN (...) and their negations; None for anything else."""
    negated = False
    if isinstance(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.NOT_EXPR:
        negated, node = True, node.args[0]
    if not isinstance(node, ast.SubLink):
        return None
    if node.subLinkType == enums.SubLinkType.EXISTS_SUBLINK:
        return Membership(node.subselect, None, negated)
    if node.subLinkType != enums.SubLinkType.ANY_SUBLINK or isinstance(node.testexpr, ast.RowExpr):
        return None
    if tuple(part.sval for part in node.operName or ()) not in ((), ("=",)):
        return None
    if any(isinstance(inner, ast.SubLink) for inner in walk(node.testexpr)):
        return None
    return Membership(node.subselect, node.testexpr, negated)


def is_plain(subselect: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether a query is a join of tables with conditions and nothing else."""
    clauses = (
        subselect.withClause,
        subselect.groupClause,
        subselect.havingClause,
        subselect.limitCount,
        subselect.limitOffset,
        subselect.valuesLists,
        subselect.lockingClause,
    )
    if any(clauses) or subselect.op != enums.SetOperation.SETOP_NONE or not subselect.fromClause:
        return False
    if any(
        isinstance(node, ast.RangeSubselect | ast.RangeFunction | ast.JsonTable) for node in walk(subselect.fromClause)
    ):
        return False
    targets = tuple(walk((subselect.targetList, subselect.whereClause)))
    if expressions.has_aggregate(subselect.targetList):
        return False
    if returns_sets((subselect.targetList, subselect.sortClause), expressions.returns_set):
        return False
    return not any(isinstance(node, ast.SubLink | ast.FuncCall) and _is_special(node) for node in targets)


def _is_special(node: ast.Node) -> bool:
    """Aggregates and windows change the number of rows; nested subqueries are left to `Apply`."""
    return isinstance(node, ast.SubLink) or bool(
        isinstance(node, ast.FuncCall) and (node.over or node.agg_star or node.agg_filter or node.agg_within_group)
    )


def join_membership(
    found: Membership,
    outer: Operator,
    outer_scope: Scope,
    inner: Operator,
    inner_scope: Scope,
    expressions: Expressions,
) -> Anti:
    """The semi join (or anti join) that a membership means.

    NOT IN is true only if no row is equal *or unknown*, so its equality is taken as "not false".
    """
    scope = inner_scope.joined(outer_scope)
    conditions = list(expressions.conjuncts(found.subselect.whereClause, scope))
    if found.test is not None:
        mine = expressions.convert(found.test, outer_scope)
        theirs = expressions.convert(found.subselect.targetList[0].val, scope)
        conditions.append(_member(mine, theirs, found.negated and _may_be_null(((mine, outer), (theirs, inner)))))
    word = "EXISTS" if found.test is None else "IN"
    if found.negated:
        expressions.note("anti join", f"NOT {word} becomes an anti join")
    else:
        expressions.note("semi join", f"{word} becomes a semi join")
    return Anti(outer, inner, tuple(conditions), semi=not found.negated)


def member_of(
    found: Membership, outer: Operator, outer_scope: Scope, inner: Operator, expressions: Expressions
) -> Anti:
    """The semi join (or anti join) with the rows of any query that stands alone."""
    assert found.test is not None
    mine = expressions.convert(found.test, outer_scope)
    fresh = tuple(replace(c, name=expressions.names.fresh(c.name)) for c in inner.columns)
    inner = Project(inner, fresh, tuple(col(c.name) for c in inner.columns))
    theirs = col(fresh[0].name)
    condition = _member(mine, theirs, found.negated and _may_be_null(((mine, outer), (theirs, inner))))
    return Anti(outer, inner, (condition,), semi=not found.negated)


def _member(mine: Expr, theirs: Expr, unknown_counts: bool) -> Expr:
    equality = equals(mine, theirs)
    return text("(", equality, ") IS NOT FALSE") if unknown_counts else equality


def _may_be_null(sides: tuple[tuple[Expr, Operator], ...]) -> bool:
    """Whether a side of an equality can be NULL; only columns are known not to be."""
    return any(all(column.name != expr.column or column.nullable for column in rows.columns) for expr, rows in sides)
