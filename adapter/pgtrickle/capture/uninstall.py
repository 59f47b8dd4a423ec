"""Leaving a database without a trace."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL, Composed, Identifier

from pgtrickle import db
from pgtrickle.capture.converge import remove, retire
from pgtrickle.capture.gently import shed
from pgtrickle.capture.relations import QUERIES
from pgtrickle.catalog import access, sources, stream_tables
from pgtrickle.catalog.model import Source
from pgtrickle.errors import DependentsExist, LockTimeout
from pgtrickle.names import CATALOG_SCHEMA, CHANGES_SCHEMA, STATE_SCHEMA
from pgtrickle.sql import comma_separated, qualified

_SCHEMAS = (STATE_SCHEMA, CHANGES_SCHEMA, CATALOG_SCHEMA)


def uninstall(conn: db.Connection, *, drop_stream_tables: bool = False, policy: db.LockPolicy | None = None) -> None:
    """Remove triggers, functions, buffers, state and the catalog.

    Stream tables become ordinary tables with their present content, or are dropped (never with CASCADE) if asked.
    Safe to repeat after a LockTimeout: what is removed is removed.

    Args:
        conn: not in a transaction.
        drop_stream_tables: drop them, too.
        policy: how long to wait for locks.

    Raises:
        DependentsExist: somebody's view reads our tables; nothing was done.
        LockTimeout: a source stayed locked; its triggers do nothing any more.
        StatementFailed: (drop) something depends on a stream table; nothing was dropped.
    """
    _refuse_foreign_views(conn)
    if drop_stream_tables:
        _drop_stream_tables(conn, policy)
    captured = sources.fetch_all(conn)
    with db.transaction(conn):
        access.run(conn, "release_everything")
        for source in captured:
            retire(conn, source)
    for source in captured:
        _remove(conn, source, policy)
    if not drop_stream_tables:
        _make_ordinary(conn, policy)
    _drop_schemas(conn, policy)


def clear(conn: db.Connection, *, policy: db.LockPolicy | None = None) -> tuple[str, ...]:
    """Remove everything of a catalog that knows nothing any more; what it guarded become ordinary tables.

    Safe to repeat after a LockTimeout.

    Args:
        conn: not in a transaction.
        policy: how long to wait for locks.

    Returns:
        The names of what were stream tables.

    Raises:
        DependentsExist: somebody's view reads our tables; nothing was done.
        LockTimeout: a table stayed locked.
    """
    _refuse_foreign_views(conn)
    guarded = db.fetch_all(conn, QUERIES["guarded"], _Guarded)
    for function in db.fetch_all(conn, QUERIES["functions"], _View):
        name = qualified(CHANGES_SCHEMA, function.name)
        db.ddl(conn, SQL("DROP FUNCTION IF EXISTS {}() CASCADE").format(name), policy=policy, object_name=function.name)
    for table in guarded:
        for found in db.fetch_all(conn, QUERIES["stream_table_leftovers"], _Leftovers, {"relid": table.relid}):
            db.ddl(conn, found.statements(), policy=policy, relids=[table.relid], object_name=table.name)
    _drop_schemas(conn, policy)
    return tuple(table.name for table in guarded)


def _drop_schemas(conn: db.Connection, policy: db.LockPolicy | None) -> None:
    schemas = comma_separated(Identifier(name) for name in _SCHEMAS)
    db.ddl(conn, SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schemas), policy=policy, object_name=CATALOG_SCHEMA)


@dataclass(frozen=True, slots=True)
class _Guarded:
    relid: int
    name: str


@dataclass(frozen=True, slots=True)
class _View:
    name: str


def _refuse_foreign_views(conn: db.Connection) -> None:
    found = db.fetch_all(conn, QUERIES["foreign_views"], _View, {"schemas": list(_SCHEMAS)})
    if found:
        raise DependentsExist(
            "views read the tables of pgtrickle",
            object_name=found[0].name,
            detail=", ".join(view.name for view in found),
            hint="Drop them first. Nothing was changed.",
        )


@dataclass(frozen=True, slots=True)
class _Leftovers:
    schema_name: str
    table_name: str
    triggers: list[str]
    indexes: list[str]

    def statements(self) -> list[Composed]:
        table = qualified(self.schema_name, self.table_name)
        return [
            *(SQL("DROP TRIGGER {} ON {}").format(Identifier(name), table) for name in self.triggers),
            *(SQL("DROP INDEX {}").format(qualified(self.schema_name, name)) for name in self.indexes),
            SQL("ALTER TABLE {} REPLICA IDENTITY DEFAULT").format(table),
        ]


def _make_ordinary(conn: db.Connection, policy: db.LockPolicy | None) -> None:
    for table in stream_tables.fetch_all(conn):
        for found in db.fetch_all(conn, QUERIES["stream_table_leftovers"], _Leftovers, {"relid": table.relid}):
            db.ddl(conn, found.statements(), policy=policy, relids=[table.relid], object_name=table.name)


def _drop_stream_tables(conn: db.Connection, policy: db.LockPolicy | None) -> None:
    tables = [qualified(table.schema_name, table.table_name) for table in stream_tables.fetch_all(conn)]
    if tables:
        db.ddl(conn, SQL("DROP TABLE IF EXISTS {}").format(comma_separated(tables)), policy=policy)


def _remove(conn: db.Connection, source: Source, policy: db.LockPolicy | None) -> None:
    name = f"{source.schema_name}.{source.table_name}"
    try:
        shed(conn, source, policy)
        db.under_lock_timeout(
            conn, lambda: remove(conn, source), policy=policy, relids=[source.relid], object_name=name
        )
    except LockTimeout as error:
        error.hint = "Capture is off already. End the transaction that holds the lock and uninstall again."
        raise
