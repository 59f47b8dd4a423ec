"""A name, resolved: what is there, and whether it is a stream table."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.catalog import stream_tables
from pgtrickle.catalog.model import StreamTable
from pgtrickle.errors import InternalError, InvalidOption, StatementFailed, StreamTableExists, StreamTableNotFound
from pgtrickle.plan import Relation
from pgtrickle.sql import load_queries

QUERIES = load_queries("pgtrickle.lifecycle")

_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
    "I": "index",
    "c": "composite type",
    "t": "TOAST table",
}


@dataclass(frozen=True, slots=True)
class _Row:
    parts: int
    schema_name: str | None
    table_name: str
    relid: int | None
    relkind: str | None
    schema_exists: bool
    quoted: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for now.

    Attributes:
        relation: schema and name, unquoted.
        quoted: ``schema.name``, quoted where needed.
        relid: OID of the relation of this name; None if there is none.
        kind: what it is, in words; None if there is none.
        stream_table: its registration; also of one whose table was dropped behind our back.
        schema_exists: whether the schema does.
    """

    relation: Relation
    quoted: str
    relid: int | None
    kind: str | None
    stream_table: StreamTable | None
    schema_exists: bool

    @property
    def vanished(self) -> bool:
        """It is registered, but its table is gone."""
        return self.stream_table is not None and self.relid is None


def resolve(conn: db.Connection, name: str) -> Target:
    """Look a name up as PostgreSQL would.

    Raises:
        InvalidOption: it is no name, or has more than two parts.
    """
    try:
        row = db.fetch_one(conn, QUERIES["resolve_name"], _Row, {"name": name, "path": conn.schemas()})
    except StatementFailed as error:
        raise InvalidOption(
            f"Not a name: {name!r}.",
            object_name=name,
            detail=error.message,
            hint="Give schema.table, quoted as in SQL.",
        ) from error
    if row is None or row.parts > 2 or row.schema_name is None:
        raise InvalidOption(f"Not a name: {name!r}.", object_name=name, hint="Give schema.table, quoted as in SQL.")
    found = None
    if row.relid is not None:
        found = stream_tables.fetch_by_relid(conn, row.relid)
    else:
        found = stream_tables.fetch_by_name(conn, row.schema_name, row.table_name)
    return Target(
        Relation(row.schema_name, row.table_name),
        row.quoted,
        row.relid,
        None if row.relkind is None else _KINDS.get(row.relkind, "relation"),
        found,
        row.schema_exists,
    )


def resolve_stream_table(conn: db.Connection, name: str) -> StreamTable:
    """The stream table of this name.

    Raises:
        StreamTableNotFound: there is none; the detail says what the name is instead.
    """
    target = resolve(conn, name)
    if target.stream_table is not None:
        return target.stream_table
    detail = f"{target.quoted} is a {target.kind}." if target.kind else None
    raise StreamTableNotFound("No stream table of this name is registered.", object_name=target.quoted, detail=detail)


def stream_table_oid(conn: db.Connection, name: str) -> int:
    """The OID of the stream table of this name, as fast as it can be told.

    Raises:
        StreamTableNotFound: there is none; the detail says what the name is instead.
    """
    # What is wrong with a name is the business of the slower way.
    with suppress(StatementFailed):
        params = {"name": name, "path": conn.schemas()}
        found = db.fetch_one(conn, QUERIES["stream_table_oid"], dict, params, prepare=True)
        if found is not None:
            return found["relid"]
    return resolve_stream_table(conn, name).relid


def check_free(target: Target) -> None:
    """Refuse a name that is taken.

    Raises:
        StreamTableExists: by a stream table or any other relation.
        InvalidOption: the schema does not exist.
    """
    if target.stream_table is not None and not target.vanished:
        raise StreamTableExists(
            "The stream table exists already.",
            object_name=target.quoted,
            hint="Use create_or_replace_stream_table or alter_stream_table.",
        )
    if target.relid is not None:
        raise StreamTableExists(
            f"The name is taken by a {target.kind}.",
            object_name=target.quoted,
            hint="Rename or drop it first, or choose another name.",
        )
    if not target.schema_exists:
        raise InvalidOption(
            f"The schema {target.relation.schema} does not exist.",
            object_name=target.quoted,
            hint="CREATE SCHEMA it first.",
        )


def relid_of(conn: db.Connection, relation: Relation) -> int:
    """The OID of a relation that exists."""
    found = db.fetch_value(conn, QUERIES["relid_of"], {"schema": relation.schema, "name": relation.name})
    if found is None:
        raise InternalError("the relation does not exist", object_name=f"{relation.schema}.{relation.name}")
    return found


def present_relation(conn: db.Connection, relid: int) -> Relation:
    """Schema and name of a relation now."""
    found = present_name(conn, relid)
    if found is None:
        raise InternalError("the relation is gone", object_name=str(relid))
    return found


def present_name(conn: db.Connection, relid: int) -> Relation | None:
    """Schema and name of a relation now; None if it is gone."""
    row = db.fetch_one(conn, QUERIES["present_name"], dict, {"relid": relid})
    return None if row is None else Relation(row["schema_name"], row["table_name"])


def quoted_name(conn: db.Connection, stream_table: StreamTable) -> str:
    """The present name of a stream table, quoted where needed; the registered one if the table is gone."""
    row = db.fetch_one(conn, QUERIES["present_name"], dict, {"relid": stream_table.relid})
    return row["quoted"] if row else stream_table.name
