"""``pgtrickle.runners`` and ``leases``: who works on what. Rows only, so it works behind PgBouncer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.errors import InternalError


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat brings back: the server's clock, the snapshot before it, and its own transaction id."""

    now: datetime
    snapshot: str
    xid: str


def beat(
    conn: db.Connection, runner_id: str, *, host: str, pid: int, engine_version: str, known: str | None = None
) -> Beat:
    """Register a runner, or say that it is still alive.

    Args:
        conn: a connection in autocommit.
        runner_id: whose heartbeat.
        host: its host.
        pid: its process.
        engine_version: its version.
        known: a snapshot. If it is still the present one, what was checked then holds until now.
    """
    found = access.row(
        conn, "runner_beat", Beat, runner_id=runner_id, host=host, pid=pid, engine_version=engine_version, known=known
    )
    if found is None:
        raise InternalError("a heartbeat returned nothing", object_name=runner_id)
    return found


def current_snapshot(conn: db.Connection) -> str:
    """The snapshot of this moment: as long as it stays the same, nothing was committed in the whole cluster."""
    return access.value(conn, "current_snapshot")


def checked(conn: db.Connection, runner_id: str, at: datetime, unchecked: Sequence[int]) -> tuple[str, str] | None:
    """Say that at this moment all stream tables but these were as their queries say.

    Returns:
        The snapshot before this was written, and the transaction id that it was written by.
    """
    params = {"runner_id": runner_id, "at": at, "unchecked": list(unchecked)}
    found = access.row(conn, "runner_checked", dict, **params)
    return None if found is None else (found["snapshot"], found["xid"])


def drifted(conn: db.Connection, stream_table_ids: Sequence[int]) -> frozenset[int]:
    """Those of them whose sources are not as they were recorded (columns, triggers, functions ...); writes nothing."""
    return frozenset(row["id"] for row in access.rows(conn, "drifted", dict, ids=list(stream_table_ids)))


def delete(conn: db.Connection, runner_id: str) -> None:
    """Forget a runner and its leases; until when it knew stream tables to be unchanged is kept."""
    access.run(conn, "delete_runner", runner_id=runner_id)


def delete_silent(conn: db.Connection, *, older_than_s: float) -> int:
    """Forget runners without a heartbeat for this long, with their leases; how many."""
    return access.run(conn, "delete_silent_runners", older_than_s=older_than_s)


def acquire(conn: db.Connection, runner_id: str, stream_table_ids: Sequence[int], *, seconds: float) -> frozenset[int]:
    """Lease those of the stream tables that are free, expired or ours (in id order, SKIP LOCKED).

    Args:
        conn: a connection in autocommit.
        runner_id: a registered runner.
        stream_table_ids: what it wants.
        seconds: how long the lease lasts unless it is released.

    Returns:
        The ids that this runner holds now.
    """
    found = access.rows(conn, "acquire_leases", dict, runner_id=runner_id, ids=list(stream_table_ids), seconds=seconds)
    return frozenset(row["id"] for row in found)


def release(conn: db.Connection, runner_id: str, stream_table_ids: Sequence[int]) -> None:
    """Give leases back."""
    access.run(conn, "release_leases", runner_id=runner_id, ids=list(stream_table_ids))
