"""The frame of the refresh transaction: begin in the right order, savepoints, end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Identifier, Literal

from pgtrickle import db
from pgtrickle.catalog import groups, installation
from pgtrickle.catalog.groups import LockedRow
from pgtrickle.db import Query
from pgtrickle.refresh.compiled import pinned
from pgtrickle.refresh.member import Member
from pgtrickle.refresh.session import Session

#: One wait for one lock, milliseconds, unless deadlocks are looked for earlier. Autovacuum and lifecycle hold theirs
#: for less.
LOCK_TIMEOUT_MS = 3_000

#: Set in every refresh, after the settings of the definition. Time-outs that a role carries for its interactive
#: sessions would kill refreshes; RLS must raise instead of filter; windows change in size, so plans must be fresh.
SESSION: Mapping[str, str] = {
    "row_security": "off",
    "jit": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "600000",
    "join_collapse_limit": "12",
    "from_collapse_limit": "12",
}

#: A delta looks up a few rows in tables that were written a moment ago, so their pages are in memory. With the default
#: costs of a spinning disk the planner reads a whole state table instead of 3 % of it by its index.
NEAR = SQL(
    "SELECT pg_catalog.set_config('random_page_cost', least(1.1,"
    " pg_catalog.current_setting('random_page_cost')::pg_catalog.float8)::text, true)"
)
#: What is read whole is planned as the user's own queries are.
FAR = SQL("SET LOCAL random_page_cost TO DEFAULT")

#: LOCK TABLE knows tables only; what else is read has no change rows that could contradict it.
_LOCKABLE = ("r", "p")

_BEGIN = SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
#: Read by the guard trigger of stream tables: only a refresh may write to them.
GUARD = SQL("SELECT pg_catalog.set_config('pgtrickle.refreshing', pg_catalog.pg_backend_pid()::text, true)")
_VERSION = SQL("SELECT pgtrickle.require_version({})").format(Literal(installation.known_version()))


def begin(session: Session, members: Sequence[Member], last: Query | None = None) -> list[dict[str, Any]]:
    """Open the transaction: lock the sources before there is a snapshot, then the frontiers; fill ``member.locked``.

    Frontiers of members that are left alone are locked too: their dependents record how far they have read them.

    Args:
        session: outside a transaction.
        members: of the group.
        last: a query to be sent along; it sees the snapshot of the refresh.

    Returns:
        The rows of ``last``.

    Raises:
        LockTimeout, TransactionConflict: somebody else is at it; the transaction is open and aborted.
        CatalogError: it was migrated meanwhile.
    """
    running = [member for member in members if member.running]
    session.pinned = running[0].row.settings if running else {}
    session.role, session.near = None, True
    settings = pinned({**session.pinned, **SESSION})
    before = [_BEGIN, lock_timeout(session.conn, LOCK_TIMEOUT_MS), *_source_locks(running), GUARD, _VERSION]
    before += [settings, NEAR]
    return _lock_frontiers(session, members, before, [] if last is None else [last])


def lock_again(session: Session, members: Sequence[Member]) -> None:
    """Read the frontiers again after a prelude has changed the definition."""
    _lock_frontiers(session, members, [], [])


def _lock_frontiers(
    session: Session, members: Sequence[Member], before: Sequence[Query], after: Sequence[Query]
) -> list[dict[str, Any]]:
    running = [member.row.id for member in members if member.running]
    lock = groups.lock([member.row.id for member in members], running)
    sets = db.batch_sets(session.conn, [*before, lock, *after])
    session.statements += 1
    locked = {row["id"]: LockedRow(**row) for row in sets[len(before)]}
    for member in members:
        member.locked = locked.get(member.row.id)
    return sets[-1] if after else []


def _source_locks(members: Sequence[Member]) -> list[Query]:
    """LOCK TABLE takes no snapshot and locks partitions too; what is above a partition is locked by name."""
    tables: dict[int, tuple[str, str]] = {}
    above: set[tuple[str, str]] = set()
    for member in members:
        for source in member.row.sources:
            if source.schema and source.name and source.relkind in _LOCKABLE:
                tables[source.relid] = (source.schema, source.name)
            above.update((schema, name) for schema, name in source.above or ())
    names = [tables[relid] for relid in sorted(tables)]
    names += sorted(above - set(names))
    if not names:
        return []
    listed = SQL(", ").join(Identifier(*name) for name in names)
    return [SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed)]


def lock_timeout(conn: db.Connection, milliseconds: int) -> Query:
    """The statement that bounds every wait for a lock in this transaction; see ``db.shorter_than_deadlocks``."""
    return SQL("SET LOCAL lock_timeout = {}").format(Literal(db.shorter_than_deadlocks(conn, milliseconds)))


@dataclass(frozen=True, slots=True)
class Savepoint:
    """What the transaction's settings and role were when a savepoint was set."""

    pinned: Mapping[str, str]
    role: str | None
    near: bool


def savepoint(session: Session) -> Savepoint:
    """Open a savepoint for one member."""
    _send(session, SQL("SAVEPOINT member"))
    return Savepoint(session.pinned, session.role, session.near)


def rollback_to_savepoint(session: Session, before: Savepoint) -> None:
    """Undo what one member did; settings and role are undone with it."""
    _send(session, SQL("ROLLBACK TO SAVEPOINT member; RELEASE SAVEPOINT member"))
    session.pinned, session.role, session.near = before.pinned, before.role, before.near


def release_savepoint(session: Session) -> None:
    """Keep what one member did."""
    _send(session, SQL("RELEASE SAVEPOINT member"))


def rollback(conn: db.Connection) -> None:
    """End the transaction without a trace; nothing if there is none."""
    if not conn.closed and conn.info.transaction_status != conn.info.transaction_status.IDLE:
        db.execute(conn, SQL("ROLLBACK"))


def _send(session: Session, statement: Query) -> None:
    db.execute(session.conn, statement)
    session.statements += 1
