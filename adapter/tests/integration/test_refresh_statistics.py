"""Large windows are analysed where they are joined; small ones, and those of one table, are not."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support import oracle

pytestmark = pytest.mark.newest_only

JOINED = "SELECT a.id, a.v, b.w FROM a JOIN b ON b.id = a.b"
ALONE = "SELECT b, count(*) AS n FROM a GROUP BY b"


@pytest.fixture
def tables(conn: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    conn.execute("CREATE TABLE b (id integer PRIMARY KEY, w integer)")
    conn.execute("CREATE TABLE a (id integer PRIMARY KEY, b integer, v integer)")
    conn.execute("INSERT INTO b SELECT i, i FROM generate_series(1, 50) i")
    conn.execute("INSERT INTO a SELECT i, i % 50, 0 FROM generate_series(1, 3000) i")
    return conn


def analyzed(conn: psycopg.Connection[Any]) -> int:
    """How many columns of change buffers have statistics."""
    query = "SELECT count(*) FROM pg_catalog.pg_stats WHERE schemaname = 'pgtrickle_changes'"
    found = conn.execute(query).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize(
    ("query", "rows", "expected"), [(JOINED, 2000, True), (JOINED, 20, False), (ALONE, 2000, False)]
)
def test_a_large_window_is_analysed_if_it_is_joined(
    engine: PgTrickle, tables: psycopg.Connection[Any], query: str, rows: int, expected: bool
) -> None:
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    assert analyzed(tables) == 0
    tables.execute("UPDATE a SET v = v + 1, b = (b + 1) %% 50 WHERE id <= %s", (rows,))
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    assert (analyzed(tables) > 0) is expected
    oracle.assert_same_rows(tables, "s", query)


def test_who_reads_the_same_window_in_the_same_transaction_finds_it_analysed(
    engine: PgTrickle, tables: psycopg.Connection[Any]
) -> None:
    for name in ("s1", "s2"):
        engine.create_stream_table(name, JOINED, refresh_mode="DIFFERENTIAL")
    engine.create_stream_table("top", "SELECT s1.id, s2.w FROM s1 JOIN s2 USING (id)", refresh_mode="DIFFERENTIAL")
    tables.execute("UPDATE a SET b = 7 WHERE id <= 2000")
    engine.refresh_stream_table("top")
    assert analyzed(tables) > 0
    for name in ("s1", "s2"):
        oracle.assert_same_rows(tables, name, JOINED)
    oracle.assert_same_rows(tables, "top", "SELECT a.id, b.w FROM a JOIN b ON b.id = a.b")
