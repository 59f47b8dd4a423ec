"""A server that dies at the worst moment: no committed change is lost, none is applied twice."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support import servers

QUERY = "SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k"


@pytest.fixture
def own_server(pg_major):
    """A server of our own, to be killed."""
    try:
        server = servers.start(pg_major)
    except servers.ServerUnavailable as error:
        pytest.skip(f"MISSING TOOL: {error}")
    yield server
    server.stop()


@pytest.mark.newest_only
def test_refreshes_go_on_exactly_where_they_were_after_a_crash(own_server, oracle):
    dsn = own_server.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int)")
        conn.execute("CREATE UNLOGGED TABLE u (id int)")
        conn.execute("INSERT INTO t SELECT n, n % 5, n FROM generate_series(1, 100) n")
        conn.execute("INSERT INTO u VALUES (1), (2)")
        engine.install()
        engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
        engine.create_stream_table("volatile", "SELECT id FROM u", refresh_mode="DIFFERENTIAL")
        conn.execute("INSERT INTO t VALUES (200, 1, 1)")
        engine.refresh_all()
        with psycopg.connect(dsn) as prepared:
            prepared.execute("DELETE FROM t WHERE id <= 10")
            prepared.execute("PREPARE TRANSACTION 'p'")
        conn.execute("INSERT INTO t VALUES (201, 2, 1)")
        engine.refresh_all()
        stop = threading.Event()

        def refresh() -> None:
            try:
                while not stop.is_set():
                    engine.refresh_all()
            except PgTrickleError:
                return

        thread = threading.Thread(target=refresh)
        thread.start()
        try:
            for n in range(300, 330):
                conn.execute("INSERT INTO t VALUES (%s, 3, 1)", [n])
                time.sleep(0.005)
        finally:
            own_server.crash()
            stop.set()
            thread.join(30)
    own_server.restart()
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        engine.refresh_all()
        oracle(conn, "s", QUERY)
        oracle(conn, "volatile", "SELECT id FROM u")
        conn.execute("COMMIT PREPARED 'p'")
        conn.execute("INSERT INTO u VALUES (3)")
        assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
        engine.refresh_all()
        oracle(conn, "s", QUERY)
        oracle(conn, "volatile", "SELECT id FROM u")
        assert engine.verify("s").proven


@pytest.mark.newest_only
def test_a_transaction_that_survives_the_crash_which_empties_what_it_wrote_to_leaves_nothing_behind(own_server, oracle):
    queries = {
        "s": "SELECT k, count(*) AS n FROM u GROUP BY k",
        "parts": "SELECT id FROM p",
        "young": "SELECT id FROM c",
    }
    dsn = own_server.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        conn.execute("CREATE UNLOGGED TABLE u (id int, k int)")
        conn.execute("CREATE TABLE p (id int, k int) PARTITION BY LIST (k)")
        conn.execute("CREATE UNLOGGED TABLE p_1 PARTITION OF p FOR VALUES IN (1)")
        conn.execute("CREATE TABLE p_2 PARTITION OF p FOR VALUES IN (2)")
        conn.execute("CREATE TABLE c (id int)")
        conn.execute("CREATE UNLOGGED TABLE c_1 () INHERITS (c)")
        engine.install()
        for table in ("u", "p"):
            conn.execute(f"INSERT INTO {table} SELECT n, 1 + n % 2 FROM generate_series(1, 20) n".encode())
        conn.execute("INSERT INTO c_1 VALUES (1); INSERT INTO c VALUES (2)")
        for name, query in queries.items():
            engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
        for number in range(3):
            with psycopg.connect(dsn) as prepared:
                prepared.execute(f"INSERT INTO u VALUES (100, {number})".encode())
                prepared.execute("DELETE FROM u WHERE id = %s", [number])
                prepared.execute("INSERT INTO p VALUES (100, 1), (100, 2); INSERT INTO c_1 VALUES (100)")
                prepared.execute(f"PREPARE TRANSACTION 'p{number}'".encode())
        own_server.crash()
    own_server.restart()
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        for ending in ("SELECT 0", "COMMIT PREPARED 'p0'", "ROLLBACK PREPARED 'p1'", "COMMIT PREPARED 'p2'"):
            conn.execute(ending.encode())
            conn.execute("INSERT INTO u VALUES (3, 3); INSERT INTO p VALUES (3, 1); INSERT INTO c_1 VALUES (3)")
            for name, query in queries.items():
                engine.refresh_stream_table(name)
                oracle(conn, name, query)
        conn.execute("INSERT INTO u VALUES (4, 3); INSERT INTO p VALUES (4, 1); INSERT INTO c_1 VALUES (4)")
        assert {engine.refresh_stream_table(name).action for name in queries} == {"DIFFERENTIAL"}
        assert all(engine.verify(name).proven for name in queries)


@pytest.mark.newest_only
def test_what_a_runner_did_without_waiting_for_the_disk_is_done_again_after_a_crash(own_server, oracle):
    dsn = own_server.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("ALTER DATABASE postgres SET synchronous_commit = on")
        conn.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        conn.execute("SELECT pg_reload_conf()")
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int)")
        engine.install()
        engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
        relid = conn.execute("SELECT relid FROM pgtrickle.stream_tables").fetchone()[0]
    for number, trims in enumerate((False, True, False)):
        with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn, initiated_by="runner") as runner:
            conn.execute(
                "INSERT INTO t SELECT n, n %% 5, n FROM generate_series(%s::int, %s) n", [number * 10, number * 10 + 9]
            )
            assert [result.action for result in runner.refresh_due([relid])] == ["DIFFERENTIAL"]
            oracle(conn, "s", QUERY)
            if trims:
                capture.trim(runner.conn)
            own_server.crash()
        own_server.restart()
        with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
            assert engine.verify("s").proven
            engine.refresh_all()
            oracle(conn, "s", QUERY)
