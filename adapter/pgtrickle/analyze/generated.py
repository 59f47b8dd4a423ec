"""Virtual generated columns (PostgreSQL 18): the expression that stands for each, proven on the server.

The stored expression is printed without its implicit casts, and a printed text may be read as another expression. So
the text that takes the column's place is analysed again, and has to become the very tree that the server stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pgtrickle import db
from pgtrickle.analyze.meaning import meaning_of
from pgtrickle.analyze.probe import Probe, probe, rolled_back
from pgtrickle.analyze.relations import AttributeRow, Relations
from pgtrickle.analyze.types import TypeLoader
from pgtrickle.errors import InvalidQuery
from pgtrickle.parse.facts import Generation
from pgtrickle.parse.generated import selection
from pgtrickle.parse.lateral import quoted
from pgtrickle.parse.names import Names
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")
_READ = re.compile(r":varattno (-?\d+)")

#: Types that refuse a value that is too long when it is stored, and cut it off in a cast; the functions that do both.
_CUT = {1042: "bpchar", 1043: "varchar", 1560: "bit", 1562: "varbit"}

_OTHERWISE = "the server reads the text of its expression in another way"


def read_generations(
    conn: db.Connection, relations: Relations, attributes: Mapping[int, Sequence[AttributeRow]], types: TypeLoader
) -> Mapping[tuple[int, int], Generation]:
    """The expressions of all virtual generated columns of these relations, by OID and attribute number.

    Args:
        conn: inside a transaction that will be rolled back, search_path = pg_catalog.
        relations: what the query reads.
        attributes: their columns.
        types: loads the columns' types.
    """
    found: dict[tuple[int, int], Generation] = {}
    for relid, rows in attributes.items():
        virtual = tuple(row for row in rows if row.tree is not None)
        if virtual:
            row = relations.rows[relid]
            generations = _generations(conn, row.schema, row.name, virtual, types)
            found |= {(relid, a.number): g for a, g in zip(virtual, generations, strict=True)}
    return found


def _generations(
    conn: db.Connection, schema: str, name: str, virtual: Sequence[AttributeRow], types: TypeLoader
) -> Iterator[Generation]:
    bare = [f"({row.expression})" for row in virtual]
    raw = _probed(conn, schema, name, bare)
    if raw is None:
        yield from (Generation("NULL", obstacle=_OTHERWISE) for _ in virtual)
        return
    wanted = {(a.type_oid, typmod) for a in virtual for typmod in (a.typmod, -1)}
    names = {pair: loaded.name for pair, loaded in types.load(wanted).items()}
    cast = [_cast(a, (c.type_oid, c.typmod), names) for a, c in zip(virtual, raw.columns, strict=True)]
    made = _probed(conn, schema, name, cast)
    meaning = "" if made is None else meaning_of(made.view.rule.text, 0)
    for number, (attribute, expression) in enumerate(zip(virtual, cast, strict=True), 1):
        reads = tuple(sorted({int(found) for found in _READ.findall(attribute.tree or "")}))
        text = expression
        if made is not None and made.columns[number - 1].typmod != attribute.typmod:
            text = f"({text})::{names[attribute.type_oid, attribute.typmod]}"
        if made is not None and made.columns[number - 1].collation_oid != attribute.collation_oid:
            text = f"({text}) COLLATE {_collation(attribute)}"
        is_same = f"{{TARGETENTRY :expr {meaning_of(attribute.tree or '', 0)} :resno {number} " in meaning
        yield Generation(text, reads, _obstacle(attribute, reads, is_same))


def _probed(conn: db.Connection, schema: str, name: str, expressions: Sequence[str]) -> Probe | None:
    """What the server makes of these expressions; None if it refuses them."""
    try:
        with rolled_back(conn):
            return probe(conn, selection(schema, name, expressions), "pgtrickle_generated", catalog_path=False)
    except InvalidQuery:
        return None


def _cast(attribute: AttributeRow, made: tuple[int, int], names: Mapping[tuple[int, int], str]) -> str:
    """The expression as it would be stored in its column; ``made`` is the type that it has by itself."""
    wanted = (attribute.type_oid, attribute.typmod)
    if made == wanted:
        return attribute.expression or ""
    function = _CUT.get(attribute.type_oid)
    if function is None or attribute.typmod < 0:
        return f"({attribute.expression})::{names[wanted]}"
    value = f"({attribute.expression})"
    if made[0] != attribute.type_oid:
        value = f"{value}::{names[attribute.type_oid, -1]}"
    return f"pg_catalog.{quoted(function)}({value}, {attribute.typmod}, false)"


def _collation(attribute: AttributeRow) -> str:
    return f"{quoted(attribute.collation_schema or '')}.{quoted(attribute.collation_name or '')}"


def _obstacle(attribute: AttributeRow, reads: Sequence[int], is_same: bool) -> str | None:
    if any(number < 0 for number in reads):
        return "its expression reads a system column"
    if Names.RESERVED in (attribute.expression or ""):
        return f"its expression contains the reserved text {Names.RESERVED}"
    return None if is_same else _OTHERWISE
