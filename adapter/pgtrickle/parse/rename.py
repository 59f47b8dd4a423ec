"""Following renamed objects in the text of a query; what is not renamed keeps its very characters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pglast import ast
from pglast.parser import scan

from pgtrickle.parse.select import parse_query
from pgtrickle.parse.tree import walk

#: Schema and name; the schema is None where the text has none.
Name = tuple[str | None, str]
Names = Mapping[Name, Name]


@dataclass(frozen=True, slots=True)
class Renamed:
    """What has another name now, old name -> new name; functions: all of that name.

    Attributes:
        labels: old name of an enum -> old label -> new one.
        text_search: configurations and dictionaries, by ``regconfig`` and ``regdictionary``.
    """

    relations: Names = field(default_factory=dict)
    functions: Names = field(default_factory=dict)
    types: Names = field(default_factory=dict)
    operators: Names = field(default_factory=dict)
    collations: Names = field(default_factory=dict)
    labels: Mapping[Name, Mapping[str, str]] = field(default_factory=dict)
    text_search: Mapping[str, Names] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Edit:
    """The name that begins ``skip`` tokens after a place of the text becomes another text."""

    start: int
    text: str
    skip: int = 0


def rename_objects(query: str, renamed: Renamed) -> str:
    """The query with everything under its new name.

    Only the names are replaced, by their places in the text: nothing is printed anew, so that nothing else can change.

    Args:
        query: as the server prints it, all names but those of PostgreSQL's own objects schema-qualified.
        renamed: what to replace.

    Raises:
        InvalidQuery: it is not the text of one SELECT.
    """
    tokens = scan(query)
    starts = {token.start: number for number, token in enumerate(tokens)}
    for edit in sorted(set(_edits(query, renamed)), key=lambda found: -found.start):
        first = starts[edit.start] + edit.skip
        last = first + 2 if first + 1 < len(tokens) and tokens[first + 1].name == "ASCII_46" else first
        query = query[: tokens[first].start] + edit.text + query[tokens[last].end + 1 :]
    return query


def _edits(query: str, renamed: Renamed) -> Iterator[_Edit]:
    for node in walk(parse_query(query), into_subqueries=True):
        if isinstance(node, ast.RangeVar):
            new = renamed.relations.get((node.schemaname, node.relname))
            if new is not None:
                # Columns may be qualified by the old name.
                alias = "" if node.alias else f" AS {_quoted((None, node.relname))}"
                yield _Edit(node.location, _quoted(new) + alias)
        elif isinstance(node, ast.FuncCall):
            yield from _edit(node.location, renamed.functions.get(_name_of(node.funcname)))
        elif isinstance(node, ast.TypeName):
            yield from _edit(node.location, renamed.types.get(_name_of(node.names)))
        elif isinstance(node, ast.CollateClause):
            # The name comes behind COLLATE.
            yield from _edit(node.location, renamed.collations.get(_name_of(node.collname)), 1)
        elif isinstance(node, ast.A_Expr) and len(node.name) > 1:
            yield from _edit_operator(node, renamed.operators)
        if isinstance(node, ast.TypeCast):
            yield from _edit_constant(node, renamed)


def _edit(start: int, new: Name | None, skip: int = 0) -> Iterator[_Edit]:
    if new is not None:
        yield _Edit(start, _quoted(new), skip)


def _edit_operator(node: ast.A_Expr, operators: Names) -> Iterator[_Edit]:
    """``OPERATOR(schema.+)``: operators have other schemas, but never other names."""
    new = operators.get(_name_of(node.name))
    if new is not None and new[0] is not None:
        yield _Edit(node.location, f"{_quoted((None, new[0]))}.{new[1]}", 2)


def _edit_constant(node: ast.TypeCast, renamed: Renamed) -> Iterator[_Edit]:
    """A label of an enum, or the name of a text search object, as a constant, which stands before ``::``."""
    constant = node.arg
    if not isinstance(constant, ast.A_Const) or not isinstance(constant.val, ast.String) or node.typeName.arrayBounds:
        return
    kind, text = _name_of(node.typeName.names), constant.val.sval
    label = renamed.labels.get(kind, {}).get(text)
    if label is not None:
        yield _Edit(node.location, _literal(label), -1)
    for old, new in renamed.text_search.get(kind[1], {}).items():
        if text in (".".join(filter(None, old)), _quoted(old), *_half_quoted(old)):
            yield _Edit(node.location, _literal(_quoted(new)), -1)


def _half_quoted(name: Name) -> tuple[str, ...]:
    schema, own = name
    return (f"{schema}.{_quoted((None, own))}", f"{_quoted((None, schema or ''))}.{own}")


def _name_of(parts: tuple[ast.String, ...]) -> Name:
    names = [part.sval for part in parts]
    return (names[-2] if len(names) > 1 else None, names[-1])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: Name) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name if part is not None)
