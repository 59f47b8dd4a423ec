"""The same day of changes refreshed in three ways, side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pgtrickle.api import PgTrickle


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds for one stream table.

    Attributes:
        name: of the stream table.
        rows: rows in it.
        changed: rows of it that were written.
        action: what the first refresh did.
        reason: why that was not DIFFERENTIAL, if it could have been.
        how: strategies of its stages.
        differential: refresh by the changes.
        full: the same stream table computed again in full, applied as a difference.
        materialized: REFRESH MATERIALIZED VIEW of the same query.
    """

    name: str
    rows: int
    changed: int
    action: str
    reason: str | None
    how: str
    differential: float
    full: float
    materialized: float

    @property
    def factor(self) -> float | None:
        """How many times longer FULL takes; None if there was nothing to do."""
        return self.full / max(self.differential, 0.1) if self.action == "DIFFERENTIAL" else None


def make_baseline(connection: psycopg.Connection[Any], trickle: PgTrickle, names: list[str]) -> None:
    """A materialized view with the same query beside each stream table."""
    connection.execute("CREATE SCHEMA baseline")
    for name in names:
        query = trickle.explain(name).canonical.rstrip().rstrip(";")
        statement = sql.SQL("CREATE MATERIALIZED VIEW {} AS {}").format(_baseline(name), sql.SQL(query))  # pyright: ignore[reportArgumentType]
        connection.execute(statement)


def compare(connection: psycopg.Connection[Any], trickle: PgTrickle, names: list[str]) -> list[Timing]:
    """Refresh each stream table by its changes, then in full, then its materialized view.

    Args:
        connection: for the baseline.
        trickle: for the stream tables.
        names: in dependency order, so that each refresh is its own work alone.
    """
    by_changes = {name: trickle.refresh_stream_table(name) for name in names}
    timings = []
    for name in names:
        full = trickle.refresh_stream_table(name, full=True)
        started = time.perf_counter()
        connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(_baseline(name)))
        materialized = (time.perf_counter() - started) * 1000
        first = by_changes[name]
        timings.append(
            Timing(
                name=short(name),
                rows=_rows(connection, name),
                changed=first.rows_changed,
                action=first.action,
                reason=first.fallback_reason,
                how=_how(trickle, name),
                differential=first.duration_ms,
                full=full.duration_ms,
                materialized=materialized,
            )
        )
    return timings


def equals_query(connection: psycopg.Connection[Any], trickle: PgTrickle, name: str) -> bool:
    """Compare a stream table with its query by plain SQL in both directions, without the engine's own verify."""
    query = sql.SQL(trickle.explain(name).canonical.rstrip().rstrip(";"))  # pyright: ignore[reportArgumentType]
    statement = sql.SQL(
        "SELECT NOT EXISTS ((TABLE {table} EXCEPT ALL ({query})) UNION ALL (({query}) EXCEPT ALL TABLE {table}))"
    ).format(table=_relation(name), query=query)
    row = connection.execute(statement).fetchone()
    return row is not None and bool(row[0])


def short(name: str) -> str:
    """The name without its schema."""
    return name.rpartition(".")[2]


def _how(trickle: PgTrickle, name: str) -> str:
    words = {
        "delta": "delta",
        "delta with state": "state",
        "recompute affected keys": "affected keys",
        "recompute and compare": "recompute",
    }
    return ", ".join(dict.fromkeys(words.get(stage.strategy, stage.strategy) for stage in trickle.explain(name).stages))


def _rows(connection: psycopg.Connection[Any], name: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_relation(name))).fetchone()
    assert row is not None
    return row[0]


def _relation(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))


def _baseline(name: str) -> sql.Identifier:
    return sql.Identifier("baseline", short(name))
