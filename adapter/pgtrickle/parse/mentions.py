"""The names in a query that nobody has resolved."""

from __future__ import annotations

from typing import TypeAlias

from pglast import ast

from pgtrickle.parse.select import parse_query
from pgtrickle.parse.tree import walk

Names: TypeAlias = tuple[tuple[str | None, str], ...]


def mentions(query: str) -> tuple[Names, Names]:
    """Relations and functions that a query names, each with the schema that it gives.

    Names of common table expressions are among the relations: whoever looks them up finds nothing, or what they hide.

    Raises:
        InvalidQuery: PostgreSQL's grammar refuses the text.
    """
    relations: dict[tuple[str | None, str], None] = {}
    functions: dict[tuple[str | None, str], None] = {}
    for node in walk(parse_query(query), into_subqueries=True):
        if isinstance(node, ast.RangeVar):
            relations[node.schemaname or None, node.relname] = None
        elif isinstance(node, ast.FuncCall):
            *schema, name = (part.sval for part in node.funcname)
            functions[schema[-1] if schema else None, name] = None
    return tuple(relations), tuple(functions)
