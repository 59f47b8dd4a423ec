"""A runner that is dead fills no disk and harms no writer; when somebody refreshes again, nothing is missing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.sql import SQL, Identifier

from pgtrickle import api, capture
from pgtrickle.api import PgTrickle
from tests.support.runners import eventually

pytestmark = pytest.mark.edges_only

QUERY = "SELECT k, count(*) AS n, sum(length(pad)) AS v FROM t GROUP BY k"
LIMIT = 200_000
#: What is left is the index of the TOAST table.
EMPTY = (8192, False)


@pytest.fixture
def limited(conn: psycopg.Connection[Any], engine: PgTrickle) -> PgTrickle:
    """``s`` reads ``t``, whose change buffer has a limit of 200 kB."""
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = %s", (LIMIT,))
    conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, k int, pad text)")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    return engine


def space(conn: psycopg.Connection[Any]) -> tuple[int, bool]:
    """Bytes of the change buffer as a monitoring role sees them, and whether capture has stopped."""
    row = conn.execute("SELECT bytes, stopped_since IS NOT NULL FROM pgtrickle.change_buffers").fetchone()
    assert row is not None
    return row


def insert(conn: psycopg.Connection[Any], start: int, count: int) -> None:
    conn.execute(
        "INSERT INTO t SELECT n, n %% 5, repeat('x', 50) FROM generate_series(%s::bigint, %s::bigint) n",
        (start, start + count - 1),
    )


def fill(conn: psycopg.Connection[Any]) -> None:
    for number in range(40):
        insert(conn, number * 100, 100)
    assert space(conn)[1], "the buffer should be full"


def test_past_the_limit_writers_write_nothing_and_the_next_refresh_begins_anew(
    conn: psycopg.Connection[Any], limited: PgTrickle, oracle: Callable[..., None]
) -> None:
    fill(conn)
    full = space(conn)
    for number in range(200):
        conn.execute("INSERT INTO t VALUES (%s, 7, 'late')", (100_000 + number,))
    conn.execute("UPDATE t SET pad = pad || 'y'")
    conn.execute("DELETE FROM t WHERE id % 3 = 0")
    assert space(conn) == full
    assert limited.verify("s").proven is None
    result = limited.refresh_stream_table("s")
    assert (result.action, space(conn)) == ("FULL", EMPTY)
    oracle(conn, "s", QUERY)
    insert(conn, 200_000, 10)
    assert limited.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)


@pytest.mark.parametrize("isolation", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_past_the_limit_writers_with_a_snapshot_write_nothing_either(
    conn: psycopg.Connection[Any],
    engine: PgTrickle,
    oracle: Callable[..., None],
    connect: Callable[..., psycopg.Connection[Any]],
    isolation: IsolationLevel,
) -> None:
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 40000")
    conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, k int, pad text)")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    others = [connect(autocommit=False) for _ in range(3)]
    for other in others:
        other.isolation_level = isolation
    number = 0

    def write(rounds: int) -> None:
        """Transactions that overlap and write at the same time; none of them may fail."""
        nonlocal number
        for _ in range(rounds):
            for _ in range(2):
                for other in others:
                    number += 1
                    other.execute("INSERT INTO t VALUES (%s, %s, 'x')", (number, number % 7))
            for other in others:
                other.commit()

    while not space(conn)[1]:
        write(20)
    # A SERIALIZABLE transaction does not look before the limit is passed by an eighth.
    write(40)
    assert space(conn)[0] < 90_000
    written = "SELECT (SELECT count(*) FROM pgtrickle_changes.b_1), (SELECT count(*) FROM pgtrickle.overflows)"
    before = conn.execute(written).fetchone()
    write(20)
    assert conn.execute(written).fetchone() == before
    assert engine.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", QUERY)
    write(1)
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)


def test_an_old_snapshot_that_shows_that_capture_has_stopped_is_not_trusted(
    conn: psycopg.Connection[Any],
    limited: PgTrickle,
    oracle: Callable[..., None],
    connect: Callable[..., psycopg.Connection[Any]],
) -> None:
    fill(conn)
    older = connect(autocommit=False)
    older.isolation_level = IsolationLevel.REPEATABLE_READ
    older.execute("SELECT count(*) FROM pgtrickle.overflows")
    with connect(autocommit=False) as dump:
        # So that the buffer cannot be emptied, and is as long as ever.
        dump.execute("LOCK TABLE pgtrickle_changes.b_1 IN ACCESS SHARE MODE")
        assert limited.refresh_stream_table("s").action == "FULL"
        older.execute("INSERT INTO t VALUES (-1, 99, 'x')")
        older.commit()
        assert limited.refresh_stream_table("s").action == "FULL"
        oracle(conn, "s", QUERY)


@pytest.mark.parametrize("statement", ["INSERT", "UPDATE", "DELETE"])
def test_one_statement_of_many_rows_passes_the_limit_by_little(
    conn: psycopg.Connection[Any], limited: PgTrickle, oracle: Callable[..., None], statement: str
) -> None:
    if statement == "INSERT":
        insert(conn, 0, 200_000)
    else:
        conn.execute("ALTER TABLE t DISABLE TRIGGER USER")
        insert(conn, 0, 200_000)
        conn.execute("ALTER TABLE t ENABLE TRIGGER USER")
        conn.execute("UPDATE t SET k = k + 1" if statement == "UPDATE" else "DELETE FROM t WHERE k < 4")
    size, stopped = space(conn)
    assert stopped
    # The first part has 10,000 rows.
    assert size < 1_500_000
    assert limited.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", QUERY)


def test_a_statement_in_parts_leaves_out_and_repeats_nothing(
    conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Callable[..., None]
) -> None:
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 20000000")
    conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, k int, pad text)")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    part = 20_000_000 // 1024
    for count in (part, 2 * part, 3 * part + 1):
        insert(conn, 0, count)
        conn.execute("UPDATE t SET k = k + 2, pad = pad || id WHERE id % 9 <> 5")
        assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
        oracle(conn, "s", QUERY)
        conn.execute("DELETE FROM t")
        assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
        oracle(conn, "s", QUERY)


def test_who_began_to_write_before_capture_began_again_is_waited_for(
    conn: psycopg.Connection[Any],
    limited: PgTrickle,
    oracle: Callable[..., None],
    connect: Callable[..., psycopg.Connection[Any]],
) -> None:
    fill(conn)
    late, older = connect(autocommit=False), connect(autocommit=False)
    older.isolation_level = IsolationLevel.REPEATABLE_READ
    older.execute("SELECT count(*) FROM pgtrickle.overflows").fetchone()
    late.execute("INSERT INTO t VALUES (-1, 99, 'written where nothing is captured')")
    done = threading.Event()

    def refresh() -> None:
        with PgTrickle.connect(conn.info.dsn) as other:
            other.refresh_stream_table("s")
        done.set()

    thread = threading.Thread(target=refresh)
    thread.start()
    assert not done.wait(1.0)
    late.commit()
    thread.join(timeout=60)
    assert done.is_set()
    # Its snapshot shows that capture has stopped, which is over.
    older.execute("INSERT INTO t VALUES (-2, 99, 'x')")
    older.commit()
    limited.refresh_stream_table("s")
    oracle(conn, "s", QUERY)


def test_a_reader_of_the_buffer_does_not_hold_up_the_new_beginning(
    conn: psycopg.Connection[Any],
    limited: PgTrickle,
    oracle: Callable[..., None],
    connect: Callable[..., psycopg.Connection[Any]],
) -> None:
    fill(conn)
    with connect(autocommit=False) as dump:
        dump.execute("LOCK TABLE pgtrickle_changes.b_1 IN ACCESS SHARE MODE")
        for number in range(2):
            insert(conn, 100_000 + number * 100, 100)
            assert limited.refresh_stream_table("s").action == "FULL"
            oracle(conn, "s", QUERY)
    insert(conn, 200_000, 10)
    limited.refresh_stream_table("s")
    assert space(conn) == EMPTY
    oracle(conn, "s", QUERY)


def test_marks_of_a_full_stream_table_stop_at_the_limit_too(
    conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Callable[..., None]
) -> None:
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 16384")
    conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, k int, pad text)")
    engine.create_stream_table("s", QUERY, refresh_mode="FULL")
    for number in range(1500):
        conn.execute("INSERT INTO t VALUES (%s, 1, 'x')", (number,))
    size, stopped = space(conn)
    # With its free space map.
    assert stopped
    assert size < 60_000
    engine.refresh_stream_table("s")
    oracle(conn, "s", QUERY)
    assert not space(conn)[1]


@pytest.fixture
def stopped(limited: PgTrickle) -> PgTrickle:
    """``dead`` is suspended and reads the same table."""
    limited.create_stream_table("dead", QUERY, refresh_mode="DIFFERENTIAL")
    limited.suspend("dead")
    return limited


def test_a_dead_consumer_is_let_go_before_capture_stops_for_the_others(
    conn: psycopg.Connection[Any], stopped: PgTrickle, oracle: Callable[..., None]
) -> None:
    for number in range(60):
        insert(conn, number * 100, 100)
        result = stopped.refresh_stream_table("s")
        assert result.action == "DIFFERENTIAL", result
        capture.trim(stopped.conn)
        assert not space(conn)[1]
    assert conn.execute("SELECT demoted FROM pgtrickle.stream_tables ORDER BY id").fetchall() == [(False,), (True,)]
    stopped.resume("dead")
    assert stopped.refresh_stream_table("dead").action == "FULL"
    oracle(conn, "dead", QUERY)


class Storm:
    """Writers of every kind, all of them past the limit all the time."""

    def __init__(self, dsn: str, seconds: float) -> None:
        self.dsn = dsn
        self.over = threading.Event()
        self.written = 0
        self._timer = threading.Timer(seconds, self.over.set)

    def run(self, number: int) -> None:
        """Write until it is over."""
        dice = random.Random(number)
        with psycopg.connect(self.dsn) as writer:
            writer.isolation_level = list(IsolationLevel)[1 + number % 3] if number % 2 else None
            turn = 0
            while not self.over.is_set():
                turn += 1
                try:
                    self._write(writer, dice, number * 10_000_000 + turn * 1_000)
                except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                    writer.rollback()

    def _write(self, writer: psycopg.Connection[Any], dice: random.Random, start: int) -> None:
        for part in range(dice.choice((1, 1, 1, 3))):
            writer.execute("SAVEPOINT part")
            insert(writer, start + 100 * part, dice.choice((1, 1, 20, 99)))
            writer.execute("UPDATE t SET pad = pad || 'z' WHERE id = ANY (%s)", ([start + 100 * part, start - 1000],))
            writer.execute("DELETE FROM t WHERE id BETWEEN %s AND %s", (start - 1000, start - 990))
            if dice.random() < 0.2:
                writer.execute("ROLLBACK TO part")
            if dice.random() < 0.1:
                self.over.wait(dice.random() / 5)
        writer.rollback() if dice.random() < 0.1 else writer.commit()
        self.written += 1

    def __enter__(self) -> Storm:
        self.pool = ThreadPoolExecutor(6)
        self._timer.start()
        self.writers = [self.pool.submit(self.run, number) for number in range(1, 7)]
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for writer in self.writers:
            writer.result(timeout=60)
        self.pool.shutdown()


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_nothing_is_lost_where_capture_stops_and_begins_again_below_writers(
    conn: psycopg.Connection[Any], limited: PgTrickle, oracle: Callable[..., None], db: str, seconds: int
) -> None:
    limited.create_stream_table("u", "SELECT id, k, pad FROM t WHERE k <> 3", refresh_mode="DIFFERENTIAL")
    actions: list[str] = []
    stops = 0
    with Storm(db, seconds) as storm:
        while not storm.over.is_set():
            # Now and then as late as a runner that was away, or a fast one would never see capture stop.
            while len(actions) % 4 == 0 and not space(conn)[1] and not storm.over.is_set():
                storm.over.wait(0.02)
            stops += space(conn)[1]
            for name in ("s", "u"):
                actions.append(limited.refresh_stream_table(name).action)
                assert limited.verify(name).proven is not False
            if len(actions) % 3 == 0:
                capture.trim(limited.conn)
    assert storm.written
    assert stops
    for name in ("s", "u"):
        limited.refresh_stream_table(name)
    oracle(conn, "s", QUERY)
    oracle(conn, "u", "SELECT id, k, pad FROM t WHERE k <> 3")
    assert "FULL" in actions
    insert(conn, -1000, 10)
    for name in ("s", "u"):
        assert limited.refresh_stream_table(name).action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)


@pytest.mark.slow
def test_millions_of_consumed_changes_are_deleted_in_parts(
    conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "TRIM_AFTER", 10**9)
    conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, k int, pad text)")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    insert(conn, 0, 1_500_000)
    engine.refresh_stream_table("s")
    insert(conn, 5_000_000, 10)
    (before,) = conn.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
    assert capture.trim(engine.conn).deleted == 1_500_000
    (after,) = conn.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
    assert after - before > 3
    assert conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone() == (10,)
    engine.refresh_stream_table("s")
    oracle(conn, "s", QUERY)


def test_whoever_watches_the_server_may_see_how_fresh_everything_is(
    conn: psycopg.Connection[Any], limited: PgTrickle
) -> None:
    conn.execute("DROP ROLE IF EXISTS pgt_space_watch")
    conn.execute("CREATE ROLE pgt_space_watch IN ROLE pg_monitor")
    try:
        fill(conn)
        conn.execute("SET ROLE pgt_space_watch")
        for view in ("stream_table_status", "quick_health", "pg_stat_stream_tables", "change_buffers"):
            assert conn.execute(SQL("SELECT * FROM {}").format(Identifier("pgtrickle", view))).fetchall()
    finally:
        conn.execute("RESET ROLE")
        conn.execute("DROP ROLE pgt_space_watch")


def test_columns_may_have_the_names_of_what_counts_the_parts(
    conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Callable[..., None]
) -> None:
    conn.execute("CREATE TABLE c (part int, done int, written int, own int, source int, unmet int)")
    engine.create_stream_table("s", "SELECT part, done, written, own, source, unmet FROM c")
    conn.execute("INSERT INTO c VALUES (1, 2, 3, 4, 5, 6), (7, 8, 9, 10, 11, 12)")
    conn.execute("UPDATE c SET done = 0, part = 0 WHERE part = 1")
    conn.execute("DELETE FROM c WHERE part = 7")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", "SELECT part, done, written, own, source, unmet FROM c")


def test_a_consumer_that_is_let_go_holds_back_nothing_and_comes_back_with_a_recompute(
    conn: psycopg.Connection[Any], limited: PgTrickle, oracle: Callable[..., None]
) -> None:
    limited.create_stream_table("above", "SELECT sum(n) AS n FROM s", refresh_mode="DIFFERENTIAL")
    for name in ("s", "above"):
        limited.suspend(name)
    insert(conn, 0, 100)
    capture.trim(limited.conn)
    assert conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone() == (100,)
    limited.let_go("s")
    assert conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone() == (0,)
    row = conn.execute("SELECT consumers, demoted, furthest_behind FROM pgtrickle.change_buffers").fetchone()
    assert row == (1, 1, None)
    insert(conn, 1000, 100)
    for name in ("s", "above"):
        limited.resume(name)
    assert limited.refresh_stream_table("above").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)
    insert(conn, 2000, 100)
    limited.refresh_stream_table("above")
    oracle(conn, "above", "SELECT count(*)::numeric AS n FROM t")
    assert limited.verify("s").proven


@pytest.mark.slow
def test_nothing_grows_in_the_long_run_also_after_a_long_reader(
    conn: psycopg.Connection[Any],
    engine: PgTrickle,
    oracle: Callable[..., None],
    connect: Callable[..., psycopg.Connection[Any]],
) -> None:
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int) WITH (fillfactor = 50)")
    conn.execute("INSERT INTO t SELECT n, n % 200, n FROM generate_series(1, 2000) n")
    engine.create_stream_table("s", "SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k")
    engine.create_stream_table("d", "SELECT k % 10 AS g, sum(v) AS v FROM s GROUP BY k % 10")

    def cycles(number: int) -> dict[str, int]:
        """Change, refresh, trim so many times; kilobytes of our tables then."""
        for turn in range(number):
            conn.execute("UPDATE t SET v = v + 1 WHERE id %% 4 = %s", (turn % 4,))
            engine.refresh_stream_table("d")
            if turn % 5 == 0:
                capture.trim(engine.conn)
        conn.execute("VACUUM")
        return dict(
            conn.execute(
                "SELECT c.oid::regclass::text, pg_table_size(c.oid) / 1024 FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname IN"
                " ('pgtrickle', 'pgtrickle_changes', 'pgtrickle_state', 'public')"
                " AND c.oid <> 'pgtrickle.refresh_history'::regclass"
            ).fetchall()
        )

    with connect(autocommit=False) as reader:
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM t")
        under = cycles(100)
    # What the reader held back is free space now, and is used again. Autovacuum comes to logs every few seconds.
    after = cycles(20)
    long_after = cycles(150)
    assert {name: size for name, size in long_after.items() if size > after[name] + 2_000} == {}
    assert max(under.values()) < 20_000
    oracle(
        conn, "d", "SELECT k % 10 AS g, sum(v) AS v FROM (SELECT k, sum(v) AS v FROM t GROUP BY k) q GROUP BY k % 10"
    )


@pytest.mark.newest_only
def test_what_refreshes_leave_is_vacuumed_where_autovacuum_is_off(
    conn: psycopg.Connection[Any], engine: PgTrickle
) -> None:
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int); INSERT INTO t SELECT n, n FROM generate_series(1, 900) n")
    engine.create_stream_table("s", "SELECT k, count(*) AS n FROM t GROUP BY k")
    engine.create_stream_table("d", "SELECT n, count(*) AS m FROM s GROUP BY n")
    conn.execute("ALTER SYSTEM SET autovacuum = off")
    conn.execute("SELECT pg_reload_conf()")
    try:
        for _ in range(3):
            conn.execute("UPDATE t SET k = k + 1000")
            engine.refresh_stream_table("d")
            capture.trim(engine.own_conn)
        eventually(lambda: _vacuumed(conn, engine), "what is dead is vacuumed")
    finally:
        conn.execute("ALTER SYSTEM RESET autovacuum")
        conn.execute("SELECT pg_reload_conf()")


def _vacuumed(conn: psycopg.Connection[Any], engine: PgTrickle) -> bool:
    """Change, refresh and trim once more; whether a stream table and its output log have been vacuumed by then."""
    conn.execute("UPDATE t SET k = k + 1 WHERE id = 1")
    engine.refresh_stream_table("d")
    capture.trim(engine.own_conn)
    found = "SELECT relname FROM pg_stat_user_tables WHERE relname IN ('s', 'o_1') AND vacuum_count > 0"
    return len(conn.execute(found).fetchall()) == 2
