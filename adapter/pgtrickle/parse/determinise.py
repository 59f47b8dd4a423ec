"""Give aggregates whose result depends on the order of their input a total order where the query leaves it free.

PostgreSQL may return any order then; a stream table has to be equal to one and the same answer at every comparison, so
the answer is fixed: ordered by the arguments. Rows with equal arguments are interchangeable.
"""

from __future__ import annotations

from pglast import ast, enums

from pgtrickle.parse.tree import function_name, walk

#: Aggregates of PostgreSQL whose result depends on the order of their input.
ORDER_SENSITIVE = frozenset(
    {
        "array_agg",
        "json_agg",
        "json_agg_strict",
        "json_object_agg",
        "json_object_agg_strict",
        "json_object_agg_unique",
        "json_object_agg_unique_strict",
        "jsonb_agg",
        "jsonb_agg_strict",
        "jsonb_object_agg",
        "jsonb_object_agg_strict",
        "string_agg",
        "xmlagg",
    }
)


def determinise(stmt: ast.SelectStmt, *, as_text: bool = False) -> bool:
    """Add the order in place.

    Args:
        stmt: the query.
        as_text: order by the text of the arguments, for types that have no order (json, xml, point ...).

    Returns:
        Whether anything was changed.
    """
    calls = [node for node in walk_all(stmt) if needs_order(node)]
    for call in calls:
        keys = tuple(_key(argument, as_text) for argument in _variable(call))
        call.agg_order = (*(call.agg_order or ()), *keys)
    return bool(calls)


def needs_order(node: ast.Node) -> bool:
    """Whether a node is an order-sensitive aggregate without a total order by its arguments."""
    if not isinstance(node, ast.FuncCall) or node.over is not None or node.agg_distinct:
        return False
    schema, name = function_name(node)
    if schema != "pg_catalog" or name not in ORDER_SENSITIVE or node.agg_within_group:
        return False
    given = {repr(key.node) for key in node.agg_order or ()}
    return any(repr(argument) not in given for argument in _variable(node))


def walk_all(stmt: ast.SelectStmt) -> list[ast.Node]:
    """All nodes, those of subqueries included."""
    return list(walk(stmt, into_subqueries=True))


def _variable(call: ast.FuncCall) -> tuple[ast.Node, ...]:
    """The arguments that are not constants."""
    return tuple(a for a in call.args or () if any(isinstance(inner, ast.ColumnRef) for inner in walk(a)))


def _key(argument: ast.Node, as_text: bool) -> ast.SortBy:
    node = argument
    if as_text:
        name = (ast.String(sval="pg_catalog"), ast.String(sval="text"))
        node = ast.TypeCast(arg=argument, typeName=ast.TypeName(names=name, typemod=-1))
    return ast.SortBy(
        node=node,
        sortby_dir=enums.SortByDir.SORTBY_DEFAULT,
        sortby_nulls=enums.SortByNulls.SORTBY_NULLS_DEFAULT,
    )
