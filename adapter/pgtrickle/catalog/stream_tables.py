"""``pgtrickle.stream_tables``: what is maintained, how, and in which state it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.sql import SQL, Composable, Identifier, Placeholder

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import NewStreamTable, StreamTable
from pgtrickle.errors import InternalError, StreamTableNotFound

_JSON = frozenset({"settings", "last_error", "definition", "fingerprint", "options"})
_CHANGEABLE = frozenset(StreamTable.__slots__) - {"id", "created_at", "altered_at"}


def insert(conn: db.Connection, new: NewStreamTable) -> int:
    """Register a stream table as INITIALIZING, with an empty frontier; its id.

    Raises:
        StatementFailed: sqlstate 23505, the table or its name is registered already.
    """
    return access.value(
        conn,
        "insert_stream_table",
        relid=new.relid,
        schema_name=new.schema_name,
        table_name=new.table_name,
        query=new.query,
        canonical_query=new.canonical_query,
        settings=access.jsonb(dict(new.settings)),
        requested_mode=new.requested_mode,
        effective_mode=new.effective_mode,
        mode_reason=new.mode_reason,
        schedule=new.schedule,
        schedule_seconds=new.schedule_seconds,
        definition=access.jsonb(dict(new.definition)),
        options=access.jsonb(dict(new.options)),
    )


def fetch_all(conn: db.Connection) -> tuple[StreamTable, ...]:
    """Every stream table, by id."""
    return access.rows(conn, "fetch_stream_tables", StreamTable)


def fetch(conn: db.Connection, stream_table_id: int) -> StreamTable | None:
    """The stream table with this id."""
    return access.row(conn, "fetch_stream_table", StreamTable, id=stream_table_id)


def fetch_by_relid(conn: db.Connection, relid: int) -> StreamTable | None:
    """The stream table that this relation is."""
    return access.row(conn, "fetch_stream_table_by_relid", StreamTable, relid=relid)


def fetch_by_name(conn: db.Connection, schema_name: str, table_name: str) -> StreamTable | None:
    """The stream table whose *present* name this is: a rename or a change of schema by hand is followed."""
    return access.row(conn, "fetch_stream_table_by_name", StreamTable, schema_name=schema_name, table_name=table_name)


def get(conn: db.Connection, schema_name: str, table_name: str) -> StreamTable:
    """As `fetch_by_name`, but it has to exist.

    Raises:
        StreamTableNotFound: no stream table has this name.
    """
    found = fetch_by_name(conn, schema_name, table_name)
    if found is None:
        raise StreamTableNotFound(
            "no stream table of this name is registered", object_name=f"{schema_name}.{table_name}"
        )
    return found


def update(conn: db.Connection, stream_table_id: int, **changes: Any) -> None:
    """Set columns of one row, for instance ``update(conn, 7, status="ACTIVE", status_reason=None)``.

    ``altered_at`` moves if ``query``, ``schedule``, ``requested_mode`` or ``options`` is among them.

    Raises:
        InternalError: a column does not exist or may not be changed; or there is no such row.
    """
    unknown = set(changes) - _CHANGEABLE
    if unknown or not changes:
        raise InternalError(f"not columns that can be changed: {sorted(unknown)}", object_name=str(stream_table_id))
    params: dict[str, Any] = {
        name: access.jsonb(dict(value)) if name in _JSON and isinstance(value, Mapping) else value
        for name, value in changes.items()
    }
    assignments: list[Composable] = [SQL("{} = {}").format(Identifier(name), Placeholder(name)) for name in changes]
    if set(changes) & {"query", "schedule", "requested_mode", "options"}:
        assignments.append(SQL("altered_at = pg_catalog.now()"))
    statement = SQL("UPDATE pgtrickle.stream_tables SET {} WHERE id = %(stream_table_id)s").format(
        SQL(", ").join(assignments)
    )
    if db.execute(conn, statement, {**params, "stream_table_id": stream_table_id}) != 1:
        raise InternalError("the stream table is not registered", object_name=str(stream_table_id))


def request_recompute(conn: db.Connection, stream_table_id: int, reason: str) -> None:
    """The next refresh recomputes. The first reason is kept."""
    access.run(conn, "request_recompute", id=stream_table_id, reason=reason)


def delete(conn: db.Connection, stream_table_id: int) -> None:
    """Forget a stream table with frontier, stages, dependencies, gates and messages. The history stays.

    Capture has to be released first (`pgtrickle.capture.release`).
    """
    access.run(conn, "delete_stream_table", id=stream_table_id)
