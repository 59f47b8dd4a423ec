"""A definition that changes: the least is done, the OID stays, nothing is dropped behind the user's back."""

from __future__ import annotations

import threading

import pytest

from pgtrickle.errors import DependencyCycle, DependentsExist, PgTrickleError, StreamTableNotFound

pytestmark = pytest.mark.edges_only

BASE = "SELECT id, k, v FROM t"


@pytest.fixture
def s(conn, engine):
    """A stream table ``s`` over ``t``."""
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k text, v int)")
    conn.execute("INSERT INTO t SELECT n, 'k' || n % 3, n FROM generate_series(1, 10) n")
    engine.create_stream_table("s", BASE, schedule="1m")
    return conn.execute("SELECT 's'::regclass::oid").fetchone()[0]


def oid(conn):
    return conn.execute("SELECT 's'::regclass::oid").fetchone()[0]


def written(conn):
    """Everything that a write would leave a trace in."""
    return conn.execute(
        """SELECT (SELECT array_agg(s.xmin::text || s.ctid::text) FROM pgtrickle.stream_tables s),
                  (SELECT array_agg(f.xmin::text || f.ctid::text) FROM pgtrickle.frontiers f),
                  (SELECT array_agg(d.xmin::text || d.ctid::text) FROM pgtrickle.dependencies d),
                  (SELECT array_agg(c.xmin::text || c.ctid::text) FROM pgtrickle.sources c),
                  (SELECT count(*) FROM pgtrickle.refresh_history), (SELECT count(*) FROM pgtrickle.messages),
                  (SELECT array_agg(r.xmin::text || r.ctid::text ORDER BY r.id) FROM s r),
                  (SELECT c.xmin::text FROM pg_class c WHERE c.oid = 's'::regclass)"""
    ).fetchone()


@pytest.mark.parametrize(
    "query", [BASE, "select ID,\n  k , v  -- the same\nfrom public.t;", "SELECT t.id, t.k, (t.v) FROM t"]
)
def test_an_unchanged_definition_writes_nothing(conn, engine, s, query):
    conn.execute("INSERT INTO t VALUES (100, 'x', 1)")
    before = written(conn)
    result = engine.create_or_replace_stream_table("s", query, schedule="1m", refresh_mode="AUTO")
    assert result.actions == ("none",)
    assert not result.changed
    assert written(conn) == before


def test_an_option_that_is_not_given_keeps_its_value(engine, s):
    engine.alter_stream_table("s", schedule="5m", indexes=[{"columns": ["k"]}])
    result = engine.create_or_replace_stream_table("s", BASE)
    assert result.actions == ("none",)
    assert engine.status("s")[0].schedule == "5m"


def test_configuration_alone_does_not_touch_the_table(conn, engine, s):
    before = conn.execute("SELECT array_agg(xmin::text || ctid::text) FROM s").fetchone()
    result = engine.create_or_replace_stream_table("s", BASE, schedule="2m")
    assert result.actions == ("configuration",)
    assert conn.execute("SELECT array_agg(xmin::text || ctid::text) FROM s").fetchone() == before


def test_the_same_schedule_in_other_words_is_no_change(engine, s):
    assert engine.create_or_replace_stream_table("s", BASE, schedule="60s").actions == ("none",)


def test_a_query_with_the_same_columns_writes_only_what_differs(conn, engine, s, oracle):
    query = "SELECT id, k, CASE WHEN id = 3 THEN 0 ELSE v END AS v FROM t WHERE id <> 5"
    before = oid(conn)
    result = engine.create_or_replace_stream_table("s", query)
    assert {"query", "recompute"} <= set(result.actions)
    assert result.rows_changed == 2
    assert oid(conn) == before
    oracle(conn, "s", query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, k, v, v * 2 AS w FROM t",
        "SELECT id, v FROM t",
        "SELECT id, 'new' AS n, k, v FROM t",
        "SELECT v, k, id FROM t",
        "SELECT id::text AS id, k, v FROM t",
        "SELECT k, count(*) AS n FROM t GROUP BY k",
        "SELECT sum(v) AS total FROM t",
    ],
)
def test_columns_change_in_place_and_changes_flow_on(conn, engine, s, oracle, query):
    before = oid(conn)
    conn.execute("GRANT SELECT ON s TO PUBLIC")
    engine.create_or_replace_stream_table("s", query)
    oracle(conn, "s", query)
    conn.execute("INSERT INTO t VALUES (200, 'k1', 7); UPDATE t SET v = v + 1 WHERE id < 4; DELETE FROM t WHERE id = 6")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", query)
    assert oid(conn) == before
    assert conn.execute("SELECT has_table_privilege('public', 's', 'SELECT')").fetchone() == (True,)
    assert engine.verify("s").proven
    engine.create_or_replace_stream_table("s", BASE)
    oracle(conn, "s", BASE)


