"""Following renamed relations and functions in the text of a query; what is not renamed keeps its very characters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pglast import ast
from pglast.parser import scan

from pgtrickle.parse.select import parse_query
from pgtrickle.parse.tree import walk

#: Schema and name; the schema is None where the text has none.
Name = tuple[str | None, str]


def rename_objects(query: str, relations: Mapping[Name, Name], functions: Mapping[Name, Name] | None = None) -> str:
    """The query with relations and functions under their new names.

    Only the names are replaced, by their places in the text: nothing is printed anew, so that nothing else can change.

    Args:
        query: as the server prints it, every relation and every function of the user's schema-qualified.
        relations: old name -> new name.
        functions: old name -> new name, for all functions of that name.

    Raises:
        InvalidQuery: it is not the text of one SELECT.
    """
    tokens = scan(query)
    ends = {token.start: number for number, token in enumerate(tokens)}
    for start, name, alias in sorted(_references(query, relations, functions or {}), key=lambda found: -found[0]):
        first = ends[start]
        last = first + 2 if first + 1 < len(tokens) and tokens[first + 1].name == "ASCII_46" else first
        query = query[:start] + _quoted(name) + alias + query[tokens[last].end + 1 :]
    return query


def _references(
    query: str, relations: Mapping[Name, Name], functions: Mapping[Name, Name]
) -> Iterator[tuple[int, Name, str]]:
    """Where a name begins, what it becomes, and what has to follow it: columns may be qualified by the old name."""
    for node in walk(parse_query(query), into_subqueries=True):
        if isinstance(node, ast.RangeVar):
            new = relations.get((node.schemaname, node.relname))
            if new is not None:
                yield node.location, new, "" if node.alias else f" AS {_quoted((None, node.relname))}"
        elif isinstance(node, ast.FuncCall):
            names = [part.sval for part in node.funcname]
            new = functions.get((names[0] if len(names) > 1 else None, names[-1]))
            if new is not None:
                yield node.location, new, ""


def _quoted(name: Name) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name if part is not None)
