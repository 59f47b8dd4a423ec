"""Conditions under which a part of an expression is evaluated at all, and what may fail without them.

PostgreSQL evaluates a branch of CASE or COALESCE, or what follows in AND and OR, only for rows that get there. A
subquery that stands there is asked beforehand; if it may fail, it has to be asked for those rows only.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from pglast import ast, enums

from pgtrickle.parse.expression import Expressions, split_and
from pgtrickle.parse.outer_aggregates import free_refs, names_in
from pgtrickle.parse.tree import function_name, returns_sets, walk

#: Lifts the subqueries of a part that is evaluated only if some conditions are met.
Lift = Callable[[ast.Node, tuple[ast.Node, ...]], ast.Node]

Branching = ast.CaseExpr | ast.CoalesceExpr | ast.BoolExpr

#: Operators that fail for no value, but for numbers that are out of range.
_SAFE_OPERATORS = frozenset(
    {"=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "||", "~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*"}
    | {"->", "->>", "#>", "#>>", "@>", "<@", "&&", "?", "&", "|"}
)
_SAFE_FUNCTIONS = frozenset(
    {"count", "sum", "min", "max", "avg", "bool_and", "bool_or", "every", "array_agg", "string_agg", "json_agg"}
    | {"jsonb_agg", "any_value", "lower", "upper", "length", "char_length", "btrim", "ltrim", "rtrim", "concat"}
    | {"concat_ws", "abs", "round", "floor", "ceil", "ceiling", "row_number", "rank", "dense_rank", "lag", "lead"}
    | {"first_value", "last_value"}
)
_TEXTS = frozenset({"text", "varchar", "bpchar"})
_TIMESTAMP = 1114


def lift_branches(node: Branching, lift: Lift) -> None:
    """Lift the subqueries of a conditional expression, each part under the conditions before it; in place."""
    if isinstance(node, ast.CaseExpr):
        _lift_case(node, lift)
        return
    seen: tuple[ast.Node, ...] = ()
    lifted: list[ast.Node] = []
    for part in node.args:
        lifted.append(lift(part, seen))
        seen = (*seen, _goes_on(node, lifted[-1]))
    node.args = tuple(lifted)


def _goes_on(node: ast.CoalesceExpr | ast.BoolExpr, part: ast.Node) -> ast.Node:
    """Whether what stands behind a part is evaluated."""
    if isinstance(node, ast.CoalesceExpr):
        kind = enums.A_Expr_Kind.AEXPR_NOT_DISTINCT
        name = (ast.String(sval="="),)
        return ast.A_Expr(kind=kind, name=name, lexpr=deepcopy(part), rexpr=ast.A_Const(isnull=True))
    is_or = node.boolop == enums.BoolExprType.OR_EXPR
    return _test(part, enums.BoolTestType.IS_NOT_TRUE if is_or else enums.BoolTestType.IS_NOT_FALSE)


def _test(condition: ast.Node, kind: enums.BoolTestType) -> ast.BooleanTest:
    return ast.BooleanTest(arg=deepcopy(condition), booltesttype=kind)


def _lift_case(node: ast.CaseExpr, lift: Lift) -> None:
    seen: tuple[ast.Node, ...] = ()
    if node.arg is not None:
        node.arg = lift(node.arg, ())
    for branch in node.args:
        branch.expr = lift(branch.expr, seen)
        condition = deepcopy(branch.expr)
        if node.arg is not None:
            kind, name = enums.A_Expr_Kind.AEXPR_OP, (ast.String(sval="="),)
            condition = ast.A_Expr(kind=kind, name=name, lexpr=deepcopy(node.arg), rexpr=condition)
        branch.result = lift(branch.result, (*seen, condition))
        seen = (*seen, _test(condition, enums.BoolTestType.IS_NOT_TRUE))
    if node.defresult is not None:
        node.defresult = lift(node.defresult, seen)


def combined(conditions: tuple[ast.Node, ...]) -> ast.Node:
    """One expression that is true if all conditions are; each is evaluated only if those before it are true."""
    result: ast.Node = ast.A_Const(isnull=False, val=ast.Boolean(boolval=True))
    for condition in reversed(conditions):
        branch = ast.CaseWhen(expr=deepcopy(condition), result=result)
        result = ast.CaseExpr(args=(branch,), defresult=ast.A_Const(isnull=False, val=ast.Boolean(boolval=False)))
    return result


def may_fail(node: ast.SubLink, expressions: Expressions) -> bool:
    """Whether evaluating a subquery may raise an error: a function, a cast, a division, or more than one row."""
    if any(_may_raise(inner) for inner in walk(node.subselect, into_subqueries=True)):
        return True
    links = (node, *(n for n in walk(node.subselect, into_subqueries=True) if isinstance(n, ast.SubLink)))
    scalar = (link for link in links if link.subLinkType == enums.SubLinkType.EXPR_SUBLINK)
    return not all(_is_at_most_one(link.subselect, expressions) for link in scalar)


def _may_raise(node: ast.Node) -> bool:
    match node:
        case ast.A_Expr():
            operators = [part.sval for part in node.name]
            return node.kind == enums.A_Expr_Kind.AEXPR_OP and operators[-1] not in _SAFE_OPERATORS
        case ast.FuncCall():
            schema, name = function_name(node)
            return schema != "pg_catalog" or name not in _SAFE_FUNCTIONS
        case ast.TypeCast():
            return not isinstance(node.arg, ast.A_Const) and node.typeName.names[-1].sval not in _TEXTS
        case _:
            return False


def _is_at_most_one(query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether a query has at most one row, or takes one."""
    limit = query.limitCount
    if isinstance(limit, ast.A_Const) and isinstance(limit.val, ast.Integer) and limit.val.ival <= 1:
        return query.op == enums.SetOperation.SETOP_NONE
    return at_most_one(query, expressions)


