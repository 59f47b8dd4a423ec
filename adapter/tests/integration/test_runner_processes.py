"""Runners as real processes: schedules, signals, several at once, failures, lost servers."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support import servers
from tests.support.oracle import compare
from tests.support.runners import RunnerProcess, eventually

pytestmark = pytest.mark.edges_only

Connection = psycopg.Connection[Any]
Oracle = Callable[..., None]


@pytest.fixture
def runner(db: str, tmp_path: Path) -> Iterator[Callable[..., RunnerProcess]]:
    """Start runners on `db`, with short leases; they are killed after the test."""
    started: list[RunnerProcess] = []
    config = tmp_path / "pgtrickle.toml"
    config.write_text("[runner]\nlease_seconds = 2\ntrim_interval = 0.5\n")

    def start(*arguments: str) -> RunnerProcess:
        started.append(RunnerProcess(db, "--config", str(config), *arguments))
        return started[-1].started()

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def orders(conn: Connection) -> str:
    """A source with some rows."""
    conn.execute("CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount numeric(10,2) NOT NULL)")
    conn.execute("INSERT INTO orders SELECT i, i % 7, i FROM generate_series(1, 50) i")
    return "orders"


TOTALS = "SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer"


def follows(conn: Connection, table: str, query: str) -> None:
    """Wait until the stream table shows its query's rows."""
    eventually(lambda: compare(conn, table, query) is None, f"{table} follows its query")


@pytest.mark.parametrize("schedule", ["1s", "continuous", "calculated", "* * * * * *", "*/1 * * * * * Europe/Berlin"])
def test_every_kind_of_schedule_is_kept_fresh(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess], schedule: str
) -> None:
    engine.create_stream_table("public.totals", TOTALS, schedule=schedule)
    process = runner()
    for number in range(3):
        conn.execute("INSERT INTO orders VALUES (%s, 3, 5)", (1000 + number,))
        conn.execute("UPDATE orders SET amount = amount + 1 WHERE customer = %s", (number,))
        conn.execute("DELETE FROM orders WHERE id = %s", (number + 1,))
        follows(conn, "totals", TOTALS)
    process.wait_for("refreshed", table="public.totals", action="DIFFERENTIAL")
    assert process.stop() == 0


@pytest.mark.newest_only
def test_a_schedule_that_is_not_due_is_left_alone(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.hourly", TOTALS, schedule="1h")
    engine.create_stream_table("public.quick", TOTALS, schedule="continuous")
    before = engine.status("public.hourly")[0].last_refresh_at
    runner()
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, "quick", TOTALS)
    assert engine.status("public.hourly")[0].last_refresh_at == before


@pytest.mark.newest_only
def test_a_stream_table_created_while_the_runner_runs_is_noticed(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    runner()
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, "totals", TOTALS)


@pytest.mark.newest_only
def test_names_that_need_quotes_are_no_trouble(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    conn.execute('CREATE SCHEMA "My Schema"')
    name = '"My Schema"."select ""x"""'
    engine.create_stream_table(name, TOTALS, schedule="continuous")
    assert not engine.status(name)[0].stale
    process = runner()
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, name, TOTALS)
    process.wait_for("refreshed", table=name)


@pytest.mark.newest_only
def test_what_was_not_initialized_is_loaded_by_the_runner(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.totals", TOTALS, schedule="1h", initialize=False)
    runner()
    follows(conn, "totals", TOTALS)


def test_a_diamond_moves_in_one_snapshot_so_readers_never_see_its_sides_apart(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.big", "SELECT id, amount FROM orders WHERE amount > 0")
    engine.create_stream_table("public.side_a", "SELECT count(*) AS n, sum(amount) AS total FROM public.big")
    engine.create_stream_table("public.side_b", "SELECT id, amount * 2 AS double FROM public.big")
    query = "SELECT a.n, a.total, b.id FROM public.side_a a JOIN public.side_b b ON b.double <= a.total"
    engine.create_stream_table("public.tip", query, schedule="continuous")
    process = runner()
    for number in range(20):
        conn.execute("INSERT INTO orders VALUES (%s, 1, %s)", (2000 + number, number + 1))
        apart = conn.execute(
            "SELECT (SELECT n FROM side_a) = (SELECT count(*) FROM big),"
            " (SELECT count(*) FROM side_b) = (SELECT n FROM side_a)"
        ).fetchone()
        assert apart == (True, True)
        time.sleep(0.02)
    follows(conn, "tip", query)
    assert process.stop() == 0
    shared = conn.execute(
        "SELECT count(DISTINCT table_name) FROM pgtrickle.refresh_history"
        " WHERE initiated_by = 'runner' AND action = 'DIFFERENTIAL' GROUP BY group_id ORDER BY 1 DESC LIMIT 1"
    ).fetchone()
    assert shared == (4,)


@pytest.mark.newest_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_runner_in_order_and_leaves_no_trace(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess], number: signal.Signals
) -> None:
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    process = runner()
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, "totals", TOTALS)
    process.signal(number)
    assert process.end() == 0
    assert process.named("runner_stopped")
    left = conn.execute("SELECT (SELECT count(*) FROM pgtrickle.runners), (SELECT count(*) FROM pgtrickle.leases)")
    assert left.fetchone() == (0, 0)


