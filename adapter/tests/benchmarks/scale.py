"""Many stream tables, and many pending changes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from pgtrickle.api import PgTrickle
from pgtrickle.schedule.watch import PROOFS_AT_ONCE
from tests.benchmarks import databases
from tests.benchmarks.freshness import PATIENCE_SECONDS, quantile
from tests.benchmarks.methods import timed
from tests.benchmarks.model import Reading, Run
from tests.support.runners import ADAPTER, RunnerProcess

GOAL = 11
PER_SOURCE = 10
_SETTLE_SECONDS = 5.0
#: Creation is measured in so many parts of equal size.
_PARTS = 10
_REFRESH = """
import json, resource, sys, time
from pgtrickle import capture
from pgtrickle.api import PgTrickle
def spent(act):
    began = time.perf_counter()
    result = act()
    return time.perf_counter() - began, result
with PgTrickle.connect(sys.argv[1]) as engine:
    engine.refresh_stream_table("public.small")
    engine._consumed = -sys.maxsize
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    caught_up, result = spent(lambda: engine.refresh_stream_table("public.st"))
    full, _ = spent(lambda: engine.refresh_stream_table("public.st", full=True))
    trimmed, _ = spent(lambda: capture.trim(engine.own_conn))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    engine.conn.execute("INSERT INTO src VALUES (0, 0, 0)")
    one, _ = spent(lambda: engine.refresh_stream_table("public.st"))
    print(json.dumps([result.action, grown / 1024, caught_up, full, trimmed, 1000 * one]))
"""


def measure(run: Run, dsn: str, *, tables: int, pending: int, seconds: int) -> None:
    """All readings of goal 11.

    Args:
        run: gets the readings.
        dsn: of the server.
        tables: number of stream tables.
        pending: rows in the change buffer of one refresh.
        seconds: how long the runner is watched, idle and with changes.
    """
    with databases.copy_of(dsn, None) as inside, psycopg.connect(inside, autocommit=True) as conn:
        run.readings += _many(inside, conn, tables, seconds)
    with databases.copy_of(dsn, None) as inside, psycopg.connect(inside, autocommit=True) as conn:
        run.readings += _pending(inside, conn, pending)


def _many(dsn: str, conn: psycopg.Connection[Any], tables: int, seconds: int) -> list[Reading]:
    sources = max(tables // PER_SOURCE, 1)
    for number in range(sources):
        conn.execute(f"CREATE TABLE src{number} (id int PRIMARY KEY, k int NOT NULL, v bigint NOT NULL)".encode())
        conn.execute(f"INSERT INTO src{number} SELECT i, i % 10, 0 FROM generate_series(1, 100) AS i".encode())
    spent = []
    with PgTrickle.connect(dsn) as engine:
        engine.install()
        for number in range(tables):
            query = f"SELECT k, sum(v) AS v FROM src{number % sources} WHERE k <> {100 + number} GROUP BY k"
            name = f"public.st{number}"
            took, _ = timed(lambda name=name, query=query: engine.create_stream_table(name, query, schedule="1s"))
            spent.append(took)
    conn.execute("VACUUM ANALYZE")
    part = max(tables // _PARTS, 1)
    growth = statistics.median(spent[-part:]) / statistics.median(spent[part : 2 * part])
    readings = [
        Reading(GOAL, f"creating the last of {tables:,} / an early one", growth, "x", 1.5),
        Reading(GOAL, f"creating one of {tables:,}: median", statistics.median(spent), "ms"),
    ]
    with RunnerProcess(dsn, "--workers", "2") as runner:
        runner.started()
        # What leaves no change row is looked for in a few stream tables per second, once after each movement.
        time.sleep(_SETTLE_SECONDS + tables / PROOFS_AT_ONCE)
        readings += _idle(conn, runner, tables, seconds)
        readings.append(_changing(conn, tables, sources, seconds))
        runner.stop()
    return readings


def _idle(conn: psycopg.Connection[Any], runner: RunnerProcess, tables: int, seconds: int) -> list[Reading]:
    """Without changes: transactions and processor time of the runner's sessions and of the runner, per second."""

    def spent() -> tuple[int, float, float]:
        row = conn.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").fetchone()
        pids = conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
        assert row is not None
        return row[0], sum(_cpu_ms(pid) for (pid,) in pids), _cpu_ms(runner.process.pid)

    before = spent()
    time.sleep(seconds)
    queries, backend, client = (after - was for after, was in zip(spent(), before, strict=True))
    ticks = float(seconds)
    # The two questions of `spent` itself are in it.
    queries = max(queries - 2, 0)
    return [
        Reading(GOAL, f"{tables:,} idle, 1 s schedule: transactions per second", queries / ticks, "/s", 1.1),
        Reading(GOAL, f"{tables:,} idle: backend CPU per second", backend / ticks, "ms", 2.0),
        Reading(GOAL, f"{tables:,} idle: CPU of the runner per second", client / ticks, "ms"),
    ]


