"""Installing, widening and trimming while others write."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle import db as engine_db
from pgtrickle.catalog import sources, stream_tables
from pgtrickle.errors import LockTimeout
from tests.support.consumers import Consumer, need_of

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]
Connect = Callable[..., User]


def in_background(work: Callable[[], object]) -> threading.Thread:
    """Run something that will block."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_writer_waiting_in_the_old_trigger_cannot_lose_a_new_column(
    storage: engine_db.Connection, conn: User, connect: Connect, db: str
) -> None:
    conn.execute("CREATE TABLE s (k integer, v integer)")
    Consumer(storage, need_of(conn, "s", ["k"])).install().load()
    conn.execute("BEGIN; INSERT INTO s VALUES (1, 10)")
    # Where deadlocks are looked for late, a wait for a lock may be so long that a writer comes to stand behind it.
    patient = engine_db.connect(f"{db} options='-c deadlock_timeout=60s'")
    patient.lend()
    second = Consumer(patient, need_of(conn, "s", ["v"]))
    installing = in_background(lambda: second.install(policy=engine_db.LockPolicy(lock_timeout_ms=5000)))
    time.sleep(0.3)
    late = connect()
    writing = in_background(lambda: late.execute("BEGIN; INSERT INTO s VALUES (2, 20)"))
    time.sleep(0.3)
    conn.execute("COMMIT")
    installing.join()
    writing.join()
    second.load()
    late.execute("COMMIT")
    second.assert_exact()
    assert second.content[("20",)] == 1
    patient.close()


def test_trim_spares_what_a_loading_consumer_has_not_seen(storage: engine_db.Connection, conn: User, db: str) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    first = Consumer(storage, need_of(conn, "s")).install().load()
    with engine_db.connect(db) as other:
        other.lend()
        second = Consumer(other, need_of(conn, "s")).install()
        with engine_db.transaction(other, repeatable_read=True):
            other.execute("SELECT count(*) FROM s")
            conn.execute("INSERT INTO s VALUES (1)")
            first.assert_exact()
            assert capture.trim(storage).deleted == 0
            second.advance()
        second.assert_exact()
        assert capture.trim(storage).deleted == 1


@pytest.mark.parametrize("status", ["SUSPENDED", "ERROR", "INITIALIZING"])
def test_trim_spares_what_a_stopped_consumer_has_not_seen(
    status: str, storage: engine_db.Connection, conn: User
) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    going, stopped = (Consumer(storage, need_of(conn, "s")).install().load() for _ in range(2))
    stream_tables.update(storage, stopped.id, status=status)
    conn.execute("INSERT INTO s VALUES (1)")
    going.assert_exact()
    assert capture.trim(storage).deleted == 0
    stopped.assert_exact()
    assert capture.trim(storage).deleted == 1


def test_trim_spares_running_transactions_and_takes_the_rest(
    storage: engine_db.Connection, conn: User, connect: Connect
) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    consumer = Consumer(storage, need_of(conn, "s")).install().load()
    slow = connect()
    slow.execute("BEGIN; INSERT INTO s VALUES (1)")
    conn.execute("INSERT INTO s VALUES (2)")
    consumer.assert_exact()
    assert capture.trim(storage).deleted == 1
    slow.execute("COMMIT")
    assert capture.trim(storage).deleted == 0
    consumer.assert_exact()
    assert capture.trim(storage).deleted == 1


def test_two_trims_do_not_get_in_each_others_way(storage: engine_db.Connection, conn: User, connect: Connect) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    consumer = Consumer(storage, need_of(conn, "s")).install().load()
    conn.execute("INSERT INTO s VALUES (1)")
    consumer.assert_exact()
    trimming = connect()
    trimming.execute("BEGIN; SELECT 1 FROM pgtrickle.sources FOR UPDATE")
    assert capture.trim(storage).deleted == 0
    trimming.execute("COMMIT")
    assert capture.trim(storage).deleted == 1


def test_install_behind_a_long_writer_stalls_nobody_longer_than_the_lock_timeout(
    storage: engine_db.Connection, conn: User, connect: Connect
) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    conn.execute("BEGIN; INSERT INTO s VALUES (1)")
    consumer = Consumer(storage, need_of(conn, "s"))
    installing = in_background(lambda: consumer.install(policy=engine_db.LockPolicy(lock_timeout_ms=100)))
    innocent, longest = connect(), 0.0
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        start = time.monotonic()
        innocent.execute("INSERT INTO s VALUES (2)")
        longest = max(longest, time.monotonic() - start)
    assert installing.is_alive()
    conn.execute("COMMIT")
    installing.join()
    assert longest < 0.5
    consumer.load()
    conn.execute("DELETE FROM s")
    consumer.assert_exact()


