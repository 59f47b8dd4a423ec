"""``pgtrickle.runners`` and ``leases``: who works on what. Rows only, so it works behind PgBouncer."""

from __future__ import annotations

from collections.abc import Sequence

from pgtrickle import db
from pgtrickle.catalog import access


def beat(conn: db.Connection, runner_id: str, *, host: str, pid: int, engine_version: str) -> None:
    """Register a runner, or say that it is still alive."""
    access.run(conn, "runner_beat", runner_id=runner_id, host=host, pid=pid, engine_version=engine_version)


def delete(conn: db.Connection, runner_id: str) -> None:
    """Forget a runner and its leases."""
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