def _changing(conn: psycopg.Connection[Any], tables: int, sources: int, seconds: int) -> Reading:
    """One source in a hundred changes every second: how late its stream tables are, `PATIENCE_SECONDS` at most."""
    late: list[float] = []
    for number in range(seconds):
        if late and late[-1] >= 1000 * PATIENCE_SECONDS:
            break
        began = time.perf_counter()
        for changed in range(max(sources // 100, 1)):
            source = (number * 31 + changed) % sources
            conn.execute(f"UPDATE src{source} SET v = v + 1 WHERE id = 1".encode())
            late.append(_until_equal(conn, source, sources, tables))
        time.sleep(max(0.0, 1.0 - (time.perf_counter() - began)))
    name = f"{tables:,} with 1 % changing each second, 1 s schedule: commit to visible, p95"
    return Reading(GOAL, name, quantile(late, 0.95), "ms", 2000, note="a schedule of 1 s and as long for the refresh")


def _until_equal(conn: psycopg.Connection[Any], source: int, sources: int, tables: int) -> float:
    started = time.perf_counter()
    readers = range(source, tables, sources)
    same = " AND ".join(
        f"(SELECT v FROM st{reader} WHERE k = 1) = (SELECT sum(v) FROM src{source} WHERE k = 1)" for reader in readers
    )
    while True:
        row = conn.execute(f"SELECT {same}".encode()).fetchone()
        passed = time.perf_counter() - started
        if row is not None and row[0]:
            return 1000 * passed
        if passed > PATIENCE_SECONDS:
            return 1000 * PATIENCE_SECONDS
        time.sleep(0.005)


def _cpu_ms(pid: int) -> float:
    """Processor time of a process so far; 0 where the machine does not tell or the process is gone."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return 10.0 * (int(fields[11]) + int(fields[12]))


def _pending(dsn: str, conn: psycopg.Connection[Any], rows: int) -> list[Reading]:
    """A large change buffer: time and memory of the process that catches up and trims, and what is left behind."""
    for table in ("src", "little"):
        conn.execute(f"CREATE TABLE {table} (id bigint, k int NOT NULL, v bigint NOT NULL)".encode())
    with PgTrickle.connect(dsn) as engine:
        engine.install()
        conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 100000000000")
        engine.create_stream_table("public.st", _GROUPED.format("src"), refresh_mode="DIFFERENTIAL")
        engine.create_stream_table("public.small", _GROUPED.format("little"), refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO little VALUES (1, 1, 1)")
    conn.execute(f"INSERT INTO src SELECT i, i % 1000, i FROM generate_series(1, {rows}) AS i".encode())
    command = [sys.executable, "-c", _REFRESH, dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ADAPTER)})
    action, grown, caught_up, full, trimmed, one = json.loads(done.stdout)
    assert action == "DIFFERENTIAL", done.stdout
    what = f"{rows:,} pending rows"
    return [
        Reading(GOAL, f"{what}: memory grown by catching up and trimming", grown, "MB", 20),
        Reading(GOAL, f"{what}: catching up / FULL", caught_up / full, "x", note=f"FULL takes {full:.1f} s"),
        Reading(GOAL, f"{what}: trimming", 1e6 * trimmed / rows, "us/row", note=f"{trimmed:.1f} s"),
        Reading(GOAL, f"{what}: a one-row refresh afterwards", one, "ms"),
    ]


_GROUPED = "SELECT k, count(*) AS n, sum(v) AS v FROM {} GROUP BY k"
