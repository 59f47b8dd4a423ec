"""``verify`` proves, disproves, or says that it cannot."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.guard import past_guard

pytestmark = pytest.mark.edges_only

QUERY = "SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k"


@pytest.fixture
def s(conn, engine):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k text, v int)")
    conn.execute("INSERT INTO t SELECT n, 'k' || n % 3, n FROM generate_series(1, 10) n")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    return engine


def test_equality_is_proven_with_changes_pending_and_nothing_is_kept(conn, s):
    conn.execute("INSERT INTO t VALUES (100, 'new', 1); DELETE FROM t WHERE id = 3")
    before = conn.execute("SELECT array_agg(s ORDER BY k) FROM s").fetchone()
    frontier = conn.execute("SELECT xmin::text, snapshot::text FROM pgtrickle.frontiers").fetchone()
    result = s.verify("s")
    assert (result.proven, result.missing, result.extra, result.reason) == (True, 0, 0, None)
    assert conn.execute("SELECT array_agg(s ORDER BY k) FROM s").fetchone() == before
    assert conn.execute("SELECT xmin::text, snapshot::text FROM pgtrickle.frontiers").fetchone() == frontier


@pytest.mark.parametrize(
    ("statement", "missing", "extra"),
    [
        ("DELETE FROM s WHERE k = 'k1'", 1, 0),
        ("INSERT INTO s VALUES ('ghost', 1, 1)", 0, 1),
        ("UPDATE s SET v = v + 1 WHERE k = 'k1'", 1, 1),
        ("INSERT INTO s SELECT * FROM s WHERE k = 'k1'", 0, 1),
    ],
)
def test_every_kind_of_difference_is_seen_and_repaired(conn, s, oracle, statement, missing, extra):
    conn.execute("DROP INDEX IF EXISTS none")
    for (name,) in conn.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 's'::regclass"
    ).fetchall():
        conn.execute(f"DROP INDEX {name}")
    past_guard(conn, statement)
    found = s.verify("s")
    assert (found.proven, found.missing, found.extra) == (False, missing, extra)
    repaired = s.verify("s", repair=True)
    assert repaired.repaired
    oracle(conn, "s", QUERY)
    assert s.verify("s").proven


def test_a_refresh_that_meets_a_foreign_hand_recomputes_and_says_so(conn, s, oracle):
    past_guard(conn, "DELETE FROM s WHERE k = 'k1'")
    conn.execute("INSERT INTO t VALUES (100, 'k1', 1)")
    assert s.verify("s").proven is False
    result = s.refresh_stream_table("s")
    assert result.action == "FULL"
    assert (result.fallback_reason or "").startswith("internal error")
    oracle(conn, "s", QUERY)
    assert s.history("s")[0].reason == result.fallback_reason


def test_full_mode_is_not_proven(conn, s):
    s.alter_stream_table("s", refresh_mode="FULL")
    result = s.verify("s")
    assert result.proven is None
    assert "FULL" in (result.reason or "")


def test_a_recompute_that_is_due_is_not_a_proof(conn, s):
    conn.execute("UPDATE pgtrickle.stream_tables SET recompute_reason = 'because'")
    result = s.verify("s")
    assert result.proven is None
    assert "because" in (result.reason or "")
    s.refresh_stream_table("s")
    assert s.verify("s").proven


def test_a_suspended_or_never_loaded_stream_table_is_not_proven(conn, s):
    s.suspend("s")
    assert s.verify("s").proven is None
    s.create_stream_table("empty", "SELECT id FROM t", initialize=False)
    assert s.verify("empty").proven is None


def test_ancestors_move_too_inside_the_proof(conn, s):
    s.create_stream_table("top", "SELECT sum(n) AS n FROM s", refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (100, 'new', 1)")
    assert s.verify("top").proven
    assert s.refresh_stream_table("top").action == "DIFFERENTIAL"


CORRUPTED = {
    "rows_of_the_target": "UPDATE {target} SET v = v + 1",
    "a_missing_row_of_the_target": "DELETE FROM {target} WHERE k = 'k1'",
    "rows_twice": "INSERT INTO {target} SELECT * FROM {target}",
    "a_sum_in_the_state": "UPDATE {state} SET s1 = s1 + 1 WHERE c1 = 'k1'",
    "a_group_in_the_state": "DELETE FROM {state} WHERE c1 = 'k1'",
    "all_of_the_state": "DELETE FROM {state}",
    "changes_that_a_dependent_has_not_read": "DELETE FROM {log}",
}


@pytest.mark.parametrize("what", sorted(CORRUPTED))
def test_repair_mends_target_state_and_log_while_others_write(conn, s, oracle, db, what):
    top = "SELECT count(*) AS groups, sum(v) AS v FROM s"
    s.create_stream_table("top", top, refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (50, 'k50', 1)")
    s.refresh_stream_table("s")
    names = {
        "target": "s",
        "state": "pgtrickle_state." + conn.execute("SELECT state_table FROM pgtrickle.stages").fetchone()[0],
        "log": "pgtrickle_changes.o_1",
    }
    for (name,) in conn.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 's'::regclass"):
        conn.execute(f"DROP INDEX {name}")
    past_guard(conn, CORRUPTED[what].format(**names))
    over = threading.Event()

    def write():
        number = 0
        with psycopg.connect(db, autocommit=True) as writer:
            while number < 20 or not over.is_set():
                number += 1
                writer.execute("INSERT INTO t VALUES (%s, 'k' || %s %% 7, 1)", (1000 + number, number))
                writer.execute("UPDATE t SET v = v + 1 WHERE id = %s", (1000 + number - 3,))

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            repaired = [s.verify(name, repair=True).repaired for name in ("s", "top")]
            assert any(repaired)
            for name in ("s", "top"):
                s.refresh_stream_table(name)
                assert s.verify(name, state=True).proven
        finally:
            over.set()
        writer.result(timeout=60)
    s.refresh_all()
    oracle(conn, "s", QUERY)
    oracle(conn, "top", f"SELECT count(*) AS groups, sum(v) AS v FROM ({QUERY}) q")
    assert any(row.action == "RECOMPUTE" for row in s.history())


def test_damage_of_the_state_is_seen_before_it_shows(conn, s):
    (state,) = conn.execute("SELECT state_table FROM pgtrickle.stages").fetchone()
    assert s.verify("s", state=True).proven
    conn.execute(f"DELETE FROM pgtrickle_state.{state} WHERE c1 = 'k1'")
    assert s.verify("s").proven
    found = s.verify("s", state=True)
    assert found.proven is False
    assert state in (found.reason or "")
