"""Makes a failing query smaller: one clause, join side, output column or expression less at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast, parse_sql
from pglast.stream import RawStream

Node = Any
EXPRESSIONS = {
    "A_Expr",
    "BoolExpr",
    "FuncCall",
    "CaseExpr",
    "CoalesceExpr",
    "TypeCast",
    "NullTest",
    "BooleanTest",
    "MinMaxExpr",
    "CollateClause",
    "A_Indirection",
}
OPTIONAL = ("whereClause", "havingClause", "sortClause", "agg_filter", "agg_order", "withClause", "groupClause")
LISTS = ("targetList", "fromClause", "groupClause")


def smaller_queries(query: str, classes: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Queries with one piece less, and the comparison classes of the columns that are left.

    Most are valid, not all: whoever tries them must ask PostgreSQL.
    """
    tree = parse_sql(query)[0].stmt(skip_none=True)
    for smaller, dropped in _smaller_select(tree):
        kept = tuple(each for position, each in enumerate(classes) if position != dropped)
        try:
            text = RawStream()(getattr(ast, smaller["@"])(smaller))
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError):
            continue  # not a tree that the printer knows
        yield text, kept


def _smaller_select(select: Node) -> Iterator[tuple[Node, int | None]]:
    """Smaller versions of the outermost SELECT, with the position of the output column that went."""
    targets = select.get("targetList", ())
    if len(targets) > 1:
        for position in range(len(targets)):
            yield {**select, "targetList": targets[:position] + targets[position + 1 :]}, position
    for smaller in _smaller(select):
        if len(smaller.get("targetList", ())) == len(targets):
            yield smaller, None


def _smaller(node: Node) -> Iterator[Node]:
    """A node with one piece less, somewhere."""
    if isinstance(node, tuple):
        for position, item in enumerate(node):
            for smaller in _smaller(item):
                yield (*node[:position], smaller, *node[position + 1 :])
        return
    if not isinstance(node, dict) or "@" not in node:
        return
    yield from _replaced(node)
    for name in OPTIONAL:
        if name in node:
            yield {key: value for key, value in node.items() if key != name}
    for name in LISTS:
        items = node.get(name, ())
        if len(items) > 1:
            for position in range(len(items)):
                yield {**node, name: items[:position] + items[position + 1 :]}
    for key, value in node.items():
        if isinstance(value, dict | tuple):
            for smaller in _smaller(value):
                yield {**node, key: smaller}


def _replaced(node: Node) -> Iterator[Node]:
    """What may stand instead of a node: a side of a join or set operation, a part of an expression."""
    kind = node["@"]
    if kind == "JoinExpr":
        yield node["larg"]
        yield node["rarg"]
        if node["jointype"]["value"] != 0:
            yield {**node, "jointype": {**node["jointype"], "name": "JOIN_INNER", "value": 0}}
    elif kind == "SelectStmt" and "larg" in node:
        yield node["larg"]
        yield node["rarg"]
    elif kind == "SelectStmt" and node.get("withClause") and len(node["withClause"]["ctes"]) == 1:
        yield node["withClause"]["ctes"][0]["ctequery"]
    elif kind == "RangeSubselect" and len(node["subquery"].get("fromClause", ())) == 1:
        inner = node["subquery"]["fromClause"][0]
        if inner["@"] == "RangeVar":
            yield {**inner, "alias": node["alias"]}
    elif kind in EXPRESSIONS:
        yield from _parts(node)


def _parts(node: Node) -> Iterator[Node]:
    for key, value in node.items():
        if key in ("funcname", "name", "typeName", "collname"):
            continue
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, dict) and (part.get("@") in EXPRESSIONS or part.get("@") in ("ColumnRef", "A_Const")):
                yield part