def test_install_that_gives_up_names_pid_and_query_and_leaves_nothing(
    storage: engine_db.Connection, conn: User
) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    consumer = Consumer(storage, need_of(conn, "s"))
    conn.execute("BEGIN; INSERT INTO s VALUES (42)")
    pid = conn.info.backend_pid
    with pytest.raises(LockTimeout) as caught:
        consumer.install(policy=engine_db.LockPolicy(lock_timeout_ms=50, give_up_after_s=0.4))
    assert str(pid) in str(caught.value.detail)
    assert "INSERT INTO s VALUES (42)" in str(caught.value.detail)
    assert sources.fetch_all(storage) == ()


def test_install_fails_at_once_if_the_caller_itself_holds_the_lock(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    conn.execute("BEGIN; INSERT INTO s VALUES (1)")
    policy = engine_db.LockPolicy(lock_timeout_ms=50, give_up_after_s=30, never_wait_for=conn.info.backend_pid)
    start = time.monotonic()
    with pytest.raises(LockTimeout):
        Consumer(storage, need_of(conn, "s")).install(policy=policy)
    assert time.monotonic() - start < 5


def test_prepared_transaction_that_blocks_is_named(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    conn.execute("BEGIN; INSERT INTO s VALUES (1); PREPARE TRANSACTION 'forgotten'")
    with pytest.raises(LockTimeout, match="forgotten"):
        Consumer(storage, need_of(conn, "s")).install(
            policy=engine_db.LockPolicy(lock_timeout_ms=50, give_up_after_s=0.2)
        )


def test_many_installs_at_once_on_the_same_sources_all_succeed(
    storage: engine_db.Connection, conn: User, db: str
) -> None:
    conn.execute("CREATE TABLE a (k integer, v integer); CREATE TABLE b (k integer, v integer)")
    failures: list[BaseException] = []

    def one(columns: list[str]) -> None:
        try:
            with engine_db.connect(db) as own:
                own.lend()
                for name in ("a", "b"):
                    Consumer(own, need_of(own, name, columns)).install()
        except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell
            failures.append(error)

    threads = [in_background(lambda columns=columns: one(columns)) for columns in (["k"], ["v"], ["k", "v"], [])]
    for thread in threads:
        thread.join()
    assert failures == []
    assert [source.columns for source in sources.fetch_all(storage)] == [(1, 2), (1, 2)]


def test_dead_runner_cannot_fill_the_disk(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 200000")
    conn.execute("CREATE TABLE s (k integer, v text)")
    consumer = Consumer(storage, need_of(conn, "s")).install().load()
    for _ in range(60):
        conn.execute("INSERT INTO s SELECT g, repeat('x', 50) FROM generate_series(1, 1000) g")
    row = conn.execute("SELECT pg_relation_size('pgtrickle_changes.b_1')").fetchone()
    assert row is not None
    assert row[0] < 500_000
    assert consumer.changes().marked


def test_consumer_too_far_behind_is_demoted_and_others_go_on(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 200000")
    conn.execute("CREATE TABLE s (k integer, v text)")
    dead = Consumer(storage, need_of(conn, "s")).install().load()
    alive = Consumer(storage, need_of(conn, "s")).install().load()
    for _ in range(2):
        conn.execute("INSERT INTO s SELECT g, repeat('x', 50) FROM generate_series(1, 1500) g")
        alive.assert_exact()
    result = capture.trim(storage)
    assert result.demoted == (dead.id,)
    row = conn.execute(
        "SELECT count(*), pg_relation_size('pgtrickle_changes.b_1') FROM pgtrickle_changes.b_1"
    ).fetchone()
    assert row == (0, 0)
    found = stream_tables.fetch(storage, dead.id)
    assert found is not None
    assert found.demoted
    assert found.recompute_reason is not None
    conn.execute("INSERT INTO s VALUES (1, 'rows again')")
    alive.assert_exact()
    assert capture.rejoin(storage, [dead.id, alive.id]) == (dead.id,)
    dead.load()
    conn.execute("INSERT INTO s VALUES (2, 'after')")
    assert capture.trim(storage).deleted == 1
    dead.assert_exact()


def test_consumer_that_is_never_loaded_does_not_hold_up_the_others(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 200000")
    conn.execute("CREATE TABLE s (k integer, v text)")
    alive = Consumer(storage, need_of(conn, "s")).install().load()
    idle = Consumer(storage, need_of(conn, "s")).install()
    for _ in range(2):
        conn.execute("INSERT INTO s SELECT g, repeat('x', 50) FROM generate_series(1, 1500) g")
        alive.assert_exact()
    assert capture.trim(storage).demoted == (idle.id,)
    conn.execute("INSERT INTO s VALUES (1, 'rows again')")
    alive.assert_exact()


def test_logs_are_trimmed_by_number(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    upper = Consumer(storage, need_of(conn, "s"))
    lower = Consumer(storage, need_of(conn, "s"))
    upstream = stream_tables.fetch(storage, upper.id)
    assert upstream is not None
    need = need_of(conn, "s")
    capture.install(storage, lower.id, [type(need)(upstream.relid, "stream_table", {1: "k"})])
    log = capture.output_log_of(upper.id)
    conn.execute(f"CREATE TABLE {log.schema}.{log.name} (__n bigint, __w integer, c1 integer)")
    conn.execute(f"INSERT INTO {log.schema}.{log.name} SELECT g, 1, g FROM generate_series(1, 5) g")
    conn.execute("UPDATE pgtrickle.frontiers SET refresh_no = 5 WHERE stream_table_id = %s", (upper.id,))
    assert capture.trim(storage).deleted == 0
    conn.execute(
        "UPDATE pgtrickle.frontiers SET consumed = jsonb_build_object(%s::text, 3) WHERE stream_table_id = %s",
        (str(upstream.relid), lower.id),
    )
    assert capture.trim(storage).deleted == 3
    capture.release(storage, lower.id)
    assert capture.trim(storage).deleted == 2


def test_buffers_are_trimmed_under_a_publication_of_all_tables(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE s (k integer PRIMARY KEY, j json, p point)")
    conn.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    consumer = Consumer(storage, need_of(conn, "s")).install().load()
    conn.execute("INSERT INTO s VALUES (1, '{}', '(1,2)')")
    consumer.assert_exact()
    assert capture.trim(storage).deleted == 1


def indexed(conn: User) -> bool:
    """Whether the first change buffer has an index."""
    return conn.execute("SELECT to_regclass('pgtrickle_changes.b_1_x') IS NOT NULL").fetchone() == (True,)


def test_buffer_is_indexed_while_it_has_several_consumers(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE s (k integer)")
    first = Consumer(storage, need_of(conn, "s")).install().load()
    assert not indexed(conn)
    second = Consumer(storage, need_of(conn, "s")).install().load()
    assert indexed(conn)
    conn.execute("INSERT INTO s VALUES (1)")
    first.assert_exact()
    capture.release(storage, second.id)
    assert not indexed(conn)
    first.assert_exact()


def test_long_buffer_is_indexed_when_it_got_short(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE s (k integer, v text)")
    first = Consumer(storage, need_of(conn, "s")).install().load()
    conn.execute("INSERT INTO s SELECT g, repeat('x', 100) FROM generate_series(1, 40000) g")
    Consumer(storage, need_of(conn, "s")).install().load()
    assert not indexed(conn)
    first.assert_exact()
    assert capture.trim(storage).deleted == 40000
    assert indexed(conn)


def write_at_random(conn: User, seed: int, until: float) -> None:
    """Long, short, nested, rolled-back and prepared transactions on ``s``."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        conn.execute("BEGIN")
        for _ in range(chance.randint(1, 4)):
            key = chance.randint(1, 50)
            conn.execute("SAVEPOINT one")
            try:
                conn.execute(
                    chance.choice(
                        (
                            f"INSERT INTO s SELECT {key}, g, g / 3.0 FROM generate_series(1, {chance.randint(0, 5)}) g",
                            f"UPDATE s SET v = v + 1 WHERE k = {key}",
                            f"UPDATE s SET n = n * 1.0 WHERE k > {key}",
                            f"DELETE FROM s WHERE k = {key}",
                        )
                    )
                )
            except psycopg.errors.DeadlockDetected:
                conn.execute("ROLLBACK TO one")
            if chance.random() < 0.2:
                conn.execute("ROLLBACK TO one")
            time.sleep(chance.choice((0, 0, 0.002, 0.03)))
        if chance.random() < 0.2:
            conn.execute(f"PREPARE TRANSACTION 'p{seed}'")
            time.sleep(0.02)
            conn.execute(chance.choice((f"COMMIT PREPARED 'p{seed}'", f"ROLLBACK PREPARED 'p{seed}'")))
        else:
            conn.execute(chance.choice(("COMMIT", "COMMIT", "ROLLBACK")))


def test_no_change_is_lost_or_doubled_between_writers_refreshes_trims_and_installs(
    storage: engine_db.Connection, conn: User, connect: Connect, db: str
) -> None:
    conn.execute("CREATE TABLE s (k integer, v integer, n numeric)")
    consumers = [Consumer(engine_db.connect(db), need_of(conn, "s", ["k", "v"])).install().load()]
    until = time.monotonic() + 4
    failures: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell
                failures.append(error)

        return run

    threads = [in_background(guarded(partial(write_at_random, connect(), seed, until))) for seed in range(4)]
    while time.monotonic() < until:
        if len(consumers) < 4:
            columns = (["n"], ["v", "n"], ["k"])[len(consumers) - 1]
            consumers.append(Consumer(engine_db.connect(db), need_of(conn, "s", columns)).install().load())
        for consumer in consumers:
            consumer.refresh()
        capture.trim(storage)
    for thread in threads:
        thread.join()
    assert failures == []
    for consumer in consumers:
        consumer.assert_exact()
        consumer.conn.close()
