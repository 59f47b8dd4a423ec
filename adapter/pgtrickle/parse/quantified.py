"""ARRAY(...), op ALL and op ANY as scalar subqueries with aggregates, which have delta rules."""

from __future__ import annotations

from copy import copy, deepcopy

from pglast import ast, enums

from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.tree import walk

_ALIAS = "pgt_quantified"


def as_aggregate(node: ast.SubLink, expressions: Expressions, *, correlated: bool) -> ast.SubLink | None:
    """The same value as a scalar subquery that aggregates the rows; None if there is none.

    Args:
        node: a subquery; not changed.
        expressions: tells aggregates.
        correlated: whether it reads outer columns.
    """
    match node.subLinkType:
        case enums.SubLinkType.ARRAY_SUBLINK:
            return _collected(node, expressions, correlated=correlated)
        case enums.SubLinkType.ALL_SUBLINK:
            return _compared(node, expressions, every=True, correlated=correlated)
        case enums.SubLinkType.ANY_SUBLINK if isinstance(node.testexpr, ast.RowExpr) or _operator(node) != "=":
            return _compared(node, expressions, every=False, correlated=correlated)
        case _:
            return None


def _operator(node: ast.SubLink) -> str | None:
    names = tuple(part.sval for part in node.operName or ())
    return "=" if not names else names[0] if len(names) == 1 else None


def _collected(node: ast.SubLink, expressions: Expressions, *, correlated: bool) -> ast.SubLink | None:
    """ARRAY(SELECT x ... ORDER BY y) is COALESCE(array_agg(x ORDER BY y), '{}')."""
    query = copy(node.subselect)
    order = tuple(query.sortClause or ())
    if _is_shaped(query, expressions):
        shown = {repr(target.val) for target in query.targetList or ()}
        if correlated or not all(isinstance(item.node, ast.A_Const) or repr(item.node) in shown for item in order):
            return None
        (value,), query = _wrapped(query)
        order = tuple(_sorted_by(item, value) for item in order)
    else:
        value = query.targetList[0].val
        order = tuple(_sorted_by(item, value) if isinstance(item.node, ast.A_Const) else item for item in order)
    if not order:
        return None
    query.sortClause = None
    gathered = _call("array_agg", (value,), order=order)
    empty = ast.A_Const(isnull=False, val=ast.String(sval="{}"))
    return _scalar(query, ast.CoalesceExpr(args=(gathered, empty)))


def _sorted_by(item: ast.SortBy, value: ast.Node) -> ast.SortBy:
    """The sort item over an output column instead of what it names."""
    result = copy(item)
    result.node = value
    return result


def _compared(node: ast.SubLink, expressions: Expressions, *, every: bool, correlated: bool) -> ast.SubLink | None:
    """``x op ANY`` is true if a comparison is, else unknown if one is; ``x op ALL`` is its dual."""
    query = copy(node.subselect)
    if _is_shaped(query, expressions):
        if correlated:
            return None
        values, query = _wrapped(query)
    else:
        values = tuple(target.val for target in query.targetList)
    query.sortClause = None
    test = node.testexpr
    right = ast.RowExpr(args=values, row_format=enums.CoercionForm.COERCE_EXPLICIT_CALL)
    operator = node.operName or (ast.String(sval="="),)
    compared = ast.A_Expr(
        kind=enums.A_Expr_Kind.AEXPR_OP,
        name=operator,
        lexpr=test,
        rexpr=right if isinstance(test, ast.RowExpr) else values[0],
    )
    again = deepcopy(compared)
    decided = ast.BoolExpr(boolop=enums.BoolExprType.NOT_EXPR, args=(compared,)) if every else compared
    unknown = ast.NullTest(arg=again, nulltesttype=enums.NullTestType.IS_NULL)
    null = ast.A_Const(isnull=True)
    result = ast.CaseExpr(
        args=(
            ast.CaseWhen(expr=_some(decided), result=_boolean(not every)),
            ast.CaseWhen(expr=_some(unknown), result=null),
        ),
        defresult=_boolean(every),
    )
    return _scalar(query, result)


def _some(condition: ast.Node) -> ast.Node:
    count = _call("count", (), star=True, condition=condition)
    zero = ast.A_Const(isnull=False, val=ast.Integer(ival=0))
    return ast.A_Expr(kind=enums.A_Expr_Kind.AEXPR_OP, name=(ast.String(sval=">"),), lexpr=count, rexpr=zero)


def _boolean(value: bool) -> ast.A_Const:
    return ast.A_Const(isnull=False, val=ast.Boolean(boolval=value))


def _call(
    name: str,
    args: tuple[ast.Node, ...],
    *,
    order: tuple[ast.Node, ...] = (),
    star: bool = False,
    condition: ast.Node | None = None,
) -> ast.FuncCall:
    return ast.FuncCall(
        funcname=(ast.String(sval="pg_catalog"), ast.String(sval=name)),
        args=args or None,
        agg_order=order or None,
        agg_star=star,
        agg_filter=condition,
        funcformat=enums.CoercionForm.COERCE_EXPLICIT_CALL,
    )


def _scalar(query: ast.SelectStmt, value: ast.Node) -> ast.SubLink:
    query.targetList = (ast.ResTarget(name="value", val=value),)
    return ast.SubLink(subLinkType=enums.SubLinkType.EXPR_SUBLINK, subLinkId=0, subselect=query)


def _is_shaped(query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether clauses other than FROM and WHERE decide which rows there are."""
    clauses = (
        query.withClause,
        query.groupClause,
        query.havingClause,
        query.distinctClause,
        query.limitCount,
        query.limitOffset,
        query.valuesLists,
    )
    if any(clauses) or query.op != enums.SetOperation.SETOP_NONE or expressions.has_aggregate(query.targetList):
        return True
    return any(
        isinstance(node, ast.FuncCall) and (node.over is not None or expressions.returns_set(node))
        for node in walk((query.targetList, query.sortClause))
    )


def _wrapped(query: ast.SelectStmt) -> tuple[tuple[ast.Node, ...], ast.SelectStmt]:
    """The query as a FROM item, and its columns."""
    leaf = query
    while leaf.op != enums.SetOperation.SETOP_NONE:
        leaf = leaf.larg
    width = len(leaf.valuesLists[0]) if leaf.valuesLists else len(leaf.targetList or ())
    names = tuple(f"value{number}" for number in range(width))
    alias = ast.Alias(aliasname=_ALIAS, colnames=tuple(ast.String(sval=name) for name in names))
    item = ast.RangeSubselect(lateral=False, subquery=query, alias=alias)
    columns = tuple(ast.ColumnRef(fields=(ast.String(sval=_ALIAS), ast.String(sval=name))) for name in names)
    outer = ast.SelectStmt(fromClause=(item,), op=enums.SetOperation.SETOP_NONE, all=False)
    return columns, outer
