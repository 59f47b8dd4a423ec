"""The frame of the refresh transaction: begin in the right order, savepoints, end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL, Identifier, Literal

from pgtrickle import db
from pgtrickle.catalog import groups, installation
from pgtrickle.catalog.groups import LockedRow
from pgtrickle.db import Query
from pgtrickle.refresh.compiled import own_path
from pgtrickle.refresh.member import Member
from pgtrickle.refresh.session import Session
from pgtrickle.refresh.windows import WindowOf, asked

if TYPE_CHECKING:
    from typing_extensions import LiteralString

#: One wait for one lock, milliseconds, unless deadlocks are looked for earlier. Autovacuum and lifecycle hold theirs
#: for less.
LOCK_TIMEOUT_MS = 3_000

#: Set in every refresh, after the settings of the definition. Time-outs that a role carries for its interactive
#: sessions would kill refreshes; RLS must raise instead of filter; windows change in size, so plans must be fresh. A
#: process that is stopped in the middle keeps its stream tables from everybody: for a minute, which to print a
#: statement never takes.
SESSION: Mapping[str, str] = {
    "row_security": "off",
    "jit": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "60000",
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
#: Making a plan takes longer than applying a few changes by it, so nearly all refreshes begin with this.
ONE_PLAN = SQL("SET LOCAL plan_cache_mode = force_generic_plan")
#: Large windows change in size, and their plans have to.
FRESH_PLANS = SQL("SET LOCAL plan_cache_mode TO DEFAULT")

#: LOCK TABLE knows tables only; what else is read has no change rows that could contradict it.
_LOCKABLE = ("r", "p")

_BEGIN = SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
_SETTINGS = {**SESSION, "plan_cache_mode": "force_generic_plan"}


def _since_17(conn: db.Connection) -> Mapping[str, str]:
    """One more time-out that a role may carry."""
    return {"transaction_timeout": "0"} if conn.info.server_version >= 170000 else {}


def begin(session: Session, members: Sequence[Member], wanted: Sequence[WindowOf], *, keep: bool) -> None:
    """Open the transaction: lock the sources before there is a snapshot, then the frontiers; fill ``member.locked``.

    Frontiers of members that are left alone are locked too: their dependents record how far they have read them.

    Args:
        session: outside a transaction.
        members: of the group.
        wanted: windows to be counted from the locked frontiers on.
        keep: what is said about the members is going to be remembered.

    Raises:
        LockTimeout, TransactionConflict: somebody else is at it; the transaction is open and aborted.
        CatalogError: it was migrated meanwhile.
    """
    running = [member for member in members if member.running]
    pinned = own_path(running[0].row.settings if running else {})
    began(session, pinned)
    known = [member.known.versions for member in members if member.known is not None]
    start = groups.begin(
        installation.known_version(),
        settings(session.conn, pinned),
        [member.row.id for member in members],
        [member.row.id for member in running],
        known if keep else None,
        [asked(window) for window in wanted],
    )
    _lock(session, members, [*opening(session.conn, running), start])


def opening(conn: db.Connection, members: Sequence[Member]) -> list[Query]:
    """The statements that open the transaction and lock what these members read, before there is a snapshot."""
    return [_BEGIN, lock_timeout(conn, LOCK_TIMEOUT_MS), *_source_locks(members)]


def settings(conn: db.Connection, pinned: Mapping[str, str]) -> Mapping[str, str]:
    """The settings that a refresh begins with, where these are those of its definition."""
    return {**pinned, **_SETTINGS, **_since_17(conn)}


def began(session: Session, pinned: Mapping[str, str]) -> None:
    """Note what has been set for the transaction that has just begun."""
    session.pinned, session.role, session.near, session.few = pinned, None, True, True


def lock_again(session: Session, members: Sequence[Member]) -> None:
    """Read the frontiers again after a prelude has changed the definition."""
    running = [member.row.id for member in members if member.running]
    _lock(session, members, [groups.lock([member.row.id for member in members], running)])


def _lock(session: Session, members: Sequence[Member], statements: Sequence[Query]) -> None:
    rows = db.batch(session.conn, statements, LockedRow)
    session.statements += 1
    locked = {row.id: row for row in rows}
    for member in members:
        member.locked = locked.get(member.row.id)


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
    return [_shared_lock(tuple(names))]


@lru_cache(maxsize=1024)
def _shared_lock(names: tuple[tuple[str, str], ...]) -> SQL:
    listed = SQL(", ").join(Identifier(*name) for name in names)
    return SQL(cast("LiteralString", SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed).as_string(None)))


def lock_timeout(conn: db.Connection, milliseconds: int) -> Query:
    """The statement that bounds every wait for a lock in this transaction; see ``db.shorter_than_deadlocks``."""
    return SQL("SET LOCAL lock_timeout = {}").format(Literal(db.shorter_than_deadlocks(conn, milliseconds)))


@dataclass(frozen=True, slots=True)
class Savepoint:
    """What the transaction's settings and role were when a savepoint was set."""

    pinned: Mapping[str, str]
    role: str | None
    near: bool
    few: bool


def savepoint(session: Session) -> Savepoint:
    """Open a savepoint for one member."""
    _send(session, SQL("SAVEPOINT member"))
    return Savepoint(session.pinned, session.role, session.near, session.few)


def rollback_to_savepoint(session: Session, before: Savepoint) -> None:
    """Undo what one member did; settings and role are undone with it."""
    _send(session, SQL("ROLLBACK TO SAVEPOINT member; RELEASE SAVEPOINT member"))
    session.pinned, session.role = before.pinned, before.role
    session.near, session.few = before.near, before.few


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