def test_sources_that_come_and_go_are_captured_and_released(conn, engine, s, oracle):
    conn.execute(
        "CREATE TABLE u (id int PRIMARY KEY, w text); INSERT INTO u SELECT n, 'w' || n FROM generate_series(1, 5) n"
    )
    query = "SELECT t.id, t.k, u.w FROM t LEFT JOIN u ON u.id = t.id"
    engine.create_or_replace_stream_table("s", query)
    conn.execute("UPDATE u SET w = 'changed' WHERE id = 2; INSERT INTO u VALUES (7, 'w7')")
    engine.refresh_stream_table("s")
    oracle(conn, "s", query)
    engine.create_or_replace_stream_table("s", "SELECT id, w FROM u")
    assert conn.execute(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal"
    ).fetchone() == (0,)
    assert conn.execute("SELECT array_agg(table_name::text) FROM pgtrickle.sources").fetchone() == (["u"],)
    conn.execute("DELETE FROM u WHERE id = 1")
    engine.refresh_stream_table("s")
    oracle(conn, "s", "SELECT id, w FROM u")


def test_a_view_that_uses_a_dropped_column_is_named_and_nothing_changes(conn, engine, s, oracle):
    conn.execute("CREATE VIEW report AS SELECT id, v FROM s")
    with pytest.raises(DependentsExist, match="report"):
        engine.create_or_replace_stream_table("s", "SELECT id, k FROM t")
    oracle(conn, "s", BASE)
    conn.execute("INSERT INTO t VALUES (300, 'x', 3)")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", BASE)


def test_a_view_on_other_columns_survives(conn, engine, s, oracle):
    conn.execute("CREATE VIEW report AS SELECT id, v FROM s")
    engine.create_or_replace_stream_table("s", "SELECT id, v, k || '!' AS shout FROM t")
    oracle(conn, "s", "SELECT id, v, k || '!' AS shout FROM t")
    assert conn.execute("SELECT count(*) FROM report").fetchone() == (10,)


def test_a_new_query_that_fails_leaves_the_old_definition_working(conn, engine, s, oracle):
    conn.execute("CREATE TABLE extra (id int); INSERT INTO extra VALUES (0)")
    with pytest.raises(PgTrickleError, match="division by zero"):
        engine.create_or_replace_stream_table("s", "SELECT t.id, 1 / extra.id AS q FROM t, extra")
    oracle(conn, "s", BASE)
    conn.execute("INSERT INTO t VALUES (400, 'x', 4)")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", BASE)
    assert conn.execute("SELECT count(*) FROM pgtrickle.sources WHERE table_name = 'extra'").fetchone() == (0,)


