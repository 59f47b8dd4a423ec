"""An hour-long transaction holds up nothing but what it has to do with."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from tests.support.background import Background, until
from tests.support.consumers import relid_of

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]
Connect = Callable[..., User]
Oracle = Callable[..., None]

QUERY = "SELECT k, v FROM pt"
TREE = """
CREATE TABLE pt (k int, v int) PARTITION BY RANGE (k);
CREATE TABLE p0 PARTITION OF pt FOR VALUES FROM (0) TO (10);
CREATE TABLE p1 PARTITION OF pt FOR VALUES FROM (10) TO (20);
INSERT INTO pt SELECT n, n FROM generate_series(0, 19) n
"""
TRIGGERS_ON_P1 = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'p1'::regclass AND NOT tgisinternal"
NEW = {
    "empty": ("CREATE TABLE p2 (k int, v int)", "DIFFERENTIAL"),
    "filled": ("CREATE TABLE p2 AS SELECT n AS k, n AS v FROM generate_series(20, 25) n", "FULL"),
    "partitioned": (
        "CREATE TABLE p2 (k int, v int) PARTITION BY RANGE (k);"
        "CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM (20) TO (25);"
        "CREATE TABLE p2b PARTITION OF p2 FOR VALUES FROM (25) TO (30)",
        "DIFFERENTIAL",
    ),
}


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_new_partition_is_met_while_others_are_written_to(
    new: str, isolation: str, conn: User, connect: Connect, engine: PgTrickle, oracle: Oracle
) -> None:
    conn.execute(TREE)
    engine.create_stream_table("s", QUERY)
    old = connect()
    old.execute(f"BEGIN ISOLATION LEVEL {isolation}")
    old.execute("UPDATE pt SET v = v + 100 WHERE k = 3; INSERT INTO p1 VALUES (11, 0)")
    statement, action = NEW[new]
    conn.execute(f"{statement}; ALTER TABLE pt ATTACH PARTITION p2 FOR VALUES FROM (20) TO (30)")
    conn.execute("INSERT INTO p1 VALUES (12, 1)")
    assert engine.refresh_stream_table("s").action == action
    oracle(conn, "s", QUERY)
    conn.execute("INSERT INTO p2 VALUES (22, 1); INSERT INTO pt VALUES (23, 2), (4, 4)")
    old.execute("UPDATE pt SET v = v + 1 WHERE k IN (3, 4); DELETE FROM pt WHERE k IN (5, 22)")
    old.execute("INSERT INTO pt VALUES (24, 9)")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)
    old.execute("COMMIT")
    conn.execute("UPDATE p2 SET v = v + 1; UPDATE pt SET k = k + 10 WHERE k = 15")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)


def test_who_has_written_to_the_new_partition_is_waited_for(
    conn: User, connect: Connect, engine: PgTrickle, oracle: Oracle
) -> None:
    conn.execute(TREE)
    engine.create_stream_table("s", QUERY)
    conn.execute("CREATE TABLE p2 (k int, v int); INSERT INTO p2 VALUES (20, 0)")
    old = connect()
    old.execute("BEGIN; UPDATE pt SET v = v + 100 WHERE k = 3")
    conn.execute("ALTER TABLE pt ATTACH PARTITION p2 FOR VALUES FROM (20) TO (30)")
    old.execute("INSERT INTO p2 VALUES (21, 1)")
    assert [one.action for one in engine.refresh_due([relid_of(conn, "s")])] == ["FAILED"]
    oracle(conn, "s", "SELECT n AS k, n AS v FROM generate_series(0, 19) n")
    old.execute("COMMIT")
    assert engine.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", QUERY)


def test_a_partition_that_is_being_detached_holds_up_nobody(
    conn: User, connect: Connect, engine: PgTrickle, oracle: Oracle
) -> None:
    conn.execute(TREE)
    engine.create_stream_table("s", QUERY)
    old = connect()
    old.execute("BEGIN; UPDATE pt SET v = v + 100 WHERE k = 3")
    detaching = Background(lambda: connect().execute("ALTER TABLE pt DETACH PARTITION p1 CONCURRENTLY"))
    until(lambda: conn.execute("SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)").fetchone() == (True,))
    assert engine.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", QUERY)
    # Other sessions: who has just written to a table that is none of the family's any more leaves a mark.
    connect().execute("INSERT INTO p1 VALUES (13, 5); DELETE FROM p1 WHERE k = 14")
    connect().execute("INSERT INTO pt VALUES (1, 1)")
    old.execute("UPDATE pt SET v = v - 1 WHERE k = 3")
    done = engine.refresh_stream_table("s")
    assert (done.action, done.fallback_reason) == ("DIFFERENTIAL", None)
    oracle(conn, "s", QUERY)
    old.execute("COMMIT")
    detaching.done()
    conn.execute("INSERT INTO p1 VALUES (14, 5); UPDATE p0 SET v = v + 1")
    engine.refresh_stream_table("s")
    oracle(conn, "s", QUERY)
    assert engine.doctor() == ()


def test_a_reader_of_a_partition_that_was_detached_holds_up_nobody(
    conn: User, connect: Connect, engine: PgTrickle, oracle: Oracle
) -> None:
    conn.execute(TREE)
    engine.create_stream_table("s", QUERY)
    conn.execute("ALTER TABLE pt DETACH PARTITION p1")
    dump = connect()
    dump.execute("BEGIN; SELECT count(*) FROM p1")
    assert engine.refresh_stream_table("s").action == "FULL"
    conn.execute("INSERT INTO p1 VALUES (13, 5); DELETE FROM p1 WHERE k = 14; INSERT INTO pt VALUES (1, 1)")
    assert engine.refresh_stream_table("s").rows_inserted == 1
    oracle(conn, "s", QUERY)
    dump.execute("COMMIT")
    conn.execute("ALTER TABLE pt ATTACH PARTITION p1 FOR VALUES FROM (10) TO (20)")
    conn.execute("INSERT INTO p1 VALUES (14, 5)")
    engine.refresh_stream_table("s")
    conn.execute("UPDATE p1 SET v = 9 WHERE k = 14; UPDATE pt SET v = v + 1 WHERE k < 14")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)
    conn.execute("ALTER TABLE pt DETACH PARTITION p1")
    dump.execute("BEGIN; SELECT count(*) FROM p1")
    engine.refresh_stream_table("s")
    dump.execute("COMMIT")
    engine.tidy()
    assert conn.execute(TRIGGERS_ON_P1).fetchone() == (0,)
    assert engine.doctor() == ()


def test_a_stream_table_is_dropped_while_its_source_is_written_to(
    conn: User, connect: Connect, engine: PgTrickle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("pgtrickle.capture.install"), "CLEAN_UP_S", 0.3)
    conn.execute(TREE)
    engine.create_stream_table("s", QUERY)
    engine.create_stream_table("r", "SELECT v FROM pt")
    old = connect()
    old.execute("BEGIN; UPDATE pt SET v = v + 100")
    for name in ("s", "r"):
        engine.drop_stream_table(name)
    conn.execute("INSERT INTO p1 VALUES (12, 0)")
    assert conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone() == (0,)
    old.execute("COMMIT")
    assert capture.trim(engine.own_conn).removed
    assert engine.doctor() == ()
    assert conn.execute(TRIGGERS_ON_P1).fetchone() == (0,)
