"""From the commit of a one-row change to its being visible in stream tables, with a real runner."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from pgtrickle.api import PgTrickle
from tests.benchmarks import databases
from tests.benchmarks.model import Reading, Run
from tests.support.runners import RunnerProcess

GOAL = 12
PATIENCE_SECONDS = 30.0
WORKERS = 2


def measure(run: Run, dsn: str, *, samples: int) -> None:
    """All readings of goal 12: one stream table, a chain of ten, a lattice of three layers of twenty.

    Args:
        run: gets the readings.
        dsn: of the server.
        samples: one-row changes each.
    """
    one, _ = _times(dsn, _single, samples)
    run.readings += [
        Reading(GOAL, "one stream table, commit to visible: p50", statistics.median(one), "ms", 15),
        Reading(GOAL, "one stream table, commit to visible: p95", quantile(one, 0.95), "ms", 40),
    ]
    chain, _ = _times(dsn, _chain, max(samples // 3, 5))
    run.readings.append(Reading(GOAL, "chain of ten: p50", statistics.median(chain), "ms", 60))
    lattice, _ = _times(dsn, _lattice, max(samples // 6, 5))
    run.readings.append(Reading(GOAL, "lattice of 3 x 20: p50", statistics.median(lattice), "ms", 500))
    apart, sessions = _times(dsn, _apart, max(samples // 6, 5))
    run.readings += [
        Reading(GOAL, "twenty that do not depend on each other, all of them: p50", statistics.median(apart), "ms"),
        Reading(GOAL, f"sessions of a runner with {WORKERS} workers", sessions, "sessions", WORKERS + 1),
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def _single(engine: PgTrickle) -> list[str]:
    engine.create_stream_table("public.st", "SELECT k, sum(v) AS v FROM src GROUP BY k", schedule="continuous")
    return ["st"]


def _chain(engine: PgTrickle) -> list[str]:
    above = "src"
    for number in range(10):
        name = f"st{number}"
        query = f"SELECT k, sum(v) AS v FROM {above} GROUP BY k" if number == 0 else f"SELECT k, v FROM {above}"
        engine.create_stream_table(f"public.{name}", query, schedule="continuous")
        above = name
    return [above]


def _lattice(engine: PgTrickle) -> list[str]:
    for layer in range(3):
        for place in range(20):
            left = "src" if layer == 0 else f"l{layer - 1}_{place}"
            right = "src" if layer == 0 else f"l{layer - 1}_{(place + 1) % 20}"
            query = (
                f"SELECT k, sum(v) AS v FROM src WHERE k % 20 >= 0 OR k = {place} GROUP BY k"
                if layer == 0
                else f"SELECT a.k, a.v FROM {left} AS a JOIN {right} AS b ON b.k = a.k"
            )
            engine.create_stream_table(f"public.l{layer}_{place}", query, schedule="continuous")
    return [f"l2_{place}" for place in range(20)]


def _apart(engine: PgTrickle) -> list[str]:
    for number in range(20):
        query = f"SELECT k, sum(v) AS v FROM src WHERE k <> {1000 + number} GROUP BY k"
        engine.create_stream_table(f"public.st{number}", query, schedule="continuous")
    return [f"st{number}" for number in range(20)]


def _times(dsn: str, create: Callable[[PgTrickle], list[str]], samples: int) -> tuple[list[float], int]:
    """Milliseconds of each sample, and how many sessions the runner holds in the end."""
    with databases.copy_of(dsn, None) as inside, psycopg.connect(inside, autocommit=True) as conn:
        conn.execute("CREATE TABLE src (id bigint PRIMARY KEY, k int NOT NULL, v bigint NOT NULL)")
        conn.execute("INSERT INTO src SELECT i, i % 100, 0 FROM generate_series(1, 10000) AS i")
        with PgTrickle.connect(inside) as engine:
            engine.install()
            ends = create(engine)
        conn.execute("VACUUM ANALYZE")
        seen = " AND ".join(f"(SELECT v FROM {end} WHERE k = 1) = %(v)s" for end in ends)
        with (
            RunnerProcess(inside, "--workers", str(WORKERS)) as runner,
            psycopg.connect(inside, autocommit=True) as reader,
        ):
            runner.started()
            found = []
            for number in range(1, samples + 4):
                found.append(_sample(conn, reader, seen, number))
                if found[-1] >= 1000 * PATIENCE_SECONDS:
                    return found[-1:], _sessions(conn)
            sessions = _sessions(conn)
            runner.stop()
        return found[3:], sessions


def _sessions(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^pgtrickle'"
    ).fetchone()
    assert row is not None
    return row[0]


def _sample(conn: psycopg.Connection[Any], reader: psycopg.Connection[Any], seen: str, number: int) -> float:
    """Milliseconds from commit to visible, at most `PATIENCE_SECONDS`; the pause avoids the runner's rhythm."""
    time.sleep(0.05 + 0.007 * (number % 13))
    conn.execute("UPDATE src SET v = %s WHERE id = 1", (number,))
    started = time.perf_counter()
    while True:
        row = reader.execute(f"SELECT {seen}".encode(), {"v": number}, prepare=True).fetchone()
        assert row is not None
        passed = time.perf_counter() - started
        if row[0]:
            return 1000 * passed
        if passed > PATIENCE_SECONDS:
            return 1000 * PATIENCE_SECONDS
        time.sleep(0.001)
