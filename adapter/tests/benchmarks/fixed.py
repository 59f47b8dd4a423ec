"""The fixed floor of a refresh: round trips and time beside a one-row autocommit UPDATE."""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

import psycopg

from pgtrickle.api import PgTrickle
from tests.benchmarks import databases
from tests.benchmarks.methods import timed
from tests.benchmarks.model import Reading, Run

GOAL = 10
ROUND_TRIPS = 5
UPDATES = 3.0
EXTRA_MS = 1.0
QUERIES = {
    "aggregate": "SELECT k, count(*) AS n, sum(v) AS v FROM fact GROUP BY k",
    "rows": "SELECT id, k, v FROM fact WHERE v >= 0",
    "join": "SELECT d.name, count(*) AS n, sum(f.v) AS v FROM fact AS f JOIN dim AS d ON d.k = f.k GROUP BY d.name",
}


def measure(run: Run, dsn: str, *, repeats: int) -> None:
    """All readings of goal 10.

    Args:
        run: gets the readings.
        dsn: of the server.
        repeats: one-row refreshes per query.
    """
    for name, query in QUERIES.items():
        with databases.copy_of(dsn, None) as inside, psycopg.connect(inside, autocommit=True) as conn:
            _fill(conn)
            with PgTrickle.connect(inside) as engine:
                engine.install()
                engine.create_stream_table("public.st", query, refresh_mode="DIFFERENTIAL")
                conn.execute("VACUUM ANALYZE")
                run.readings += _one(conn, engine, name, repeats)


def _fill(conn: psycopg.Connection[Any]) -> None:
    conn.execute("CREATE TABLE dim (k int PRIMARY KEY, name text NOT NULL)")
    conn.execute("INSERT INTO dim SELECT i, 'name ' || i % 100 FROM generate_series(0, 999) AS i")
    conn.execute("CREATE TABLE fact (id bigint PRIMARY KEY, k int NOT NULL, v bigint NOT NULL)")
    conn.execute("INSERT INTO fact SELECT i, i % 1000, i FROM generate_series(1, 100000) AS i")
    conn.execute("CREATE TABLE plain (id int PRIMARY KEY, v bigint)")
    conn.execute("INSERT INTO plain VALUES (1, 0)")


def _one(conn: psycopg.Connection[Any], engine: PgTrickle, name: str, repeats: int) -> list[Reading]:
    spent: dict[str, list[float]] = {"update": [], "refresh": [], "idle": []}
    for number in range(repeats + 5):
        conn.execute("UPDATE fact SET v = v + 1 WHERE id = %s", (1 + number * 37 % 100_000,))
        update, _ = timed(lambda: conn.execute("UPDATE plain SET v = v + 1 WHERE id = 1", prepare=True))
        refresh, result = timed(lambda: engine.refresh_stream_table("public.st"))
        assert result.action == "DIFFERENTIAL", result
        idle, result = timed(lambda: engine.refresh_stream_table("public.st"))
        assert result.action == "NO_DATA", result
        if number >= 5:
            for what, took in zip(spent, (update, refresh, idle), strict=True):
                spent[what].append(took)
    early = statistics.median(spent["refresh"][: repeats // 3])
    late = statistics.median(spent["refresh"][-(repeats // 3) :])
    middle = {what: statistics.median(found) for what, found in spent.items()}
    conn.execute("UPDATE fact SET v = v + 1 WHERE id = 1")
    busy, idle_trips = (round_trips(engine) for _ in range(2))
    limit = UPDATES * middle["update"] + EXTRA_MS
    note = f"a one-row autocommit UPDATE takes {middle['update']:.2f} ms"
    return [
        Reading(GOAL, f"{name}: round trips of a one-row refresh", busy, "trips", ROUND_TRIPS),
        Reading(GOAL, f"{name}: round trips of a refresh without changes", idle_trips, "trips"),
        Reading(GOAL, f"{name}: one-row refresh", middle["refresh"], "ms", limit, note=note),
        Reading(GOAL, f"{name}: refresh without changes", middle["idle"], "ms", note=note),
        Reading(GOAL, f"{name}: last third of {repeats} refreshes / first third, no vacuum", late / early, "x", 1.5),
    ]


def round_trips(engine: PgTrickle) -> int:
    """How often one refresh waits for the server, counted in the protocol."""
    with tempfile.TemporaryFile("w+") as trace:
        engine.own_conn.pgconn.trace(trace.fileno())
        engine.refresh_stream_table("public.st")
        engine.own_conn.pgconn.untrace()
        trace.seek(0)
        return sum("ReadyForQuery" in line for line in trace)
