"""DDL that never makes others wait: low lock_timeout, back-off, and in the end an error that names the blocker."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgtrickle.db.connection import Connection, shorter_than_deadlocks
from pgtrickle.db.statements import Query, execute, fetch_all, transaction
from pgtrickle.errors import LockTimeout, StatementFailed, TransactionConflict

if TYPE_CHECKING:
    from typing_extensions import LiteralString

T = TypeVar("T")

_NUMBERS = itertools.count()

_CANCELED = "57014"
_BOUNDS = SQL("SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}")
_NOT_AVAILABLE = "55P03"
_PATIENCE_AS_FOR_ONE = SQL(
    "SELECT pg_catalog.set_config('statement_timeout', s.setting, true)"
    " FROM pg_catalog.pg_settings s WHERE s.name = 'lock_timeout'"
)

_HOLDERS = SQL(
    """
    SELECT l.pid, l.mode, c.oid::pg_catalog.regclass::text AS relation, a.state, a.query,
           (SELECT p.gid FROM pg_catalog.pg_prepared_xacts p
            JOIN pg_catalog.pg_locks x ON x.locktype = 'transactionid' AND x.transactionid = p.transaction
            WHERE l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction) AS gid
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY (%(relids)s::oid[])
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND (%(any_mode)s OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
    ORDER BY a.xact_start NULLS FIRST
    """
)


@dataclass(frozen=True, slots=True)
class LockPolicy:
    """How long to wait for locks.

    Attributes:
        lock_timeout_ms: one attempt, milliseconds. Everybody who comes after us waits this long at most.
        give_up_after_s: all attempts together, seconds.
        never_wait_for: backend pid that waits for us itself (dbt's session): fail at once if it holds the lock.
        stopped_after_ms: statements follow each other at once while locks are held that writers wait for. If none comes
            for so long, the process was stopped or its host is gone, and nobody waits until it is back. Milliseconds.
    """

    lock_timeout_ms: int = 150
    give_up_after_s: float = 60.0
    never_wait_for: int | None = None
    stopped_after_ms: int = 5000


@dataclass(frozen=True, slots=True)
class _Holder:
    pid: int | None
    mode: str
    relation: str
    state: str | None
    query: str | None
    gid: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return f"prepared transaction {self.gid!r} holds {self.mode} on {self.relation}"
        return f"pid {self.pid} ({self.state}) holds {self.mode} on {self.relation}, last query: {self.query}"


def _holders(conn: Connection, relids: Sequence[int]) -> tuple[_Holder, ...]:
    """Who holds locks on these tables: the strong ones, or any if nobody holds a strong one."""
    strong = fetch_all(conn, _HOLDERS, _Holder, {"relids": list(relids), "any_mode": False})
    return strong or fetch_all(conn, _HOLDERS, _Holder, {"relids": list(relids), "any_mode": True})


def _give_up(error: LockTimeout, holders: Sequence[_Holder], object_name: str | None, waited: float) -> LockTimeout:
    given_up = LockTimeout(
        f"no lock within {waited:.1f} s",
        object_name=object_name,
        detail="; ".join(map(str, holders)) or error.detail or "who held it was gone when we looked",
        hint="End the transaction that holds the lock, or raise the install timeout.",
    )
    given_up.sqlstate = error.sqlstate
    return given_up


def under_lock_timeout(
    conn: Connection,
    work: Callable[[], T],
    *,
    policy: LockPolicy | None = None,
    relids: Sequence[int] = (),
    object_name: str | None = None,
) -> T:
    """Run ``work`` in a transaction of its own under a low ``lock_timeout``; again after a growing, random pause.

    Args:
        conn: not inside a transaction.
        work: what to do; may run several times, each in a new transaction.
        policy: how long to wait.
        relids: tables whose lock holders are named when we give up.
        object_name: for errors.

    Returns:
        What ``work`` returned.

    Raises:
        LockTimeout: the time is over; the detail names who holds the lock and what it runs.
    """
    policy = policy or LockPolicy()
    start = time.monotonic()
    pause = policy.lock_timeout_ms / 1000
    while True:
        try:
            with transaction(conn, object_name=object_name):
                wait = shorter_than_deadlocks(conn, policy.lock_timeout_ms)
                execute(conn, _BOUNDS.format(Literal(wait), Literal(policy.stopped_after_ms)))
                return work()
        except (LockTimeout, TransactionConflict) as error:
            waited = time.monotonic() - start
            holders = _holders(conn, relids)
            hopeless = any(holder.pid == policy.never_wait_for for holder in holders if holder.pid is not None)
            if hopeless or waited + pause > policy.give_up_after_s:
                if isinstance(error, TransactionConflict):
                    raise
                raise _give_up(error, holders, object_name, waited) from error
        time.sleep(pause * random.uniform(0.5, 1.5))  # jitter, no secret
        pause = min(pause * 1.5, 2.0)


class GaveUp(LockTimeout):
    """No lock after many attempts; whoever is told need not try again."""


def keep_out(
    conn: Connection, table: tuple[str, str], relid: int, *, policy: LockPolicy, object_name: str | None = None
) -> None:
    """Lock a table against its readers too, in the middle of a transaction that is not to be begun again.

    Again and again for a moment, as `under_lock_timeout`; what the transaction has done stays. Having the lock, the
    transaction is ended by the server if its next statement does not come soon.

    Args:
        conn: inside a transaction.
        table: schema and name.
        relid: its OID, to name who holds it.
        policy: how long to wait.
        object_name: for errors.

    Raises:
        GaveUp: the time is over; the detail names who holds the lock and what it runs. The transaction is intact.
    """
    start, pause = time.monotonic(), policy.lock_timeout_ms / 1000
    bounds = _BOUNDS.format(
        Literal(shorter_than_deadlocks(conn, policy.lock_timeout_ms)), Literal(policy.stopped_after_ms)
    )
    lock = SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(Identifier(*table))
    while True:
        try:
            with transaction(conn):
                execute(conn, SQL(";\n").join([bounds, lock]))
            return
        except LockTimeout as error:
            waited = time.monotonic() - start
            holders = _holders(conn, [relid])
            hopeless = any(holder.pid == policy.never_wait_for for holder in holders if holder.pid is not None)
            if hopeless or waited + pause > policy.give_up_after_s:
                late = _give_up(error, holders, object_name, waited)
                raise GaveUp(late.message, object_name=object_name, detail=late.detail, hint=late.hint) from error
        time.sleep(pause * random.uniform(0.5, 1.5))  # jitter, no secret
        pause = min(pause * 1.5, 2.0)


def lock_together(conn: Connection, lock: Query | None, then: Sequence[Composable] = ()) -> None:
    """Lock several tables by one statement that waits for all of them together no longer than for one, and go on.

    ``lock_timeout`` counts for each lock anew, and meanwhile those that we have keep others waiting. All goes in one
    message: whoever waits for us waits for the server, not for the way from it to us and back.

    Args:
        conn: inside `under_lock_timeout`.
        lock: LOCK TABLE; None: nothing is to be locked, or by ``then``.
        then: statements without parameters.

    Raises:
        LockTimeout: not within the lock_timeout in force.
    """
    if lock is None and not then:
        return
    if not conn.shared:
        # After DDL the driver does so by itself: another message. It looks at what a statement does only when it
        # has not seen it before; of a second one of the same text it would not know that all it has prepared is gone.
        execute(conn, SQL(cast("LiteralString", f"DEALLOCATE ALL /* {next(_NUMBERS)} */")))
    statements = [_PATIENCE_AS_FOR_ONE, lock, SQL("SET LOCAL statement_timeout = 0")] if lock is not None else []
    try:
        execute(conn, SQL(";\n").join([*statements, *then]))
    except StatementFailed as error:
        # A time-out that comes when the lock is granted ends the next statement.
        if error.sqlstate != _CANCELED or lock is None:
            raise
        late = LockTimeout("no lock on all tables together", detail=error.detail)
        late.sqlstate = _NOT_AVAILABLE
        raise late from error


def ddl(
    conn: Connection,
    statements: Query | Sequence[Query],
    *,
    policy: LockPolicy | None = None,
    relids: Sequence[int] = (),
    object_name: str | None = None,
) -> None:
    """Run statements in one transaction, in one message, as `under_lock_timeout` does."""
    several = [statements] if isinstance(statements, (SQL, Composed)) else list(statements)

    def work() -> None:
        execute(conn, SQL(";\n").join(several), object_name=object_name)

    under_lock_timeout(conn, work, policy=policy, relids=relids, object_name=object_name)
