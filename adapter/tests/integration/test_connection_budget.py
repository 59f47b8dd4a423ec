"""The runner uses no more connections than configured, and makes do with fewer if the server has no more."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from tests.support import servers
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


def test_a_runner_waits_for_its_first_connection_unless_somebody_has_to_do_something_first(
    conn: psycopg.Connection[Any], db: str
) -> None:
    conn.execute("CREATE ROLE budget LOGIN IN ROLE postgres")
    try:
        with PgTrickle.connect(db) as engine:
            engine.install()
        limits = (
            ("ALTER ROLE budget CONNECTION LIMIT {}", "role"),
            (f"ALTER DATABASE {conn.info.dbname} CONNECTION LIMIT {{}}", "database"),
        )
        for statement, what in limits:
            conn.execute(statement.format(0).encode())
            with RunnerProcess(make_conninfo(db, user="budget")) as runner:
                reason = runner.wait_for("waiting_for_server")
                assert f"too many connections for {what}" in reason["message"]
                assert "CONNECTION LIMIT" in reason["hint"]
                conn.execute(statement.format(-1).encode())
                assert runner.started().stop() == 0
        for name, wrong in {"user": "nobody_here", "dbname": "no_such_place"}.items():
            with RunnerProcess(make_conninfo(db, **{name: wrong})) as runner:
                assert runner.end() == 1
                assert f'"{wrong}" does not exist' in runner.said()
                assert runner.named("waiting_for_server") == []
    finally:
        conn.execute("DROP OWNED BY budget; DROP ROLE budget")


@pytest.mark.slow
def test_a_server_without_a_free_connection_delays_a_runner_and_nothing_else() -> None:
    settings = {"max_connections": "12", "superuser_reserved_connections": "3", "max_wal_senders": "0"}
    server = servers.start(servers.EMBEDDED_MAJOR, settings=settings)
    try:
        with server.connect() as conn:
            conn.execute("CREATE ROLE app LOGIN")
            conn.execute("CREATE ROLE engine LOGIN IN ROLE pg_monitor")
            conn.execute("GRANT ALL ON DATABASE postgres TO engine; GRANT ALL ON SCHEMA public TO engine")
            conn.execute("SET ROLE engine")
            dsn = server.dsn(user="engine")
            prepare(conn, dsn)
            conn.execute("RESET ROLE")
            conn.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
            with RunnerProcess(dsn, "--workers", "3") as runner:
                runner.started()
                follow(conn, runner, "postgres")
                for _ in range(2):
                    _without_connections(server, conn, runner)
                assert runner.stop() == 0
    finally:
        server.stop()


def _without_connections(server: servers.Server, conn: psycopg.Connection[Any], runner: RunnerProcess) -> None:
    """Others take every connection, and what the runner has is cut: it waits, and goes on when there are some."""
    lost = len(runner.named("connection_lost"))
    conn.execute("ALTER ROLE engine CONNECTION LIMIT 0")
    conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgtrickle%'")
    held = []
    try:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(server.dsn(user="app"), autocommit=True))
        conn.execute("ALTER ROLE engine CONNECTION LIMIT -1")
        for number in range(5):
            held[0].execute("INSERT INTO public.t0 VALUES (7, %s)", (number,))
        eventually(lambda: len(runner.named("connection_lost")) > lost, "it has lost its connection")
        stale = "SELECT bool_or(stale) FROM pgtrickle.stream_table_status"
        eventually(lambda: conn.execute(stale).fetchone() == (True,), "who looks sees that they are late")
        assert runner.process.poll() is None
    finally:
        for one in held:
            one.close()
    follow_after(conn)


def follow_after(conn: psycopg.Connection[Any]) -> None:
    """Wait until all stream tables have followed."""
    change(conn, 77)
    eventually(
        lambda: all(compare(conn, f"public.s{one}", QUERY.format(one)) is None for one in range(TABLES)),
        "all have followed",
    )