def at_most_one(query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether a query has at most one row before its LIMIT: it aggregates everything, or looks it up by a key."""
    if query.op != enums.SetOperation.SETOP_NONE:
        return False
    if query.valuesLists:
        return len(query.valuesLists) == 1
    clauses = (query.targetList, query.sortClause)
    if returns_sets((*clauses, query.groupClause), expressions.returns_set):
        return False
    sets = tuple(node for node in query.groupClause or () if isinstance(node, ast.GroupingSet))
    if any(one.kind != enums.GroupingSetKind.GROUPING_SET_EMPTY for one in sets):
        return False
    whole = query.havingClause or any(is_own_aggregate(node, query, expressions) for node in walk(clauses))
    if len(sets) == len(query.groupClause or ()) and (whole or sets):
        return True
    return not query.fromClause or _is_look_up(query, expressions)


def is_own_aggregate(node: ast.Node, query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether this is an aggregate of the query itself: one that reads only outer columns is of the query around it."""
    if not expressions.is_aggregate(node):
        return False
    refs = free_refs(node)
    own = names_in(query.fromClause)
    return not refs or any(len(ref.fields) == 1 or ref.fields[-2].sval in own for ref in refs)


def _is_look_up(query: ast.SelectStmt, expressions: Expressions) -> bool:
    item = query.fromClause[0] if len(query.fromClause) == 1 else None
    if not isinstance(item, ast.RangeVar) or (item.alias is not None and item.alias.colnames):
        return False
    facts = expressions.facts.relations.get((item.schemaname or "pg_catalog", item.relname))
    own = item.alias.aliasname if item.alias else item.relname
    fixed: set[str] = set()
    for part in split_and(query.whereClause):
        if isinstance(part, ast.A_Expr) and [name.sval for name in part.name] == ["="]:
            fixed |= _fixed(part.lexpr, part.rexpr, own) | _fixed(part.rexpr, part.lexpr, own)
    if facts is None:
        return False
    # Two timestamps may be equal to one and the same timestamptz, in the hour that daylight saving skips.
    fixed -= {attribute.name for attribute in facts.attributes if attribute.type.oid == _TIMESTAMP}
    return any(key <= fixed for key in facts.keys)


def _fixed(mine: ast.Node, other: ast.Node, alias: str) -> set[str]:
    """The column of a table that an equality gives one value."""
    if _owner(mine) not in (None, alias) or not isinstance(mine, ast.ColumnRef):
        return set()
    reads_own = any(_owner(ref) in (None, alias) for ref in walk(other) if isinstance(ref, ast.ColumnRef))
    nested = any(isinstance(inner, ast.SubLink) for inner in walk(other))
    return set() if reads_own or nested else {mine.fields[-1].sval}


def _owner(node: ast.Node) -> str | None:
    """The qualifier of a column reference, None if it has none."""
    if not isinstance(node, ast.ColumnRef) or len(node.fields) < 2:
        return None
    return node.fields[-2].sval
