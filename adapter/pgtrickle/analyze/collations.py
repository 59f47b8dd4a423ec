"""Collations under which a query compares what has another collation, from the text of a stored rule.

Under a non-deterministic collation 'a' may be 'A', under the column's own they are two values: what one comparison
takes for equal is then grouped, hashed and found again as different, by us and by PostgreSQL's own plans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

Value: TypeAlias = "Node | list[Value] | str"
Node: TypeAlias = Mapping[str, "list[Value]"]
"""A node of a parse tree: field -> values; its type is under the empty name."""

_TOKEN = re.compile(r"\\.|[{}()]|(?:[^\s{}()\\]|\\.)+", re.DOTALL)
_COMPARISONS = frozenset({"OPEXPR", "DISTINCTEXPR", "NULLIFEXPR", "SCALARARRAYOPEXPR"})
_BOOL = "16"
_OWN = re.compile(r"(?!inputcollid)\w*collid|collOid|collation")


def foreign_collations(text: str) -> frozenset[int]:
    """The collations under which texts of another collation are compared, or put together by UNION and its like.

    Args:
        text: a ``pg_rewrite.ev_action``.
    """
    if ":inputcollid" not in text and ":colCollations" not in text:
        return frozenset()
    (tree,) = _values(iter(_TOKEN.findall(text)), "")
    found: set[str] = set()
    for node in _nodes(tree):
        if node[""] == ["QUERY"] and "setOperations" in node:
            found |= _of_set_operation(node)
        elif node[""] and node[""][0] in _COMPARISONS and node.get("opresulttype", [_BOOL]) == [_BOOL]:
            under = _atom(node, "inputcollid")
            others = {_own(arg) for arg in _list(node, "args")} - {"0", under}
            found |= {under} if others else set()
    return frozenset(int(oid) for oid in found) - {0}


def _of_set_operation(query: Node) -> set[str]:
    """The collations of the columns of which a branch has another one."""
    found: set[str] = set()
    operations = [n for n in _nodes(query["setOperations"], into_queries=False) if n[""] == ["SETOPERATIONSTMT"]]
    for operation in operations:
        under = [oid for oid in _list(operation, "colCollations") if isinstance(oid, str) and oid != "o"]
        for entry in _list(query, "rtable"):
            for branch in entry.get("subquery", ()) if isinstance(entry, Mapping) else ():
                shown = [_own(column) for column in _list(branch, "targetList") if not _is_junk(column)]
                found |= {mine for mine, theirs in zip(under, shown, strict=False) if theirs not in ("0", mine)}
    return found


def _own(value: Value) -> str:
    """The collation of an expression; a constant takes on that of what it is compared with."""
    if not isinstance(value, Mapping) or value[""] == ["CONST"]:
        return "0"
    if value[""] == ["TARGETENTRY"]:
        return _own(value["expr"][0])
    if value[""] == ["ARRAYEXPR"]:
        return next((oid for oid in map(_own, _list(value, "elements")) if oid != "0"), "0")
    return next((_atom(value, name) for name in value if _OWN.fullmatch(name)), "0")


def _is_junk(column: Value) -> bool:
    return not isinstance(column, Mapping) or _atom(column, "resjunk") == "true"


def _atom(node: Node, name: str) -> str:
    value = node.get(name, ["0"])[0]
    return value if isinstance(value, str) else "0"


def _list(node: Value, name: str) -> list[Value]:
    value = node.get(name, [[]])[0] if isinstance(node, Mapping) else []
    return value if isinstance(value, list) else []


def _nodes(value: Value, *, into_queries: bool = True) -> Iterator[Node]:
    parts: list[Value] = []
    if isinstance(value, Mapping):
        yield value
        if into_queries or value[""] != ["QUERY"]:
            parts = [part for values in value.values() for part in values]
    elif isinstance(value, list):
        parts = value
    for part in parts:
        yield from _nodes(part, into_queries=into_queries)


def _values(tokens: Iterator[str], end: str) -> list[Value]:
    found: list[Value] = []
    for token in tokens:
        if token == end:
            break
        found.append(_node(tokens) if token == "{" else _values(tokens, ")") if token == "(" else token)
    return found


def _node(tokens: Iterator[str]) -> Node:
    fields: dict[str, list[Value]] = {"": []}
    name = ""
    for value in _values(tokens, "}"):
        if isinstance(value, str) and value.startswith(":"):
            name = value[1:]
            fields[name] = []
        else:
            fields[name].append(value)
    return fields
