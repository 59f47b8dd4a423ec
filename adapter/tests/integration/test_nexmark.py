"""The queries of Nexmark over an auction house: rows come late, are corrected, and go."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support import nexmark
from tests.support.benchmarks import Window, follow


def more(events: int) -> Window:
    return lambda conn: nexmark.happen(conn, events)


def everything(conn: psycopg.Connection[Any]) -> None:
    """New events between two corrections, and a transaction that comes to nothing: all in one window."""
    nexmark.correct(conn)
    with conn.transaction(force_rollback=True):
        conn.execute("DELETE FROM bid; UPDATE auction SET category = 10")
    nexmark.happen(conn, 300)
    nexmark.correct(conn)


#: Appending is what the benchmark does; tables are not append-only.
WINDOWS: dict[str, Window] = {
    "events": more(400),
    "corrections": nexmark.correct,
    "everything at once": everything,
}
MORE_WINDOWS: dict[str, Window] = {
    **WINDOWS,
    **{f"events {number}": more(1000) for number in range(3)},
    **{f"everything {number}": everything for number in range(4)},
    "no bids": lambda conn: conn.execute("DELETE FROM bid"),
    "bids again": more(700),
    "nobody": lambda conn: conn.execute("DELETE FROM person; DELETE FROM side_input"),
}


@pytest.mark.newest_by_default
def test_the_queries_equal_their_definitions_while_events_come_late_and_are_corrected(
    conn: psycopg.Connection[Any], engine: PgTrickle
) -> None:
    nexmark.create(conn)
    nexmark.happen(conn, 1200)
    queries = nexmark.queries()
    assert len(queries) == 23
    follow(conn, engine, queries, WINDOWS, nexmark.TABLES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_longer_history_ends_with_empty_tables(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    nexmark.create(conn)
    nexmark.happen(conn, 10_000)
    follow(conn, engine, nexmark.queries(), MORE_WINDOWS, nexmark.TABLES)
