"""A small change of a large graph reads little: rows are counted, not milliseconds."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle

EDGES = 100_000
#: Rows read per refresh, in the graph and in the recursion's own table. A changed row is looked up in several places.
FEW = 200

TREE = (
    "with recursive r(id, n) as (select 1, 0 union all select e.d, n + 1 from r join edge e on e.s = r.id)"
    " select * from r"
)
REACHED = "with recursive r(id) as (select 1 union select e.d from r join edge e on e.s = r.id) select * from r"


def rows_read(conn: psycopg.Connection[Any]) -> int:
    """Rows that all sessions so far read of the graph and of the tables of stages, by index or not."""
    row = conn.execute(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_all_tables"
        " WHERE relname = 'edge' OR schemaname = 'pgtrickle_state' AND relname ~ '^s[0-9]+_[0-9]+$'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def refreshed(db: str, conn: psycopg.Connection[Any], change: str) -> tuple[int, int]:
    """Apply a change and refresh; the rows written, and the rows read for it."""
    conn.execute(change.encode())
    before = rows_read(conn)
    with PgTrickle.connect(db) as engine:
        result = engine.refresh_stream_table("st")
    assert result.action == "DIFFERENTIAL"
    assert result.fallback_reason is None
    deadline = time.monotonic() + 20
    # A session reports what it read when it ends.
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while conn.execute(sessions).fetchall()[0][0] > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1 if conn.info.server_version < 150000 else 0)
    return result.rows_changed, rows_read(conn) - before


@pytest.mark.newest_only
@pytest.mark.parametrize("query", [TREE, REACHED], ids=["union all", "union"])
def test_one_edge_of_a_hundred_thousand_reads_a_few_rows(
    query: str, db: str, engine: PgTrickle, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("CREATE TABLE edge (d integer PRIMARY KEY, s integer NOT NULL)")
    conn.execute(f"INSERT INTO edge SELECT g, g / 2 FROM generate_series(2, {EDGES}) AS g".encode())
    conn.execute("CREATE INDEX ON edge (s)")
    conn.execute("ANALYZE edge")
    engine.create_stream_table("st", query, refresh_mode="DIFFERENTIAL")
    # What these sessions read so far would else be reported at some later moment, and be taken for a refresh's.
    for session in (engine.conn, conn):
        session.execute("SELECT pg_stat_force_next_flush()")
    moved = 0 if query is REACHED else 2
    changes = {
        f"INSERT INTO edge VALUES ({EDGES + 1}, 777)": 1,
        f"UPDATE edge SET s = 40 WHERE d = {EDGES + 1}": moved,
        f"DELETE FROM edge WHERE d = {EDGES + 1}": 1,
        "DELETE FROM edge WHERE d = 30000": 3,
        "INSERT INTO edge VALUES (30000, 15000)": 3,
        f"INSERT INTO edge VALUES ({EDGES + 5}, {EDGES + 4})": 0,
    }
    for change, expected in changes.items():
        written, read = refreshed(db, conn, change)
        assert written == expected, change
        assert read < FEW, change
    assert engine.verify("st").proven
