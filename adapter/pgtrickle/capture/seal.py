"""What was looked at before a lock must be the same behind it: asked in the message that locks, decides and changes.

Writers wait from the lock to the end of the transaction. Every question in between would let them wait for a round trip
to wherever the engine runs, so nothing is asked there: all that `converge` goes by is summed up before it looks, and
the server compares when it holds the lock. If something has changed the transaction begins again.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composable, Composed, Literal

from pgtrickle import db
from pgtrickle.capture import functions
from pgtrickle.capture.buffers import buffer_of
from pgtrickle.capture.relations import QUERIES, Table
from pgtrickle.catalog import access, sources
from pgtrickle.catalog.model import Source

_ROWS = SQL("(SELECT pg_catalog.string_agg(q::pg_catalog.text, ' ' ORDER BY q::pg_catalog.text) FROM (\n{}\n) q)")
_OBJECTS = SQL("SELECT pg_catalog.to_regclass({})::oid AS buffer, pg_catalog.to_regclass({})::oid AS index")
_BROKEN = SQL(
    "BEGIN IF ({seal}) IS DISTINCT FROM {expected} OR {filled} THEN RAISE EXCEPTION USING ERRCODE = '40001',"
    " MESSAGE = 'a source was changed while its capture was'; END IF; END"
)
_FILLED = SQL(
    "EXISTS (SELECT FROM pg_catalog.unnest({}::oid[]) AS t (relid) WHERE pg_catalog.pg_relation_size(t.relid) > 0)"
)


def expression(conn: db.Connection, source: Source) -> Composed:
    """An expression of the server's that is another one if anything that `converge` goes by is."""
    relation = buffer_of(source.id)
    buffer = f"{relation.schema}.{relation.name}"
    relid, names = {"relid": source.relid}, {"names": functions.all_functions(source.id)}
    columns = {**relid, "columns": list(sources.needs(conn, source.id).columns)}
    parts: list[Composable] = [
        db.bound(conn, QUERIES[name], params)
        for name, params in (
            ("family", relid),
            ("source_columns", columns),
            ("key_columns", relid),
            ("partition_constraint", relid),
            ("foreign_partition_key", relid),
            ("buffer_columns", {"buffer": buffer}),
            ("function_bodies", names),
            ("installed_triggers", names),
        )
    ]
    parts += [access.bound(conn, "overflowed", id=source.id), _OBJECTS.format(buffer, f"{buffer}_x")]
    summed = SQL(", '|', ").join([_ROWS.format(part) for part in parts])
    return SQL("SELECT pg_catalog.md5(pg_catalog.concat({}))").format(summed)


def unbroken(conn: db.Connection, seal: Composed, expected: str, empty: Sequence[Table]) -> Composed:
    """The statement that fails, so that everything begins again, unless all is as it was.

    Args:
        conn: for the rules of its literals.
        seal: the expression.
        expected: its value before anybody looked.
        empty: tables that had no row then.
    """
    filled = _FILLED.format([table.relid for table in empty if table.kind != "p"]) if empty else SQL("false")
    code = _BROKEN.format(seal=seal, expected=expected, filled=filled)
    return SQL("DO {}").format(Literal(code.as_string(conn)))
