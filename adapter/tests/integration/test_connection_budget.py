"""The runner uses no more connections than configured, and makes do with fewer if the server has no more."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from tests.support.oracle import compare
from tests.support.runners import RunnerProcess, eventually

pytestmark = pytest.mark.newest_only

TABLES = 8
QUERY = "SELECT k, count(*) AS n, sum(v) AS v FROM public.t{} GROUP BY k"


def prepare(conn: psycopg.Connection[Any], db: str) -> None:
    """Stream tables that have nothing to do with each other, so that all could be refreshed at once."""
    for number in range(TABLES):
        statement = "CREATE TABLE public.t{} (k int, v int); INSERT INTO public.t{} VALUES (1, 1)".replace(
            "{}", str(number)
        )
        conn.execute(statement.encode())
    with PgTrickle.connect(db) as engine:
        engine.install()
        for number in range(TABLES):
            engine.create_stream_table(f"public.s{number}", QUERY.format(number), schedule="1s")


def change(conn: psycopg.Connection[Any], value: int) -> None:
    for number in range(TABLES):
        conn.execute(f"INSERT INTO public.t{number} SELECT g % 5, {value} FROM generate_series(1, 500) g".encode())


def follow(conn: psycopg.Connection[Any], runner: RunnerProcess, database: str) -> int:
    """Wait until all stream tables have followed; the largest number of connections that was seen."""
    seen = 0
    connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'pgtrickle%%'"
    for value in range(3):
        change(conn, value)

        def followed() -> bool:
            nonlocal seen
            row = conn.execute(connections, (database,)).fetchone()
            seen = max(seen, row[0] if row else 0)
            return all(compare(conn, f"public.s{one}", QUERY.format(one)) is None for one in range(TABLES))

        eventually(followed, "all have followed", seconds=60)
        time.sleep(0.1)
    assert runner.named("job_failed") == []
    return seen


def test_a_runner_has_one_connection_per_worker_and_one_to_look(conn: psycopg.Connection[Any], db: str) -> None:
    prepare(conn, db)
    with RunnerProcess(db, "--workers", "3") as runner:
        runner.started()
        assert 2 <= follow(conn, runner, conn.info.dbname) <= 4
        assert runner.stop() == 0


def test_a_runner_queues_where_the_server_has_fewer_connections_than_it_has_workers(
    conn: psycopg.Connection[Any], db: str
) -> None:
    prepare(conn, db)
    conn.execute("CREATE ROLE budget LOGIN CONNECTION LIMIT 3")
    try:
        conn.execute("GRANT postgres TO budget")
        conn.execute(SQL("GRANT ALL ON DATABASE {} TO budget").format(Identifier(conn.info.dbname)))
        with RunnerProcess(make_conninfo(db, user="budget"), "--workers", "6") as runner:
            runner.started()
            assert 2 <= follow(conn, runner, conn.info.dbname) <= 3
            assert runner.named("worker_without_connection")
            assert runner.stop() == 0
    finally:
        conn.execute("DROP OWNED BY budget; DROP ROLE budget")
