"""What capture puts on writers: statements of one and of a thousand rows, and concurrent clients."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from operator import truediv
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgtrickle.api import PgTrickle
from tests.benchmarks import databases
from tests.benchmarks.methods import timed
from tests.benchmarks.model import Reading, Run
from tests.support import servers

GOAL = 8
ROWS = 200_000
STATEMENT = 1_000
LIMITS = {"INSERT": 1.5, "UPDATE": 1.9, "DELETE": 2.3}
PER_ROW_US = 6.0
SINGLE_US = 60.0
TPS_KEPT = 0.7
CLIENTS = 8
PAIRS = 9
_COLUMNS = "id bigint PRIMARY KEY, a int NOT NULL, b int, c numeric(12,2), d text, e timestamptz, f bigint"
_ROW = "i, i % 1000, i % 7, i * 1.25, 'row ' || i, now(), i"


def measure(run: Run, dsn: str, *, repeats: int, seconds: int) -> None:
    """All readings of goal 8.

    Args:
        run: gets the readings.
        dsn: of the server.
        repeats: statements of a thousand rows of each kind; of single rows ten times as many.
        seconds: of one run of concurrent clients, of which there are `PAIRS` with capture and as many without.
    """
    with databases.copy_of(dsn, None) as inside, psycopg.connect(inside, autocommit=True) as conn:
        for table in ("bare", "captured"):
            conn.execute(f"CREATE TABLE {table} ({_COLUMNS})".encode())
            conn.execute(f"INSERT INTO {table} SELECT {_ROW} FROM generate_series(1, {ROWS}) AS i".encode())
            conn.execute(f"CREATE INDEX ON {table} (a)".encode())
        with PgTrickle.connect(inside) as engine:
            engine.install()
            engine.create_stream_table("public.copied", "SELECT * FROM captured", refresh_mode="DIFFERENTIAL")
            conn.execute("VACUUM ANALYZE")
            conn.execute("SET synchronous_commit = off")
            run.readings += _statements(conn, engine, STATEMENT, repeats)
            run.readings += _statements(conn, engine, 1, 10 * repeats)
            run.readings += _unread(conn, engine)
            found = _clients(inside, engine, seconds)
            if found is None:
                run.remarks.append("goal 8: pgbench was not found, no concurrent clients")
            else:
                run.readings.append(found)


def _statements(conn: psycopg.Connection[Any], engine: PgTrickle, rows: int, repeats: int) -> Iterator[Reading]:
    """Pairs of the same statement on both tables, in turn; commits do not wait for the disk."""
    spent: dict[tuple[str, str], list[float]] = {}
    for number in range(repeats + 3):
        for kind, text in _texts(number, rows).items():
            pair = ("bare", "captured") if number % 2 else ("captured", "bare")
            for table in pair:
                took, _ = timed(lambda table=table, text=text: conn.execute(text.format(table=table).encode()))
                if number >= 3:
                    spent.setdefault((kind, table), []).append(took)
        if number % 20 == 19:
            engine.refresh_all()
    for kind, limit in LIMITS.items():
        bare, captured = (statistics.median(spent[kind, table]) for table in ("bare", "captured"))
        extra = 1000 * (captured - bare)
        if rows == 1:
            yield Reading(GOAL, f"{kind} of one row: added", extra, "us", SINGLE_US)
            continue
        yield Reading(GOAL, f"{kind} of {rows:,} rows: captured / bare", captured / bare, "x", limit)
        yield Reading(GOAL, f"{kind} of {rows:,} rows: added per row", extra / rows, "us", PER_ROW_US)


def _texts(number: int, rows: int) -> Mapping[str, str]:
    first = 10_000_000 + number * rows
    other = 1 + number * 7919 % (ROWS - rows)
    return {
        "INSERT": f"INSERT INTO {{table}} SELECT {_ROW} FROM generate_series({first}, {first + rows - 1}) AS i",
        "UPDATE": f"UPDATE {{table}} SET c = c + 1, d = d || '.' WHERE id BETWEEN {other} AND {other + rows - 1}",
        "DELETE": f"DELETE FROM {{table}} WHERE id BETWEEN {first} AND {first + rows - 1}",
    }


def _unread(conn: psycopg.Connection[Any], engine: PgTrickle) -> Iterator[Reading]:
    """Change rows that an update of a column adds which nobody reads."""
    conn.execute("CREATE TABLE wide (id bigint PRIMARY KEY, read int, unread int)")
    conn.execute("INSERT INTO wide SELECT i, i, i FROM generate_series(1, 1000) AS i")
    engine.create_stream_table("public.narrow", "SELECT id, read FROM wide", refresh_mode="DIFFERENTIAL")
    conn.execute("UPDATE wide SET unread = unread + 1")
    row = conn.execute("SELECT id FROM pgtrickle.sources WHERE relid = 'wide'::regclass").fetchone()
    assert row is not None
    count = conn.execute(f"SELECT count(*) FROM pgtrickle_changes.b_{row[0]}".encode()).fetchone()
    assert count is not None
    yield Reading(GOAL, "change rows of an update of an unread column, table with a key", count[0], "rows", 0)
    conn.execute("CREATE TABLE keyless (id bigint, read int, unread int)")
    conn.execute("INSERT INTO keyless SELECT i, i, i FROM generate_series(1, 1000) AS i")
    engine.create_stream_table("public.first", "SELECT id, read FROM keyless", refresh_mode="DIFFERENTIAL")
    engine.create_stream_table("public.second", "SELECT sum(read) AS s FROM public.first", refresh_mode="DIFFERENTIAL")
    conn.execute("UPDATE keyless SET unread = unread + 1")
    written = engine.refresh_stream_table("public.first")
    below = engine.refresh_stream_table("public.second")
    rows = sum(one.rows_inserted + one.rows_updated + one.rows_deleted for one in (written, below))
    yield Reading(GOAL, "rows written by refreshes after that, table without a key", rows, "rows", 0)
    skipped = float(below.action == "NO_DATA")
    yield Reading(GOAL, "the stream table below has nothing to do then", skipped, "of 1", 1, at_most=False)


def _clients(dsn: str, engine: PgTrickle, seconds: int) -> Reading | None:
    program = pgbench()
    if program is None:
        return None
    found: dict[str, list[float]] = {"bare": [], "captured": []}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(PAIRS):
            for table in sorted(found, reverse=bool(number % 2)):
                script = Path(directory) / f"{table}.sql"
                script.write_text(f"\\set id random(1, {ROWS})\nUPDATE {table} SET f = f + 1 WHERE id = :id;\n")
                found[table].append(_tps(program, dsn, script, seconds))
            engine.refresh_all()
    # Pairs, one right after the other: on a shared machine the load changes from one minute to the next.
    kept = statistics.median(map(truediv, found["captured"], found["bare"]))
    note = f"{statistics.median(found['bare']):,.0f} transactions per second without a trigger"
    name = f"pgbench, {CLIENTS} clients: share of TPS kept"
    return Reading(GOAL, name, kept, "x", TPS_KEPT, at_most=False, note=note)


def pgbench() -> str | None:
    """The program beside our own server, or on the search path."""
    beside = servers.installation(servers.EMBEDDED_MAJOR) / "bin" / "pgbench"
    return str(beside) if beside.is_file() else shutil.which("pgbench")


def _tps(program: str, dsn: str, script: Path, seconds: int) -> float:
    said = conninfo_to_dict(dsn)
    command = [program, "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-f", str(script)]
    command += ["-h", str(said["host"]), "-p", str(said["port"]), "-U", str(said["user"]), str(said["dbname"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tps = re.search(r"tps = ([\d.]+)", done.stdout)
    assert tps is not None, done.stdout
    return float(tps[1])
