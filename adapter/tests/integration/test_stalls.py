"""Nobody waits for us: not while a load or a recompute is at work, and not behind a lock that we wait for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from pgtrickle.errors import LockTimeout
from tests.support.background import Background, until
from tests.support.proxy import CuttingProxy

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]
Connect = Callable[..., User]

#: A query waits in this function for as long as a test holds the advisory lock.
SETUP = """
CREATE FUNCTION gate(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN $1; END $$;
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t SELECT n, n FROM generate_series(1, 20) n;
"""
QUERY = "SELECT id, gate(v) AS v FROM t"
SWAP = """
CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u SELECT id, v + 1 FROM t; DROP TABLE t; ALTER TABLE u RENAME TO t
"""

OPERATIONS: dict[str, tuple[str, str, Callable[[PgTrickle], Any]]] = {
    "create": ("", "", lambda engine: engine.create_stream_table("new", QUERY)),
    "refresh": ("DIFFERENTIAL", "UPDATE t SET v = v + 1 WHERE id < 5", lambda engine: engine.refresh_stream_table("s")),
    "refresh_full": ("FULL", "UPDATE t SET v = v + 1", lambda engine: engine.refresh_stream_table("s")),
    "recompute": ("DIFFERENTIAL", "", lambda engine: engine.refresh_stream_table("s", full=True)),
    "mend_after_a_swap": ("DIFFERENTIAL", SWAP, lambda engine: engine.refresh_stream_table("s")),
    "mend_after_a_rename": ("FULL", "ALTER TABLE t RENAME v TO w", lambda engine: engine.refresh_stream_table("s")),
    "alter_the_query": (
        "DIFFERENTIAL",
        "",
        lambda engine: engine.create_or_replace_stream_table("s", QUERY + " WHERE id > 3"),
    ),
    "alter_the_mode": ("DIFFERENTIAL", "", lambda engine: engine.alter_stream_table("s", refresh_mode="FULL")),
    "a_column_more": (
        "DIFFERENTIAL",
        "",
        lambda engine: engine.create_or_replace_stream_table("s", "SELECT id, gate(v) AS v, id AS w FROM t"),
    ),
    "a_column_less": (
        "DIFFERENTIAL",
        "",
        lambda engine: engine.create_or_replace_stream_table("s", "SELECT gate(id) AS id FROM t"),
    ),
    "another_type": (
        "DIFFERENTIAL",
        "",
        lambda engine: engine.create_or_replace_stream_table("s", "SELECT id, gate(v)::bigint AS v FROM t"),
    ),
    "another_key": (
        "DIFFERENTIAL",
        "",
        lambda engine: engine.create_or_replace_stream_table("s", "SELECT abs(id) AS id, gate(v) AS v FROM t"),
    ),
    "verify": ("DIFFERENTIAL", "UPDATE t SET v = v + 1 WHERE id < 5", lambda engine: engine.verify("s")),
}


@pytest.fixture
def impatient(connect: Connect) -> User:
    """A session that fails where it would have to wait for a lock, before anybody else gives up."""
    session = connect()
    session.execute("SET lock_timeout = '50ms'")
    return session


@contextmanager
def at_the_gate(conn: User, connect: Connect, work: Callable[[], Any]) -> Iterator[Background]:
    """Run something up to the gate, do something else, and let it go on."""
    holder = connect()
    holder.execute("SELECT pg_advisory_lock(42)")
    running = Background(work)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"
    try:
        until(lambda: conn.execute(waiting).fetchone() != (0,) or not running.thread.is_alive())
        assert running.thread.is_alive(), running.error
        yield running
    finally:
        holder.execute("SELECT pg_advisory_unlock(42)")
    running.done()


LONG = ("refresh_full", "mend_after_a_rename", "alter_the_query", "a_column_less", "another_type", "another_key")


@pytest.mark.parametrize(
    "operation", [pytest.param(one, marks=pytest.mark.slow if one in LONG else ()) for one in OPERATIONS]
)
def test_readers_and_writers_do_not_notice_an_operation(
    operation: str, conn: User, connect: Connect, impatient: User, engine: PgTrickle
) -> None:
    mode, before, work = OPERATIONS[operation]
    conn.execute(SETUP)
    if mode:
        engine.create_stream_table("s", QUERY, refresh_mode=mode)
    conn.execute(before)
    with at_the_gate(conn, connect, lambda: work(engine)):
        impatient.execute("INSERT INTO t VALUES (100, 1); UPDATE t SET id = id + 1000 WHERE id = 7")
        impatient.execute("DELETE FROM t WHERE id = 8")
        impatient.execute("SELECT count(*) FROM t")
        if mode:
            assert impatient.execute("SELECT count(*) FROM s").fetchone() == (20,)
    name = "s" if mode else "new"
    engine.refresh_stream_table(name)
    assert conn.execute(f"SELECT count(*) FROM {name} WHERE id IN (7, 8)").fetchone() == (0,)


TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE starts_with(tgname, 'zz_pgtrickle')"
HOLDERS = {
    "reader": ("SELECT count(*) FROM t", False),
    "writer": ("INSERT INTO t VALUES (200, 1)", True),
    "autovacuum": ("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE", True),
    "index": ("LOCK TABLE t IN SHARE MODE", True),
}


@pytest.mark.parametrize(
    "holder", [pytest.param(one, marks=() if one in ("writer", "autovacuum") else pytest.mark.slow) for one in HOLDERS]
)
def test_behind_an_old_transaction_nobody_waits_for_long(
    holder: str, conn: User, connect: Connect, engine: PgTrickle
) -> None:
    conn.execute(SETUP)
    statement, blocks = HOLDERS[holder]
    old = connect(autocommit=False)
    old.execute(statement)
    installing = Background(lambda: engine.create_stream_table("s", QUERY, install_timeout=0.6))
    # One attempt of ours waits 150 ms.
    others = connect()
    others.execute("SET lock_timeout = '2s'")
    while installing.thread.is_alive() and holder != "index":
        others.execute("INSERT INTO t VALUES (300, 1); DELETE FROM t WHERE id = 300")
    if blocks:
        with pytest.raises(LockTimeout) as caught:
            installing.done()
        assert f"pid {old.info.backend_pid} " in str(caught.value.detail)
        assert statement in str(caught.value.detail)
        assert not engine.is_stream_table("s")
        assert conn.execute(
            "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 't'::regclass"
        ).fetchone() == (0,)
        old.rollback()
        installing = Background(lambda: engine.create_stream_table("s", QUERY))
    installing.done()
    old.rollback()
    old.execute(statement)
    dropping = Background(lambda: engine.drop_stream_table("s"))
    # The table is gone before the triggers are, which wait for the old transaction and keep nobody waiting.
    until(lambda: conn.execute("SELECT to_regclass('s') IS NULL").fetchone() == (True,))
    for _ in range(10 if holder != "index" else 0):
        others.execute("INSERT INTO t VALUES (300, 1); DELETE FROM t WHERE id = 300")
    old.rollback()
    dropping.done()
    # They go with the next trim if it had to wait for too long.
    capture.trim(engine.own_conn)
    assert conn.execute(TRIGGERS).fetchone() == (0,)


HELD = """
SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND l.mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock') AND c.relname IN ('t', 'p', 'p1')
"""
DAMAGE = "ALTER TABLE t DISABLE TRIGGER USER; CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)"
STEPS: dict[str, Callable[[PgTrickle], Any]] = {
    "create": lambda engine: engine.create_stream_table("s", "SELECT id, v FROM t"),
    "create of partitions": lambda engine: engine.create_stream_table("r", "SELECT k, count(*) AS n FROM p GROUP BY k"),
    "widen": lambda engine: engine.create_or_replace_stream_table("s", "SELECT id, v, w FROM t"),
    "repair": lambda engine: engine.doctor(fix=True),
    "refresh": lambda engine: engine.refresh_all(),
    "narrow": lambda engine: engine.create_or_replace_stream_table("s", "SELECT id, v FROM t"),
    "drop": lambda engine: engine.drop_stream_table("s"),
    "drop of partitions": lambda engine: engine.drop_stream_table("r"),
}


def test_writers_never_wait_for_messages_to_come_and_go(conn: User, connect: Connect, db: str) -> None:
    """The engine may be far away: what it asks and does behind a lock on a source is one message, and COMMIT."""
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, v int, w int); CREATE TABLE p (k int) PARTITION BY LIST (k)")
    conn.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); INSERT INTO t VALUES (1, 1, 1)")
    looking, held = connect(), list[bool]()
    with CuttingProxy(db) as proxy, PgTrickle.connect(proxy.dsn) as engine:
        engine.install()
        proxy.watch = lambda: held.append(looking.execute(HELD).fetchone() != (0,))
        for name, step in STEPS.items():
            if name == "repair":
                conn.execute(DAMAGE)
            held.clear()
            step(engine)
            assert any(held) or name == "refresh", name
            assert (True, True) not in itertools.pairwise(held), name


LOCKS = """
SELECT count(*) FROM pg_locks w JOIN pg_class c ON c.oid = w.relation
WHERE NOT w.granted AND w.locktype = 'relation' AND starts_with(c.relname, 't')
"""
BOTH = """
SELECT count(DISTINCT h.relation) FROM pg_locks w JOIN pg_locks h ON h.pid = w.pid
WHERE NOT w.granted AND w.locktype = 'relation' AND h.granted AND h.locktype = 'relation' AND h.relation <> w.relation
  AND h.mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock')
  AND h.relation IN (SELECT inhrelid FROM pg_inherits)
"""


def test_of_many_partitions_never_two_are_locked(conn: User, connect: Connect, engine: PgTrickle) -> None:
    conn.execute("CREATE TABLE t (id int, v int) PARTITION BY RANGE (id)")
    for number in range(12):
        conn.execute(f"CREATE TABLE t{number} PARTITION OF t FOR VALUES FROM ({number}) TO ({number + 1})")
    old = connect(autocommit=False)

    def watch(work: Callable[[], Any]) -> None:
        old.execute("INSERT INTO t9 VALUES (9, 1)")
        running = Background(work)
        until(lambda: conn.execute(LOCKS).fetchone() != (0,) or not running.thread.is_alive())
        seen = set()
        for _ in range(40):
            seen.add(conn.execute(BOTH).fetchone())
            time.sleep(0.005)
        old.rollback()
        running.done()
        assert seen == {(0,)}

    watch(lambda: engine.create_stream_table("s", "SELECT id, v FROM t"))
    conn.execute("INSERT INTO t VALUES (1, 1), (9, 2); INSERT INTO t4 VALUES (4, 4)")
    assert engine.refresh_stream_table("s").rows_inserted == 3
    assert engine.verify("s").proven
    watch(lambda: engine.drop_stream_table("s"))
    capture.trim(engine.own_conn)
    assert conn.execute(TRIGGERS).fetchone() == (0,)


def test_a_second_reader_of_many_partitions_keeps_what_the_first_relies_on(conn: User, engine: PgTrickle) -> None:
    conn.execute("CREATE TABLE t (id int, v int, w int) PARTITION BY RANGE (id)")
    for number in range(12):
        conn.execute(f"CREATE TABLE t{number} PARTITION OF t FOR VALUES FROM ({number}) TO ({number + 1})")
    engine.create_stream_table("s", "SELECT id, v FROM t", refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (1, 1, 1), (9, 2, 2)")
    engine.create_stream_table("r", "SELECT id, w FROM t", refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (3, 3, 3); UPDATE t5 SET w = 1")
    assert [engine.refresh_stream_table(name).action for name in ("s", "r")] == ["DIFFERENTIAL", "DIFFERENTIAL"]
    assert [engine.verify(name).proven for name in ("s", "r")] == [True, True]
