"""Definitions come, change and go while others write and refresh."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError, RefreshError

pytestmark = pytest.mark.edges_only

QUERY = "SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k"


@pytest.fixture
def t(conn, engine):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int)")
    conn.execute("INSERT INTO t SELECT n, n % 5, n FROM generate_series(1, 200) n")
    return engine


@contextmanager
def in_background(*works):
    """Run each again and again until the block ends; what they raise fails the test."""
    stop, errors = threading.Event(), []

    def loop(work) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    threads = [threading.Thread(target=loop, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not errors, errors


def writer(db, start):
    session, numbers = psycopg.connect(db), iter(range(start, start + 1_000_000))

    def work() -> None:
        n = next(numbers)
        session.execute("INSERT INTO t VALUES (%s, %s, 1)", [n, n % 7])
        session.execute("UPDATE t SET v = v + 1 WHERE id = %s", [n % 100])
        session.commit() if n % 4 else session.rollback()
        time.sleep(0.001)

    return work


def refresher(db):
    engine = PgTrickle.connect(db)

    def work() -> None:
        engine.refresh_all()

    return work


def test_a_load_and_the_writers_it_races_with_neither_miss_nor_double(db, conn, t, oracle):
    with in_background(writer(db, 10_000), writer(db, 2_000_000)):
        for n in range(4):
            t.create_stream_table(f"s{n}", QUERY, refresh_mode="DIFFERENTIAL")
    t.refresh_all()
    for n in range(4):
        oracle(conn, f"s{n}", QUERY)
        assert t.verify(f"s{n}").proven


def test_a_dependent_is_created_while_its_source_is_refreshed(db, conn, t, oracle):
    t.create_stream_table("a", "SELECT id, k, v FROM t", refresh_mode="DIFFERENTIAL")
    below = "SELECT k, count(*) AS n, sum(v) AS v FROM a GROUP BY k"
    with in_background(writer(db, 10_000), refresher(db)):
        for n in range(3):
            t.create_stream_table(f"b{n}", below, refresh_mode="DIFFERENTIAL")
            time.sleep(0.1)
    t.refresh_all()
    for n in range(3):
        oracle(conn, f"b{n}", below)


def test_a_definition_is_replaced_while_others_write_and_refresh(db, conn, t, oracle):
    t.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    wider = "SELECT k, count(*) AS n, sum(v) AS v, max(v) AS top FROM t WHERE v > 3 GROUP BY k"
    with in_background(writer(db, 10_000), refresher(db)):
        for _ in range(3):
            t.create_or_replace_stream_table("s", wider)
            time.sleep(0.1)
            t.create_or_replace_stream_table("s", QUERY)
            time.sleep(0.1)
    t.refresh_all()
    oracle(conn, "s", QUERY)
    assert t.verify("s").proven


def test_a_stream_table_is_dropped_while_others_refresh_it(db, conn, t, oracle):
    with in_background(writer(db, 10_000), refresher(db)):
        for n in range(3):
            t.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
            t.create_stream_table("kept" if n == 0 else f"kept{n}", QUERY, refresh_mode="DIFFERENTIAL")
            time.sleep(0.1)
            t.drop_stream_table("s")
    t.refresh_all()
    oracle(conn, "kept", QUERY)


def test_sources_are_altered_while_others_write_and_refresh(db, conn, t, oracle):
    t.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    with in_background(writer(db, 10_000), refresher(db)):
        for n in range(3):
            conn.execute(f"ALTER TABLE t ADD COLUMN extra{n} int DEFAULT 1")
            conn.execute("ALTER TABLE t ALTER COLUMN v TYPE bigint")
            conn.execute("TRUNCATE t")
            time.sleep(0.2)
            conn.execute("ALTER TABLE t ALTER COLUMN v TYPE int")
    t.refresh_all()
    oracle(conn, "s", QUERY)


def test_a_creation_that_died_is_finished_by_the_next_attempt(db, conn, connect, t, oracle):
    blocker = connect(autocommit=False)
    blocker.execute("UPDATE t SET v = 0 WHERE id = 1")
    outcome = []

    def create() -> None:
        try:
            with PgTrickle.connect(db) as mine:
                mine.create_stream_table("s", QUERY)
        except PgTrickleError as error:
            outcome.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    pid = None
    for _ in range(200):
        found = conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgtrickle' AND pid <> %s",
            [t.conn.info.backend_pid],
        ).fetchone()
        if found and conn.execute("SELECT count(*) FROM pgtrickle.stream_tables").fetchone() == (1,):
            pid = found[0]
            break
        time.sleep(0.05)
    conn.execute("SELECT pg_terminate_backend(%s)", [pid])
    thread.join(60)
    blocker.commit()
    assert outcome
    assert t.status("s")[0].status == "INITIALIZING"
    with pytest.raises(RefreshError, match="create_or_replace"):
        t.refresh_stream_table("s")
    t.create_or_replace_stream_table("s", QUERY)
    oracle(conn, "s", QUERY)
    conn.execute("DELETE FROM t WHERE id < 50")
    assert t.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)
