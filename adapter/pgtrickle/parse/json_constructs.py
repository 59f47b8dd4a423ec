"""Two constructs of SQL/JSON of which the result depends on the order in which PostgreSQL happens to read the rows."""

from __future__ import annotations

from copy import deepcopy

from pglast import ast, enums

from pgtrickle.parse.tree import transform, walk

#: What JSON_VALUE and its like return for NULL anyway, or by raising an error.
_HARMLESS = (enums.JsonBehaviorType.JSON_BEHAVIOR_NULL, enums.JsonBehaviorType.JSON_BEHAVIOR_ERROR)


def settle_json(stmt: ast.SelectStmt) -> bool:
    """Replace them, at any depth and in place.

    JSON_OBJECTAGG has no ORDER BY, so it becomes the aggregate that it stands for. ``JSON_VALUE(NULL, ... DEFAULT x
    ON EMPTY)`` is NULL, but PostgreSQL 17 and 18 (18.6) return x if they returned it for the row before: the function
    is only called where its item is not NULL.

    Returns:
        Whether there was any.
    """
    kinds = (ast.JsonFuncExpr, ast.JsonObjectAgg)
    if not any(isinstance(node, kinds) for node in walk(stmt, into_subqueries=True)):
        return False
    changed = False

    def settled(node: ast.Node) -> ast.Node | None:
        nonlocal changed
        if not isinstance(node, kinds):
            return None
        for attribute in node:
            setattr(node, attribute, transform(getattr(node, attribute), settled))
        replaced = _only_for_values(node) if isinstance(node, ast.JsonFuncExpr) else _object_agg(node)
        changed |= replaced is not node
        return replaced

    transform(stmt, settled)
    return changed


def _only_for_values(node: ast.JsonFuncExpr) -> ast.Node:
    behaviours = (node.on_empty, node.on_error)
    if all(one is None or one.btype in _HARMLESS for one in behaviours):
        return node
    present = ast.NullTest(arg=deepcopy(node.context_item.raw_expr), nulltesttype=enums.NullTestType.IS_NOT_NULL)
    return ast.CaseExpr(args=(ast.CaseWhen(expr=present, result=node),), defresult=ast.A_Const(isnull=True))


def _object_agg(node: ast.JsonObjectAgg) -> ast.Node:
    constructor, pair = node.constructor, node.arg
    kind = constructor.output.typeName.names[-1].sval if constructor.output is not None else "json"
    plain = pair.value.format is None or pair.value.format.format_type == enums.JsonFormatType.JS_FORMAT_DEFAULT
    if kind not in ("json", "jsonb") or not plain:
        return node
    name = f"{kind}_object_agg{'_unique' if node.unique else ''}{'_strict' if node.absent_on_null else ''}"
    return ast.FuncCall(
        funcname=(ast.String(sval="pg_catalog"), ast.String(sval=name)),
        args=(pair.key, pair.value.raw_expr),
        agg_filter=constructor.agg_filter,
        over=constructor.over,
        funcformat=enums.CoercionForm.COERCE_EXPLICIT_CALL,
    )
