"""Watching stream tables follow their sources, through the public API only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from pgtrickle.api import HistoryRow, PgTrickle

#: A refresh that wrote nothing is not worth a line in the statistics.
WORKED = ("DIFFERENTIAL", "FULL")

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Work:
    """What the runner did in a period.

    Attributes:
        refreshes: how many refreshes changed something.
        duration_ms: their time in total.
        full: how many ran FULL.
        rows: rows written in stream tables.
        failures: error texts.
    """

    refreshes: int
    duration_ms: float
    full: int
    rows: int
    failures: tuple[str, ...]


def server_time(connection: psycopg.Connection[Any]) -> datetime:
    """The server's clock, which all of its timestamps share."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]


def wait_until_current(trickle: PgTrickle, committed: datetime) -> float | None:
    """Wait until every stream table is known to show all that was committed by then.

    Returns:
        Seconds waited, or None if it did not happen in ``PATIENCE_SECONDS``.
    """
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE_SECONDS:
        if all(row.data_timestamp is not None and row.data_timestamp >= committed for row in trickle.status()):
            return time.monotonic() - started
        time.sleep(POLL_SECONDS)
    return None


def flown(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Flights that took off: as the last stream table of the diamond counts them, and as they are."""
    row = connection.execute(
        """
        SELECT (SELECT sum(flights) FROM analytics.scorecard)::bigint,
               (SELECT count(*) FROM nyc.flights WHERE dep_time IS NOT NULL)
        """
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def work_since(trickle: PgTrickle, since: datetime) -> Work:
    """What the history says about the refreshes that began after ``since``."""
    rows = [row for row in trickle.history(limit=2000) if row.started_at > since]
    worked = [row for row in rows if row.action in WORKED]
    return Work(
        refreshes=len(worked),
        duration_ms=sum(row.duration_ms for row in worked),
        full=sum(row.action == "FULL" for row in worked),
        rows=sum(_rows(row) for row in worked),
        failures=tuple(f"{row.name}: {row.error}" for row in rows if row.error),
    )


def _rows(row: HistoryRow) -> int:
    return row.rows_inserted + row.rows_updated + row.rows_deleted
