"""A new definition is computed first; then the stream table is switched, and only for that its readers are kept out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import DependentsExist, LockTimeout
from tests.support.background import Background, until

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]
Connect = Callable[..., User]
Oracle = Callable[..., None]

SETUP = """
CREATE SEQUENCE calls;
CREATE FUNCTION gate(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM nextval('calls'); PERFORM pg_advisory_xact_lock_shared(42); RETURN $1; END $$;
CREATE TABLE t (id int PRIMARY KEY, k int, v int);
INSERT INTO t SELECT n, n % 3, n FROM generate_series(1, 20) n;
"""
BASE = "SELECT id, k, v FROM t"
MORE = "SELECT id, k, v, gate(v) AS w FROM t"
LESS = "SELECT id, gate(k) AS k FROM t"
GROUPED = "SELECT k, count(*) AS n FROM t GROUP BY k"
AT_THE_GATE = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
KEPT_OUT = """
SELECT count(*) FROM pg_locks WHERE relation = 's'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted
"""


@pytest.fixture
def s(conn: User, engine: PgTrickle) -> str:
    conn.execute(SETUP)
    engine.create_stream_table("s", BASE, refresh_mode="DIFFERENTIAL")
    return "s"


def still_works(conn: User, engine: PgTrickle, oracle: Oracle, query: str) -> None:
    oracle(conn, "s", query)
    conn.execute("UPDATE t SET v = v + 1 WHERE id < 4; DELETE FROM t WHERE id = 6")
    conn.execute("INSERT INTO t VALUES (30, 1, 1) ON CONFLICT (id) DO UPDATE SET v = t.v + 1")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", query)
    assert engine.verify("s").proven


@pytest.mark.parametrize("query", [MORE, LESS])
def test_a_reader_that_comes_while_it_is_computed_is_waited_for_and_nothing_is_computed_twice(
    query: str, s: str, conn: User, connect: Connect, engine: PgTrickle, oracle: Oracle
) -> None:
    gate, reader = connect(), connect(autocommit=False)
    gate.execute("SELECT pg_advisory_lock(42)")
    replacing = Background(lambda: engine.create_or_replace_stream_table(s, query))
    until(lambda: conn.execute(AT_THE_GATE).fetchone() != (0,))
    assert reader.execute("SELECT count(v) FROM s").fetchone() == (20,)
    gate.execute("SELECT pg_advisory_unlock(42)")
    until(lambda: conn.execute(KEPT_OUT).fetchone() != (0,))
    assert reader.execute("SELECT count(v) FROM s").fetchone() == (20,)
    reader.rollback()
    replacing.done()
    assert conn.execute("SELECT last_value FROM calls").fetchone() == (20,)
    still_works(conn, engine, oracle, query)


def test_a_reader_who_stays_is_named_before_anything_is_computed_and_nothing_changes(
    s: str, conn: User, connect: Connect, engine: PgTrickle, oracle: Oracle
) -> None:
    reader = connect(autocommit=False)
    reader.execute("SELECT count(*) FROM s")
    with pytest.raises(LockTimeout) as caught:
        engine.create_or_replace_stream_table(s, MORE, install_timeout=0.4)
    assert f"pid {reader.info.backend_pid} " in str(caught.value.detail)
    assert conn.execute("SELECT is_called FROM calls").fetchone() == (False,)
    reader.rollback()
    still_works(conn, engine, oracle, BASE)
    engine.create_or_replace_stream_table(s, MORE)
    still_works(conn, engine, oracle, MORE)


def test_a_view_that_comes_while_its_column_goes_is_named_and_nothing_changes(
    s: str, conn: User, connect: Connect, engine: PgTrickle, oracle: Oracle
) -> None:
    gate = connect()
    gate.execute("SELECT pg_advisory_lock(42)")
    replacing = Background(lambda: engine.create_or_replace_stream_table(s, LESS))
    until(lambda: conn.execute(AT_THE_GATE).fetchone() != (0,))
    conn.execute("CREATE VIEW report AS SELECT id, v FROM s")
    gate.execute("SELECT pg_advisory_unlock(42)")
    with pytest.raises(DependentsExist, match="report"):
        replacing.done()
    still_works(conn, engine, oracle, BASE)


@pytest.mark.parametrize("clause", ["ALTER v SET NOT NULL", "ADD CHECK (v IS NOT NULL)"])
def test_what_is_demanded_of_a_column_that_goes_holds_back_no_rows(
    clause: str, s: str, conn: User, engine: PgTrickle, oracle: Oracle
) -> None:
    conn.execute(f"ALTER TABLE s {clause}")
    conn.execute("INSERT INTO t VALUES (31, 1, 1)")
    engine.create_or_replace_stream_table(s, LESS)
    still_works(conn, engine, oracle, LESS)


def test_constraints_that_are_checked_at_the_end_keep_nothing_from_being_switched(
    s: str, conn: User, engine: PgTrickle, oracle: Oracle
) -> None:
    conn.execute("CREATE TABLE kinds (k int PRIMARY KEY); INSERT INTO kinds VALUES (0), (1), (2)")
    conn.execute("ALTER TABLE s ADD FOREIGN KEY (k) REFERENCES kinds DEFERRABLE INITIALLY DEFERRED")
    conn.execute("INSERT INTO t VALUES (31, 1, 1)")
    assert engine.alter_stream_table(s, refresh_mode="FULL").rows_changed == 1
    oracle(conn, s, BASE)
    engine.alter_stream_table(s, refresh_mode="DIFFERENTIAL")
    engine.create_or_replace_stream_table(s, LESS)
    still_works(conn, engine, oracle, LESS)


def test_rows_that_the_former_key_would_refuse_come_in(s: str, conn: User, engine: PgTrickle, oracle: Oracle) -> None:
    engine.create_or_replace_stream_table(s, GROUPED)
    several = "SELECT k, v % 2 AS n FROM t"
    engine.create_or_replace_stream_table(s, f"SELECT k, n::bigint AS n FROM ({several}) q GROUP BY k, n")
    oracle(conn, s, f"SELECT k, n::bigint AS n FROM ({several}) q GROUP BY k, n")
    engine.create_or_replace_stream_table(s, GROUPED)
    still_works(conn, engine, oracle, GROUPED)


def test_who_reads_all_the_time_sees_the_old_or_the_new_whatever_changes(
    s: str, conn: User, connect: Connect, engine: PgTrickle
) -> None:
    reader = connect()
    seen: set[str] = set()
    over: list[bool] = []

    def read() -> None:
        while not over:
            row = reader.execute("SELECT (to_jsonb(s) - 'id')::text FROM (SELECT * FROM s WHERE id = 5) s").fetchone()
            assert row is not None
            seen.add(row[0])

    reading = Background(read)
    for query in (MORE, BASE, "SELECT id, k::bigint AS k, v FROM t", BASE, LESS, BASE):
        engine.create_or_replace_stream_table(s, query)
    engine.alter_stream_table(s, refresh_mode="FULL")
    over.append(True)
    reading.done()
    allowed = {'{"k": 2, "v": 5, "w": 5}', '{"k": 2, "v": 5}', '{"k": 2}'}
    assert seen <= allowed
    assert seen
