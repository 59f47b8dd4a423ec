"""``pgtrickle.refresh_history``: what was done, what was not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import HistoryEntry


def now(conn: db.Connection) -> datetime:
    """The server's clock."""
    return access.value(conn, "clock")


def insert(conn: db.Connection, entry: HistoryEntry) -> int:
    """Add an attempt; its id. ``entry.id`` is ignored."""
    values = asdict(entry)
    del values["id"]
    values["error"] = None if entry.error is None else access.jsonb(dict(entry.error))
    return access.value(conn, "insert_history", **values)


def fetch(
    conn: db.Connection, stream_table_id: int | None = None, *, limit: int = 20, actions: Sequence[str] | None = None
) -> tuple[HistoryEntry, ...]:
    """The latest attempts, newest first, of one stream table or of all."""
    return access.rows(
        conn,
        "fetch_history",
        HistoryEntry,
        id=stream_table_id,
        limit=limit,
        actions=None if actions is None else list(actions),
    )


def prune(conn: db.Connection) -> int:
    """Delete what is older than ``installation.history_retention`` (the latest of each stream table stays)."""
    return access.run(conn, "prune_history")