def test_a_failed_change_in_a_chain_leaves_definition_content_and_status(conn, engine, s, oracle):
    below = "SELECT k, sum(v) AS v FROM s GROUP BY k"
    engine.create_stream_table("below", below, refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (500, 'k1', 0)")
    with pytest.raises(PgTrickleError, match="division by zero"):
        engine.create_or_replace_stream_table("below", "SELECT k, sum(10 / v) AS v FROM s GROUP BY k")
    with pytest.raises(DependentsExist):
        engine.create_or_replace_stream_table("s", "SELECT id FROM t")
    assert {(row.status, row.consecutive_errors) for row in engine.status()} == {("ACTIVE", 0)}
    assert [one.action for one in engine.refresh_all()] == ["DIFFERENTIAL", "DIFFERENTIAL"]
    oracle(conn, "s", BASE)
    oracle(conn, "below", below)
    assert engine.verify("below").proven


def test_a_circle_is_refused(conn, engine, s, oracle):
    engine.create_stream_table("below", "SELECT id FROM s")
    with pytest.raises(DependencyCycle, match="below"):
        engine.create_or_replace_stream_table("s", "SELECT t.id, t.k, t.v FROM t JOIN below ON below.id = t.id")
    oracle(conn, "s", BASE)


def test_a_dependent_follows_a_changed_source_definition(conn, engine, s, oracle):
    below = "SELECT k, sum(v) AS v FROM s GROUP BY k"
    engine.create_stream_table("below", below, refresh_mode="DIFFERENTIAL")
    query = "SELECT id, k, v * 10 AS v, 'more' AS more FROM t WHERE id > 2"
    engine.create_or_replace_stream_table("s", query)
    engine.refresh_stream_table("below")
    oracle(conn, "s", query)
    oracle(conn, "below", below)
    conn.execute("UPDATE t SET v = v + 1 WHERE id < 6")
    engine.refresh_stream_table("below")
    oracle(conn, "below", below)


def test_a_dependent_that_reads_a_dropped_column_is_named(engine, s):
    engine.create_stream_table("below", "SELECT k, sum(v) AS v FROM s GROUP BY k")
    with pytest.raises(DependentsExist, match=r"below reads"):
        engine.create_or_replace_stream_table("s", "SELECT id, k FROM t")


def test_modes_are_switched_in_place(conn, engine, s, oracle):
    assert engine.alter_stream_table("s", refresh_mode="FULL").effective_mode == "FULL"
    conn.execute("INSERT INTO t VALUES (500, 'x', 5)")
    assert engine.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", BASE)
    assert engine.alter_stream_table("s", refresh_mode="DIFFERENTIAL").effective_mode == "DIFFERENTIAL"
    conn.execute("DELETE FROM t WHERE id = 500")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", BASE)


def test_full_refresh_recomputes_in_place_without_touching_equal_rows(conn, engine, s):
    before = conn.execute("SELECT array_agg(xmin::text || ctid::text) FROM s").fetchone()
    result = engine.create_or_replace_stream_table("s", BASE, full_refresh=True)
    assert result.actions == ("recompute",)
    assert result.rows_changed == 0
    assert conn.execute("SELECT array_agg(xmin::text || ctid::text) FROM s").fetchone() == before


def test_indexes_follow_the_configuration(conn, engine, s):
    count = "SELECT count(*) FROM pg_indexes WHERE tablename = 's' AND indexname NOT LIKE 'pgtrickle%'"
    assert engine.alter_stream_table("s", indexes=[{"columns": ["k"]}, {"columns": ["v"]}]).changed
    assert conn.execute(count).fetchone() == (2,)
    assert not engine.alter_stream_table("s", indexes=[{"columns": ["k"]}, {"columns": ["v"]}]).changed
    engine.alter_stream_table("s", indexes=[{"columns": ["v"]}])
    assert conn.execute(count).fetchone() == (1,)


def test_suspending_and_resuming_is_an_alter(engine, s):
    assert engine.suspend("s").actions == ("suspend",)
    assert engine.suspend("s").actions == ("none",)
    assert engine.status("s")[0].status == "SUSPENDED"
    assert engine.resume("s").actions == ("resume",)
    assert engine.status("s")[0].status == "ACTIVE"


def test_altering_what_is_not_there_says_so(conn, engine):
    conn.execute("CREATE TABLE plain (a int)")
    with pytest.raises(StreamTableNotFound):
        engine.alter_stream_table("missing", schedule="1m")
    with pytest.raises(StreamTableNotFound, match="plain is a table"):
        engine.alter_stream_table("plain", schedule="1m")


def test_readers_never_see_new_columns_without_their_content(conn, connect, engine, s):
    reader = connect()
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.update(
                reader.execute("SELECT to_jsonb(s) ? 'w', to_jsonb(s) -> 'w' = 'null', count(*) FROM s GROUP BY 1, 2")
            )

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(3):
        engine.create_or_replace_stream_table("s", "SELECT id, k, v, v + 1 AS w FROM t")
        engine.create_or_replace_stream_table("s", BASE)
    stop.set()
    thread.join(30)
    assert (False, None, 10) in seen
    assert seen <= {(False, None, 10), (True, False, 10)}
