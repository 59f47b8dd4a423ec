"""Dropping a stream table, or releasing it as an ordinary table."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Identifier

from pgtrickle import capture, db
from pgtrickle.catalog import groups, sources, stream_tables
from pgtrickle.catalog.model import StreamTable
from pgtrickle.db import Query
from pgtrickle.errors import DependentsExist, StatementFailed
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.history import record_definition
from pgtrickle.lifecycle.target import QUERIES, present_relation, quoted_name, resolve, resolve_stream_table
from pgtrickle.plan import Relation
from pgtrickle.refresh import Session
from pgtrickle.results import DropResult

#: What the registration says between the two transactions of a drop; whoever finds it later finishes the drop.
_DROPPING, _RELEASING = "being dropped", "being released"


def drop(
    session: Session, name: str, *, cascade: bool, if_exists: bool, policy: db.LockPolicy | None = None
) -> DropResult:
    """Drop a stream table and, with ``cascade``, the stream tables that depend on it.

    Raises:
        DependentsExist: others depend on it; nothing was dropped.
        StreamTableNotFound: unless ``if_exists``.
    """
    if if_exists and resolve(session.conn, name).stream_table is None:
        return DropResult(())
    found = resolve_stream_table(session.conn, name)
    chosen = [*_descendants(session.conn, found), found]
    if len(chosen) > 1 and not cascade:
        raise DependentsExist(
            "Other stream tables depend on it.",
            object_name=found.name,
            detail=", ".join(dependent.name for dependent in chosen[:-1]),
            hint="Drop them first, or use cascade=True.",
        )
    refuse_dependents(session.conn, chosen)
    names = []
    for stream_table in chosen:
        names.append(quoted_name(session.conn, stream_table))
        discard(session, stream_table, policy)
        record_definition(session, stream_table, "dropped")
    return DropResult(tuple(names))


def release(session: Session, name: str, *, policy: db.LockPolicy | None = None) -> None:
    """Forget a stream table; the table stays with its content.

    Raises:
        DependentsExist: stream tables read it (they would not see its changes any more).
    """
    found = resolve_stream_table(session.conn, name)
    dependents = _descendants(session.conn, found)
    if dependents:
        raise DependentsExist(
            "Other stream tables depend on it.",
            object_name=found.name,
            detail=", ".join(dependent.name for dependent in dependents),
            hint="Drop them first.",
        )
    discard(session, found, policy, keep_table=True)
    record_definition(session, found, "released")


def discard(
    session: Session, stream_table: StreamTable, policy: db.LockPolicy | None, *, keep_table: bool = False
) -> None:
    """Remove a stream table with all that it owns, and its capture as far as nobody else needs it.

    Safe to repeat: the registration goes last.
    """
    conn = session.conn
    parents = [
        dependency.source_stream_table_id
        for dependency in sources.dependencies(conn, stream_table.id)
        if dependency.source_stream_table_id is not None
    ]
    exists = db.fetch_one(conn, QUERIES["present_name"], dict, {"relid": stream_table.relid}) is not None
    relation = present_relation(conn, stream_table.relid) if exists else None

    def work() -> None:
        # Waits for a refresh that is under way; one that is about to begin starts again and finds nothing.
        groups.touch(conn, [stream_table.id])
        for statement in _table_statements(relation, keep_table=keep_table):
            db.execute(conn, statement)
        storage.drop_stage_tables(conn, stream_table.id)
        db.execute(conn, storage.drop_log(stream_table.id))
        stream_tables.update(
            conn, stream_table.id, status="SUSPENDED", status_reason=_RELEASING if keep_table else _DROPPING
        )

    try:
        db.under_lock_timeout(
            conn, work, policy=policy, relids=[stream_table.relid] if exists else [], object_name=stream_table.name
        )
    except StatementFailed as error:
        if error.sqlstate != "2BP01":
            raise
        raise DependentsExist(
            "Other objects depend on it.", object_name=stream_table.name, detail=error.detail, hint="Drop them first."
        ) from error
    capture.release(conn, stream_table.id, policy=policy)
    stream_tables.delete(conn, stream_table.id)
    session.compiled.pop(stream_table.id, None)
    drop_idle_logs(conn, parents)


def discard_by_id(session: Session, stream_table_id: int) -> None:
    """Forget a stream table whose table is gone.

    Raises:
        DependentsExist: stream tables read it.
    """
    found = stream_tables.fetch(session.conn, stream_table_id)
    if found is None:
        return
    dependents = _descendants(session.conn, found)
    if dependents:
        raise DependentsExist(
            "Other stream tables depend on it.",
            object_name=found.name,
            detail=", ".join(dependent.name for dependent in dependents),
            hint="Drop them first.",
        )
    discard(session, found, None)
    record_definition(session, found, "forgotten: its table was dropped")


def finish_drops(session: Session, policy: db.LockPolicy | None = None) -> None:
    """Finish what somebody began who died: drops, releases, and the logs and captured columns that nobody reads now.

    Nobody has to be dead: everything here may be done twice, and at the same time.
    """
    for stream_table in stream_tables.fetch_all(session.conn):
        if stream_table.status == "SUSPENDED" and stream_table.status_reason in (_DROPPING, _RELEASING):
            discard(session, stream_table, policy, keep_table=stream_table.status_reason == _RELEASING)
            record_definition(
                session, stream_table, "dropped" if stream_table.status_reason == _DROPPING else "released"
            )
    drop_idle_logs(session.conn, [row["id"] for row in db.fetch_all(session.conn, QUERIES["idle_logs"], dict)])
    capture.narrow(session.conn, policy)


def drop_idle_logs(conn: db.Connection, stream_table_ids: Sequence[int]) -> None:
    """Drop the output logs of stream tables that have no dependents any more."""
    for stream_table_id in sorted(set(stream_table_ids)):
        if sources.dependents(conn, stream_table_id):
            continue

        def work(stream_table_id: int = stream_table_id) -> None:
            groups.touch(conn, [stream_table_id])
            if not sources.dependents(conn, stream_table_id):
                db.execute(conn, storage.drop_log(stream_table_id))

        db.under_lock_timeout(conn, work)


def _table_statements(relation: Relation | None, *, keep_table: bool) -> list[Query]:
    if relation is None:
        return []
    if keep_table:
        return storage.unguard(relation)
    return [SQL("DROP TABLE {}").format(Identifier(relation.schema, relation.name))]


def refuse_dependents(conn: db.Connection, chosen: Sequence[StreamTable]) -> None:
    """Refuse to drop what views, foreign keys or other objects depend on.

    Raises:
        DependentsExist: with all of them.
    """
    for stream_table in chosen:
        found = db.fetch_all(conn, QUERIES["foreign_dependents"], dict, {"relid": stream_table.relid})
        if found:
            raise DependentsExist(
                "Other objects depend on it.",
                object_name=stream_table.name,
                detail=", ".join(row["description"] for row in found),
                hint="Drop them first; cascade drops stream tables only.",
            )


def _descendants(conn: db.Connection, stream_table: StreamTable) -> list[StreamTable]:
    """All that depend on it, directly or not, dependents first."""
    ordered: list[int] = []

    def visit(stream_table_id: int) -> None:
        for dependent in sources.dependents(conn, stream_table_id):
            visit(dependent)
            if dependent not in ordered:
                ordered.append(dependent)

    visit(stream_table.id)
    found = [stream_tables.fetch(conn, one) for one in ordered]
    return [one for one in found if one is not None]
