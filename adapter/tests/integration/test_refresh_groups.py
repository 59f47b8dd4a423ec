"""A stream table moves together with its stale ancestors: one transaction, one snapshot, one failing member less."""

from __future__ import annotations

import pytest

from pgtrickle.errors import RefreshError

A = "SELECT id, k, v FROM t WHERE v >= 0"
B = "SELECT k, sum(v) AS s FROM a GROUP BY k"
C = "SELECT k, count(*) AS n FROM a GROUP BY k"
D = "SELECT b.k, b.s, c.n FROM b JOIN c ON c.k = b.k"


@pytest.fixture
def diamond(conn, engine):
    """t -> a -> (b, c) -> d."""
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int)")
    conn.execute("INSERT INTO t SELECT n, n % 4, n FROM generate_series(1, 20) n")
    for name, query in (("a", A), ("b", B), ("c", C), ("d", D)):
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
    return engine


def check(conn, oracle):
    for name, query in (("a", A), ("b", B), ("c", C), ("d", D)):
        oracle(conn, name, query)


def test_a_diamond_moves_in_one_snapshot(conn, diamond, oracle):
    conn.execute("UPDATE t SET v = v + 100 WHERE id <= 3; DELETE FROM t WHERE id = 9; INSERT INTO t VALUES (99, 7, 1)")
    result = diamond.refresh_stream_table("d")
    assert result.action == "DIFFERENTIAL"
    assert [member.name for member in result.members] == ["public.a", "public.b", "public.c"]
    assert {member.snapshot for member in result.members} == {result.snapshot}
    check(conn, oracle)


def test_dependents_are_not_dragged_along(conn, diamond, oracle):
    conn.execute("INSERT INTO t VALUES (100, 1, 1)")
    assert diamond.refresh_stream_table("a").members == ()
    assert conn.execute("SELECT sum(n) FROM c").fetchone() == (20,)
    assert diamond.refresh_stream_table("d").action == "DIFFERENTIAL"
    check(conn, oracle)


def test_a_dependent_catches_up_with_several_refreshes_of_its_source(conn, diamond, oracle):
    for n in range(3):
        conn.execute("INSERT INTO t VALUES (%s, 1, 1)", [200 + n])
        diamond.refresh_stream_table("a")
    conn.execute("DELETE FROM t WHERE id = 200")
    diamond.refresh_stream_table("a")
    diamond.refresh_stream_table("d")
    check(conn, oracle)


def test_nothing_to_do_wakes_nobody(conn, diamond):
    before = conn.execute(
        "SELECT stream_table_id, refresh_no, snapshot::text FROM pgtrickle.frontiers ORDER BY 1"
    ).fetchall()
    assert {result.action for result in diamond.refresh_all()} == {"NO_DATA"}
    after = conn.execute(
        "SELECT stream_table_id, refresh_no, snapshot::text FROM pgtrickle.frontiers ORDER BY 1"
    ).fetchall()
    assert after == before


def test_a_change_that_an_ancestor_filters_out_ends_there(conn, diamond):
    conn.execute("INSERT INTO t VALUES (300, 1, -5)")
    result = diamond.refresh_stream_table("d")
    assert result.action == "NO_DATA"
    assert result.rows_changed == 0


def test_a_failing_member_and_its_descendants_drop_out_and_the_rest_commits(conn, engine, oracle):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)")
    bad, good, below, top = (
        "SELECT id, 10 / v AS q FROM a0",
        "SELECT id, v + 1 AS w FROM a0",
        "SELECT q, count(*) AS n FROM bad GROUP BY q",
        "SELECT good.w, below.n FROM good, below",
    )
    engine.create_stream_table("a0", "SELECT id, k, v FROM t", refresh_mode="DIFFERENTIAL")
    for name, query in (("bad", bad), ("good", good), ("below", below), ("top", top)):
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (3, 3, 0), (4, 4, 5)")
    done = {result.name: result for result in engine.refresh_all()}
    assert {name: result.action for name, result in done.items()} == {
        "public.a0": "DIFFERENTIAL",
        "public.bad": "FAILED",
        "public.good": "DIFFERENTIAL",
        "public.below": "SKIPPED",
        "public.top": "SKIPPED",
    }
    assert "division by zero" in (done["public.bad"].fallback_reason or "")
    assert "public.bad" in (done["public.below"].fallback_reason or "")
    oracle(conn, "good", good)
    assert conn.execute("SELECT count(*) FROM bad").fetchone() == (2,)
    status = {row.name: row for row in engine.status()}
    assert status["public.bad"].status == "ERROR"
    assert status["public.bad"].retry_at is not None
    with pytest.raises(RefreshError, match="division by zero"):
        engine.refresh_stream_table("bad")
    conn.execute("DELETE FROM t WHERE v = 0")
    engine.refresh_all()
    for name, query in (("bad", bad), ("good", good), ("below", below), ("top", top)):
        oracle(conn, name, query)
    assert {row.status for row in engine.status()} == {"ACTIVE"}
    assert {row.consecutive_errors for row in engine.status()} == {0}


def test_a_dependent_of_a_suspended_source_follows_what_the_source_holds(conn, diamond, oracle):
    diamond.suspend("a")
    conn.execute("INSERT INTO t VALUES (400, 1, 1)")
    assert diamond.refresh_stream_table("d").action == "NO_DATA"
    with pytest.raises(RefreshError, match="suspended"):
        diamond.refresh_stream_table("a")
    diamond.resume("a")
    diamond.refresh_stream_table("d")
    check(conn, oracle)


def test_a_source_without_content_is_loaded_before_its_dependent(conn, engine, oracle):
    conn.execute("CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
    engine.create_stream_table("early", "SELECT id, v FROM t", refresh_mode="DIFFERENTIAL", initialize=False)
    engine.create_stream_table("late", "SELECT sum(v) AS s FROM early", refresh_mode="DIFFERENTIAL", initialize=False)
    assert engine.status("early")[0].is_populated is False
    engine.refresh_stream_table("late")
    oracle(conn, "late", "SELECT sum(v) AS s FROM t")


def test_rows_of_a_first_load_reach_dependents_that_were_loaded_before(conn, engine, oracle):
    conn.execute("CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
    engine.create_stream_table("early", "SELECT id, v FROM t", refresh_mode="DIFFERENTIAL")
    engine.create_stream_table("late", "SELECT id, v FROM early WHERE v > 0", refresh_mode="DIFFERENTIAL")
    engine.suspend("early")
    engine.resume("early")
    conn.execute("INSERT INTO t VALUES (3, 3)")
    engine.refresh_stream_table("early", full=True)
    engine.refresh_stream_table("late")
    oracle(conn, "late", "SELECT id, v FROM t WHERE v > 0")
