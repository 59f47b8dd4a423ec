"""Dropping and releasing: what nobody needs goes, what others need stays."""

from __future__ import annotations

import psycopg
import pytest

from pgtrickle.errors import DependentsExist, RefreshError, StreamTableNotFound

pytestmark = pytest.mark.edges_only

OURS = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND c.relkind = 'r' ORDER BY 1
"""


@pytest.fixture
def t(conn, engine):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k text, v int)")
    conn.execute("INSERT INTO t SELECT n, 'k' || n % 3, n FROM generate_series(1, 10) n")
    return engine


def triggers(conn):
    return conn.execute(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal"
    ).fetchone()[0]


def test_dropping_the_last_consumer_leaves_no_trace(conn, t):
    t.create_stream_table("s", "SELECT k, count(*) AS n FROM t GROUP BY k")
    assert triggers(conn) > 0
    assert t.drop_stream_table("s").dropped == ("public.s",)
    assert triggers(conn) == 0
    assert conn.execute(OURS).fetchall() == []
    assert conn.execute("SELECT to_regclass('s')").fetchone() == (None,)
    assert t.status() == ()


def test_a_shared_source_stays_captured_for_the_other(conn, t, oracle):
    t.create_stream_table("a", "SELECT id, k FROM t")
    t.create_stream_table("b", "SELECT id, v FROM t")
    conn.execute("INSERT INTO t VALUES (100, 'x', 1)")
    t.drop_stream_table("a")
    conn.execute("UPDATE t SET v = v + 1 WHERE id = 1")
    assert t.refresh_stream_table("b").action == "DIFFERENTIAL"
    oracle(conn, "b", "SELECT id, v FROM t")


def test_dependent_stream_tables_are_named_and_go_only_with_cascade(conn, t):
    t.create_stream_table("a", "SELECT id, k FROM t")
    t.create_stream_table("b", "SELECT k, count(*) AS n FROM a GROUP BY k")
    t.create_stream_table("c", "SELECT sum(n) AS n FROM b")
    with pytest.raises(DependentsExist, match=r"public.b"):
        t.drop_stream_table("a")
    assert t.drop_stream_table("a", cascade=True).dropped == ("public.c", "public.b", "public.a")
    assert conn.execute(OURS).fetchall() == []


def test_the_output_log_goes_with_the_last_dependent(conn, t):
    t.create_stream_table("a", "SELECT id, k FROM t")
    t.create_stream_table("b", "SELECT k, count(*) AS n FROM a GROUP BY k")
    logs = "SELECT count(*) FROM pg_class WHERE relname LIKE 'o\\_%'  AND relkind = 'r'"
    assert conn.execute(logs).fetchone() == (1,)
    t.drop_stream_table("b")
    assert conn.execute(logs).fetchone() == (0,)
    conn.execute("DELETE FROM t WHERE id = 1")
    assert t.refresh_stream_table("a").rows_deleted == 1


@pytest.mark.parametrize("cascade", [False, True])
def test_views_and_foreign_keys_are_named_and_never_dropped(conn, t, cascade):
    t.create_stream_table("s", "SELECT id, k FROM t")
    conn.execute("CREATE VIEW report AS SELECT * FROM s")
    with pytest.raises(DependentsExist, match=r"view public\.report"):
        t.drop_stream_table("s", cascade=cascade)
    conn.execute("INSERT INTO t VALUES (100, 'x', 1)")
    assert t.refresh_stream_table("s").rows_inserted == 1
    conn.execute("DROP VIEW report")
    t.drop_stream_table("s")


def test_an_unknown_name_is_an_error_unless_it_may_be_missing(conn, t):
    with pytest.raises(StreamTableNotFound):
        t.drop_stream_table("missing")
    assert t.drop_stream_table("missing", if_exists=True).dropped == ()
    assert t.drop_stream_table("t", if_exists=True).dropped == ()
    assert conn.execute("SELECT count(*) FROM t").fetchone() == (10,)


def test_a_released_stream_table_is_an_ordinary_table(conn, t):
    t.create_stream_table("s", "SELECT id, k FROM t")
    t.release_stream_table("s")
    conn.execute("INSERT INTO s VALUES (1000, 'mine')")
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (11,)
    assert not t.is_stream_table("s")
    assert triggers(conn) == 0
    conn.execute("DROP TABLE s")


def test_a_table_dropped_behind_our_back_is_told_and_can_be_forgotten(conn, t):
    t.create_stream_table("s", "SELECT id, k FROM t")
    conn.execute("DROP TABLE s")
    with pytest.raises(RefreshError, match="gone"):
        t.refresh_stream_table("s")
    assert t.status()[0].status == "ERROR"
    assert not t.is_stream_table("s")
    t.drop_stream_table("s")
    assert triggers(conn) == 0


def test_a_table_dropped_behind_our_back_can_be_created_again(conn, t, oracle):
    t.create_stream_table("s", "SELECT id, k FROM t")
    conn.execute("DROP TABLE s")
    assert "create" in t.create_or_replace_stream_table("s", "SELECT id, v FROM t").actions
    oracle(conn, "s", "SELECT id, v FROM t")
    assert len(t.status()) == 1


def test_a_renamed_stream_table_keeps_working_under_its_new_name(conn, t, oracle):
    t.create_stream_table("s", "SELECT id, k FROM t")
    t.create_stream_table("below", "SELECT k, count(*) AS n FROM s GROUP BY k")
    conn.execute("CREATE SCHEMA elsewhere; ALTER TABLE s RENAME TO renamed; ALTER TABLE renamed SET SCHEMA elsewhere")
    conn.execute("INSERT INTO t VALUES (100, 'x', 1)")
    assert t.refresh_stream_table("elsewhere.renamed").rows_inserted == 1
    oracle(conn, "elsewhere.renamed", "SELECT id, k FROM t")
    assert t.status("elsewhere.renamed")[0].name == "elsewhere.renamed"
    with pytest.raises(StreamTableNotFound):
        t.refresh_stream_table("s")
    t.drop_stream_table("elsewhere.renamed", cascade=True)
    assert triggers(conn) == 0


def test_uninstalling_leaves_ordinary_tables_and_nothing_of_ours(conn, t):
    t.create_stream_table("s", "SELECT id, k FROM t")
    t.create_stream_table("below", "SELECT k, count(*) AS n FROM s GROUP BY k")
    assert t.uninstall() == ("public.below", "public.s")
    assert conn.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgtrickle%'").fetchone() == (0,)
    assert triggers(conn) == 0
    conn.execute("DELETE FROM s")
    t.install()
    assert t.status() == ()


def test_a_direct_drop_by_sql_of_a_guarded_table_is_possible_for_its_owner(conn, t):
    t.create_stream_table("s", "SELECT id, k FROM t")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        conn.execute("TRUNCATE s")
    conn.execute("DROP TABLE s")
