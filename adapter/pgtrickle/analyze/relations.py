"""The relations that a query reads, views opened down to the tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgtrickle import db
from pgtrickle.analyze.functions import RuleFacts, read_rule
from pgtrickle.analyze.types import TypeLoader
from pgtrickle.parse.facts import Attribute, Generation, RelationFacts
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")

#: The marks of CYCLE as the server prints them, ``'Y'::text``, where its grammar wants ``text 'Y'``.
_MARK = r"'(?:[^']|'')*'"
_CYCLE = re.compile(rf"( SET \S+ TO )({_MARK})::([\w\". ]+)( DEFAULT )({_MARK})::([\w\". ]+)( USING )")

#: The type ``oid`` and its modifier.
_TABLEOID = (26, -1)

_OBSTACLES = {"m": "materialized view", "f": "foreign table", "S": "sequence"}


@dataclass(frozen=True, slots=True)
class RelationRow:
    """One row of the query ``relations``."""

    relid: int
    schema: str
    name: str
    relkind: str
    persistence: str
    has_children: bool
    is_system: bool

    @property
    def obstacle(self) -> str | None:
        """Why rows cannot be captured from it, or None."""
        if self.relkind == "v":
            return None
        if self.is_system:
            return "system catalog"
        if self.persistence == "t":
            return "temporary table"
        return _OBSTACLES.get(self.relkind)


@dataclass(frozen=True, slots=True)
class AttributeRow:
    """One row of the query ``attributes``; ``expression`` and ``tree`` are those of a virtual generated column."""

    relid: int
    number: int
    name: str
    type_oid: int
    typmod: int
    collation_oid: int
    collation_schema: str | None
    collation_name: str | None
    expression: str | None
    tree: str | None
    not_null: bool


@dataclass(frozen=True, slots=True)
class View:
    """An expanded view: its text as printed, and what its rule mentions."""

    text: str
    rule: RuleFacts


@dataclass(frozen=True, slots=True)
class Relations:
    """Relations by OID, and the views among them."""

    rows: dict[int, RelationRow]
    views: dict[int, View]


def find_relations(conn: db.Connection, relids: Iterable[int]) -> Relations:
    """Follow views until only tables are left. Expects search_path = pg_catalog."""
    rows: dict[int, RelationRow] = {}
    views: dict[int, View] = {}
    missing = set(relids)
    while missing:
        found = db.fetch_all(conn, _QUERIES["relations"], RelationRow, {"relids": sorted(missing)})
        rows |= {row.relid: row for row in found}
        opened = {row.relid: open_view(conn, row.relid) for row in found if row.relkind == "v"}
        views |= opened
        missing = {relid for view in opened.values() for relid in view.rule.relations} - rows.keys()
    return Relations(rows, views)


def open_view(conn: db.Connection, relid: int) -> View:
    """The text and rule of a view. Expects search_path = pg_catalog."""
    text = db.fetch_value(conn, _QUERIES["view_text"], {"relid": relid})
    rule = read_rule(db.fetch_value(conn, _QUERIES["view_rule"], {"relid": relid}))
    text = _CYCLE.sub(r"\1\3 \2\4\6 \5\7", text)
    own = replace(rule, relations=rule.relations - {relid})
    return View(text, own)


def read_attributes(conn: db.Connection, relations: Relations) -> dict[int, list[AttributeRow]]:
    """The columns of all relations, in order, by the relation's OID. Expects search_path = pg_catalog."""
    attributes: dict[int, list[AttributeRow]] = {relid: [] for relid in relations.rows}
    for row in db.fetch_all(conn, _QUERIES["attributes"], AttributeRow, {"relids": sorted(relations.rows)}):
        attributes[row.relid].append(row)
    return attributes


def describe_relations(
    conn: db.Connection,
    relations: Relations,
    attributes: Mapping[int, Sequence[AttributeRow]],
    generations: Mapping[tuple[int, int], Generation],
    types: TypeLoader,
) -> dict[tuple[str, str], RelationFacts]:
    """Facts for the parser, by qualified name."""
    params = {"relids": sorted(relations.rows)}
    keys: dict[int, list[frozenset[str]]] = defaultdict(list)
    for found in db.fetch_all(conn, _QUERIES["unique_keys"], dict, params):
        keys[found["relid"]].append(frozenset(found["columns"]))
    stream_tables = _stream_tables(conn, params)
    loaded = types.load([_TABLEOID, *((a.type_oid, a.typmod) for rows in attributes.values() for a in rows)])
    return {
        (row.schema, row.name): RelationFacts(
            relid=row.relid,
            kind="view" if row.relkind == "v" else "stream_table" if row.relid in stream_tables else "table",
            schema=row.schema,
            name=row.name,
            attributes=tuple(
                Attribute(
                    a.number, a.name, loaded[a.type_oid, a.typmod], a.not_null, generations.get((a.relid, a.number))
                )
                for a in attributes[row.relid]
            ),
            # An inheritance parent's unique index says nothing about the rows of its children.
            keys=() if row.has_children and row.relkind != "p" else tuple(keys[row.relid]),
            obstacle=row.obstacle,
            only_keys=tuple(keys[row.relid]),
            tableoid=None if row.relid in stream_tables else loaded[_TABLEOID],
        )
        for row in relations.rows.values()
    }


def _stream_tables(conn: db.Connection, params: dict[str, list[int]]) -> frozenset[int]:
    if not db.fetch_value(conn, _QUERIES["has_catalog"]):
        return frozenset()
    rows = db.fetch_all(conn, _QUERIES["stream_tables_among"], dict, params)
    return frozenset(row["relid"] for row in rows)
