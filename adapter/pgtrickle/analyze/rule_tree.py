"""The tree of a stored rule, read from its text (``pg_rewrite.ev_action``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

Value: TypeAlias = "Node | list[Value] | str"
Node: TypeAlias = Mapping[str, "list[Value]"]
"""A node of a parse tree: field -> values; its type is under the empty name."""

_TOKEN = re.compile(r"\\.|[{}()]|(?:[^\s{}()\\]|\\.)+", re.DOTALL)


def tree_of(text: str) -> Value:
    """Read the text of a rule."""
    (tree,) = _values(iter(_TOKEN.findall(text)), "")
    return tree


def kind_of(node: Value) -> str:
    """``VAR``, ``FUNCEXPR`` ...; empty for what is no node."""
    return str(node[""][0]) if isinstance(node, Mapping) and node[""] else ""


def atom(node: Node, name: str) -> str:
    """The value of a field that is one word; 0 if it is not there."""
    value = node.get(name, ["0"])[0]
    return value if isinstance(value, str) else "0"


def entries(node: Value, name: str) -> list[Value]:
    """The entries of a field that is a list."""
    value = node.get(name, [[]])[0] if isinstance(node, Mapping) else []
    return value if isinstance(value, list) else []


def parts_of(value: Value) -> Iterator[Value]:
    """What is directly inside a node or a list."""
    if isinstance(value, Mapping):
        for values in value.values():
            yield from values
    elif isinstance(value, list):
        yield from value


def nodes(value: Value, *, into_queries: bool = True) -> Iterator[Node]:
    """A node and all below it."""
    if isinstance(value, Mapping):
        yield value
        if not into_queries and kind_of(value) == "QUERY":
            return
    for part in parts_of(value):
        yield from nodes(part, into_queries=into_queries)


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