@pytest.fixture
def slow(conn: Connection) -> str:
    """A query that takes as long as the table ``delay`` says."""
    conn.execute("CREATE TABLE delay (seconds float NOT NULL)")
    conn.execute("INSERT INTO delay VALUES (0)")
    conn.execute(
        "CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql VOLATILE AS"
        " 'BEGIN PERFORM pg_sleep((SELECT seconds FROM public.delay)); RETURN 1; END'"
    )
    return "SELECT public.slow() AS one, random() AS r"


def is_sleeping(conn: Connection) -> bool:
    """Whether a session of this database is in ``pg_sleep``."""
    return bool(
        conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        ).fetchone()[0]  # type: ignore[index]
    )


@pytest.mark.newest_only
def test_sigterm_lets_the_refresh_in_work_finish(
    engine: PgTrickle, conn: Connection, slow: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.lazy", slow, schedule="1s", refresh_mode="FULL")
    conn.execute("UPDATE delay SET seconds = 2")
    process = runner()
    eventually(lambda: is_sleeping(conn), "the refresh is in work")
    before = conn.execute("SELECT r FROM lazy").fetchone()
    assert process.stop() == 0
    assert conn.execute("SELECT r FROM lazy").fetchone() != before


@pytest.mark.newest_only
def test_a_second_signal_cancels_the_refresh_in_work(
    engine: PgTrickle, conn: Connection, slow: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.lazy", slow, schedule="1s", refresh_mode="FULL")
    conn.execute("UPDATE delay SET seconds = 300")
    process = runner()
    eventually(lambda: is_sleeping(conn), "the refresh is in work")
    before = conn.execute("SELECT r FROM lazy").fetchone()
    process.signal()
    process.wait_for("runner_stopping")
    process.signal()
    assert process.end(seconds=30) == 130
    assert conn.execute("SELECT r FROM lazy").fetchone() == before
    eventually(lambda: not is_sleeping(conn), "the statement was cancelled")


@pytest.mark.newest_only
def test_a_slow_stream_table_does_not_hold_up_another(
    engine: PgTrickle, conn: Connection, orders: str, slow: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.lazy", slow, schedule="1s", refresh_mode="FULL")
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    conn.execute("UPDATE delay SET seconds = 300")
    process = runner()
    eventually(lambda: is_sleeping(conn), "the slow refresh is in work")
    for number in range(3):
        conn.execute("INSERT INTO orders VALUES (%s, 3, 5)", (1000 + number,))
        follows(conn, "totals", TOTALS)
    assert is_sleeping(conn)
    process.signal()
    process.wait_for("runner_stopping")
    process.signal()
    process.end()


@pytest.mark.newest_only
def test_more_work_than_a_worker_can_do_makes_all_late_and_none_wait_for_ever(
    engine: PgTrickle, conn: Connection, slow: str, runner: Callable[..., RunnerProcess]
) -> None:
    names = [f"public.lazy{number}" for number in range(8)]
    for name in names:
        engine.create_stream_table(name, slow, schedule="1s", refresh_mode="FULL")
    conn.execute("UPDATE delay SET seconds = 0.2")
    process = runner("--workers", "1")
    eventually(lambda: len(process.named("refreshed")) >= 4 * len(names), "each one could have had four turns")
    turns = Counter(event["table"] for event in process.named("refreshed"))
    assert set(turns) == set(names)
    assert max(turns.values()) - min(turns.values()) <= 2, turns
    process.stop()


@pytest.mark.newest_only
def test_the_runner_holds_one_connection_more_than_workers(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    for number in range(6):
        engine.create_stream_table(f"public.totals_{number}", TOTALS, schedule="continuous")
    runner("--workers", "2")
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> ALL (%s)"
        " AND backend_type = 'client backend'"
    )
    others = [
        row[0] for row in conn.execute("SELECT pid FROM pg_stat_activity WHERE application_name NOT LIKE '%%runner%%'")
    ]
    for number in range(10):
        conn.execute("INSERT INTO orders VALUES (%s, 3, 5)", (1000 + number,))
        used = conn.execute(query, (others,)).fetchone()
        assert used is not None
        assert used[0] <= 3
        time.sleep(0.05)


def test_two_runners_and_manual_refreshes_under_load_never_corrupt_anything(
    engine: PgTrickle, db: str, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    joined = "SELECT o.id, t.n FROM orders o JOIN public.totals t ON t.customer = o.customer"
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    engine.create_stream_table("public.joined", joined, schedule="continuous")
    engine.create_stream_table("public.plain", "SELECT id, amount FROM orders WHERE customer < 4", schedule="1s")
    first, second = runner(), runner()
    ended = threading.Event()
    failures: list[Exception] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            with psycopg.connect(db, autocommit=True) as own:
                for number in range(10_000):
                    if ended.is_set():
                        return
                    key = 10_000 * (seed + 1) + number
                    own.execute(
                        "INSERT INTO orders VALUES (%s, %s, %s)", (key, chance.randrange(7), chance.randrange(9))
                    )
                    own.execute("UPDATE orders SET customer = %s WHERE id = %s", (chance.randrange(7), key - 3))
                    own.execute("DELETE FROM orders WHERE id = %s", (key - chance.randrange(20),))
        except psycopg.Error as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(2)]
    for writer in writers:
        writer.start()
    time.sleep(2)
    first.kill()
    third = runner()
    for _ in range(5):
        engine.refresh_stream_table("public.joined")
        time.sleep(0.2)
    time.sleep(1)
    ended.set()
    for writer in writers:
        writer.join()
    assert not failures
    follows(conn, "plain", "SELECT id, amount FROM orders WHERE customer < 4")
    follows(conn, "totals", TOTALS)
    follows(conn, "joined", joined)
    assert (second.stop(), third.stop()) == (0, 0)
    assert all(engine.verify(name).proven for name in ("public.totals", "public.joined", "public.plain"))
    assert (
        conn.execute(
            "SELECT DISTINCT error ->> 'message' FROM pgtrickle.refresh_history WHERE action = 'FAILED'"
        ).fetchall()
        == []
    )


@pytest.mark.newest_only
def test_two_runners_share_the_work(
    engine: PgTrickle, conn: Connection, slow: str, runner: Callable[..., RunnerProcess]
) -> None:
    for number in range(2):
        engine.create_stream_table(f"public.lazy_{number}", slow, schedule="1s", refresh_mode="FULL")
    conn.execute("UPDATE delay SET seconds = 1")
    processes = [runner("--workers", "1"), runner("--workers", "1")]
    for process in processes:
        process.wait_for("refreshed")


@pytest.mark.newest_only
def test_a_lease_of_a_dead_runner_ends(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    first = runner()
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, "totals", TOTALS)
    first.kill()
    assert conn.execute("SELECT count(*) FROM pgtrickle.leases").fetchone() == (1,)
    runner()
    conn.execute("INSERT INTO orders VALUES (1001, 3, 5)")
    follows(conn, "totals", TOTALS)


def test_a_failing_stream_table_is_suspended_while_the_others_go_on(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    ratios = "SELECT id, 100 / (amount - 7) AS ratio FROM orders WHERE id > 10"
    engine.create_stream_table("public.ratios", ratios, schedule="1s")
    engine.create_stream_table("public.below", "SELECT count(*) AS n FROM public.ratios", schedule="1s")
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    before = conn.execute("SELECT count(*) FROM ratios").fetchone()
    process = runner()
    conn.execute("INSERT INTO orders VALUES (1000, 3, 7)")
    suspended = process.wait_for("suspended", table="public.ratios")
    assert "division by zero" in suspended["reason"]
    conn.execute("INSERT INTO orders VALUES (1001, 3, 5)")
    follows(conn, "totals", TOTALS)
    row = engine.status("public.ratios")[0]
    assert (row.status, row.consecutive_errors) == ("SUSPENDED", 3)
    assert "division by zero" in (row.last_error or "")
    assert conn.execute("SELECT count(*) FROM ratios").fetchone() == before
    conn.execute("DELETE FROM orders WHERE id = 1000")
    engine.resume("public.ratios")
    follows(conn, "ratios", ratios)
    follows(conn, "below", "SELECT count(*) AS n FROM public.ratios")


@pytest.mark.newest_only
def test_a_failure_that_passes_by_itself_is_retried_for_ever(
    engine: PgTrickle,
    conn: Connection,
    connect: Callable[..., Connection],
    orders: str,
    runner: Callable[..., RunnerProcess],
) -> None:
    engine.create_stream_table("public.totals", TOTALS, schedule="1s")
    conn.execute("INSERT INTO orders VALUES (999, 3, 5)")
    blocker = connect(autocommit=False)
    blocker.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
    process = runner()
    eventually(
        lambda: process.named("failed") or process.named("skipped") or process.named("job_failed"),
        "it could not refresh",
    )
    blocker.rollback()
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, "totals", TOTALS)
    assert engine.status("public.totals")[0].status == "ACTIVE"


@pytest.mark.newest_only
def test_a_source_that_vanished_stops_only_its_own_stream_table(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    conn.execute("CREATE TABLE other (id int)")
    engine.create_stream_table("public.others", "SELECT id FROM other", schedule="1s")
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    process = runner()
    conn.execute("DROP TABLE other")
    process.wait_for("failed", table="public.others")
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, "totals", TOTALS)


@pytest.mark.newest_only
def test_a_stream_table_dropped_by_hand_does_not_stop_the_runner(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.gone", TOTALS, schedule="continuous")
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    runner()
    conn.execute("DROP TABLE gone")
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    follows(conn, "totals", TOTALS)


@pytest.mark.newest_only
def test_run_once_refreshes_what_is_due_and_nothing_else(
    engine: PgTrickle, db: str, conn: Connection, orders: str
) -> None:
    engine.create_stream_table("public.base", "SELECT id, customer, amount FROM orders", schedule="1h")
    engine.create_stream_table("public.totals", TOTALS.replace("orders", "public.base"), schedule="1s")
    engine.create_stream_table("public.hourly", TOTALS, schedule="1h")
    conn.execute("INSERT INTO orders VALUES (1000, 3, 5)")
    time.sleep(1.1)
    with RunnerProcess(db, "--once") as process:
        assert process.end() == 0
    assert compare(conn, "totals", TOTALS) is None
    assert compare(conn, "hourly", TOTALS) is not None
    assert conn.execute("SELECT count(*) FROM pgtrickle.runners").fetchone() == (0,)


@pytest.mark.newest_only
def test_run_once_tells_a_failure_by_its_exit_code(engine: PgTrickle, db: str, conn: Connection, orders: str) -> None:
    engine.create_stream_table(
        "public.ratios", "SELECT 100 / (amount - 7) AS r FROM orders WHERE id > 10", schedule="1s"
    )
    engine.create_stream_table("public.totals", TOTALS, schedule="1s")
    conn.execute("INSERT INTO orders VALUES (1000, 3, 7)")
    time.sleep(1.1)
    with RunnerProcess(db, "--once") as process:
        assert process.end() == 1
    assert compare(conn, "totals", TOTALS) is None


@pytest.mark.newest_only
def test_change_buffers_are_trimmed_while_the_runner_runs(
    engine: PgTrickle, conn: Connection, orders: str, runner: Callable[..., RunnerProcess]
) -> None:
    engine.create_stream_table("public.totals", TOTALS, schedule="continuous")
    buffer = conn.execute("SELECT 'pgtrickle_changes.b_' || id FROM pgtrickle.sources").fetchone()
    assert buffer is not None
    runner()
    conn.execute("INSERT INTO orders SELECT i, 1, 1 FROM generate_series(1000, 2000) i")
    follows(conn, "totals", TOTALS)
    eventually(lambda: conn.execute(f"SELECT count(*) FROM {buffer[0]}").fetchone() == (0,), "trimmed")


@pytest.mark.newest_only
def test_a_runner_survives_a_restart_of_the_server_and_one_that_is_started_before_it_waits(
    pg_major: int, strict_tools: bool
) -> None:
    try:
        server = servers.start(pg_major)
    except servers.ServerUnavailable as error:
        pytest.fail(str(error)) if strict_tools else pytest.skip(f"MISSING TOOL: {error}")
    try:
        with server.connect() as own:
            own.execute("CREATE TABLE t (id int)")
        with PgTrickle.connect(server.dsn()) as own_engine:
            own_engine.install()
            own_engine.create_stream_table("public.copy", "SELECT id FROM t", schedule="continuous")
        with RunnerProcess(server.dsn()) as process:
            process.started()
            with server.connect() as own:
                own.execute("INSERT INTO t VALUES (1)")
                follows(own, "copy", "SELECT id FROM t")
            server.crash()
            process.wait_for("connection_lost")
            with RunnerProcess(server.dsn(), "--once") as once:
                assert once.end() == 1
                assert "PGT304" in once.said()
            with RunnerProcess(server.dsn()) as early:
                refused = early.wait_for("waiting_for_server")
                assert (refused["code"], early.named("runner_started")) == ("PGT304", [])
                server.restart()
                process.wait_for("reconnected")
                early.started()
                assert process.stop() == 0
                with server.connect() as own:
                    own.execute("INSERT INTO t VALUES (2)")
                    follows(own, "copy", "SELECT id FROM t")
                assert early.stop() == 0
    finally:
        server.stop()


@pytest.mark.newest_only
def test_a_runner_without_a_catalog_says_what_to_do(db: str) -> None:
    with RunnerProcess(db) as process:
        assert process.end() == 1
        assert "pgtrickle init" in process.said()
