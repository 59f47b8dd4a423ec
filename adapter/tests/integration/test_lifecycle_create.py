"""Creating a stream table: exactly the query's columns, guarded, and nothing left behind by a failure."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import (
    InvalidOption,
    InvalidQuery,
    LockTimeout,
    NotYetSupported,
    PgTrickleError,
    RefreshError,
    StreamTableExists,
    UnsupportedQuery,
)

pytestmark = pytest.mark.edges_only

LEFT_BEHIND = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND c.relkind IN ('r', 'v')
UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'stream table ' || table_name FROM pgtrickle.stream_tables
UNION ALL SELECT 'source ' || table_name FROM pgtrickle.sources
UNION ALL SELECT 'dependency ' || object_name FROM pgtrickle.dependencies
"""


@pytest.fixture
def t(conn):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k text, v numeric(12, 3))")
    conn.execute("INSERT INTO t SELECT n, 'k' || n % 3, n FROM generate_series(1, 10) n")


def left_behind(conn):
    return [row[0] for row in conn.execute(LEFT_BEHIND).fetchall()]


def test_columns_are_exactly_those_of_the_query(conn, engine, t):
    query = """SELECT id AS "Id", k COLLATE "C" AS k, v::numeric(12, 3) AS v, k::varchar(5) AS sh, v > 1 AS b FROM t"""
    conn.execute(f"CREATE VIEW reference AS {query}")
    engine.create_stream_table("s", query, refresh_mode="FULL")
    shape = """SELECT attname, atttypid, atttypmod, attcollation FROM pg_attribute
               WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"""
    assert conn.execute(shape, ["s"]).fetchall() == conn.execute(shape, ["reference"]).fetchall()


def test_creating_says_what_was_done(engine, t):
    made = engine.create_stream_table("s", "SELECT k, sum(v) AS v FROM t GROUP BY k")
    assert made.created
    assert made.name == "public.s"
    assert made.effective_mode == "DIFFERENTIAL"
    assert made.rows == 3
    assert made.actions == ("create", "capture", "load", "indexes")


def test_an_initial_load_can_be_left_to_the_first_refresh(conn, engine, t, oracle):
    made = engine.create_stream_table("s", "SELECT k, v FROM t", initialize=False)
    assert "load" not in made.actions
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (0,)
    assert engine.status("s")[0].is_populated is False
    conn.execute("DELETE FROM t WHERE id = 1")
    assert engine.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", "SELECT k, v FROM t")


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO s VALUES (1)", "UPDATE s SET id = 0", "DELETE FROM s WHERE false", "TRUNCATE s"],
)
def test_direct_writes_are_refused(conn, engine, t, statement):
    engine.create_stream_table("s", "SELECT id FROM t")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="stream table"):
        conn.execute(statement)


def test_the_guard_is_not_opened_by_a_setting_that_somebody_else_made(conn, engine, t):
    engine.create_stream_table("s", "SELECT id FROM t")
    conn.execute("SET pgtrickle.refreshing = 'on'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        conn.execute("DELETE FROM s")


@pytest.mark.parametrize("statement", ["CREATE TABLE s (a int)", "CREATE VIEW s AS SELECT 1 AS a", "CREATE SEQUENCE s"])
def test_a_name_that_is_taken_is_refused(conn, engine, t, statement):
    conn.execute(statement)
    with pytest.raises(StreamTableExists):
        engine.create_stream_table("s", "SELECT id FROM t")
    with pytest.raises(StreamTableExists):
        engine.create_or_replace_stream_table("s", "SELECT id FROM t")


def test_an_existing_stream_table_is_not_created_twice(engine, t):
    engine.create_stream_table("s", "SELECT id FROM t")
    with pytest.raises(StreamTableExists, match="exists already"):
        engine.create_stream_table("s", "SELECT id FROM t")
    assert engine.create_stream_table_if_not_exists("s", "SELECT k FROM t").created is False


@pytest.mark.parametrize(
    ("query", "options", "error"),
    [
        ("SELECT nothing FROM t", {}, InvalidQuery),
        ("SELECT id FROM missing", {}, InvalidQuery),
        ("DELETE FROM t", {}, PgTrickleError),
        ("SELECT 1; SELECT 2", {}, PgTrickleError),
        ("SELECT id, id FROM t", {}, InvalidQuery),
        ("SELECT id, random() AS r FROM t", {"refresh_mode": "DIFFERENTIAL"}, UnsupportedQuery),
        ("SELECT 1 / (id - 5) AS q FROM t", {}, RefreshError),
        ("SELECT id FROM t", {"refresh_mode": "IMMEDIATE"}, NotYetSupported),
        ("SELECT id FROM t", {"refresh_mode": "QUICK"}, InvalidOption),
        ("SELECT id FROM t", {"schedule": "sometimes"}, InvalidOption),
        ("SELECT id FROM t", {"cdc_mode": "wal"}, NotYetSupported),
        ("SELECT id FROM t", {"indexes": [{"columns": ["nope"]}]}, InvalidOption),
        ("SELECT k FROM t", {"indexes": [{"columns": ["k"], "unique": True}]}, PgTrickleError),
    ],
)
def test_a_failed_create_leaves_nothing_behind(conn, engine, t, query, options, error):
    with pytest.raises(error):
        engine.create_stream_table("s", query, **options)
    assert left_behind(conn) == []
    assert conn.execute("SELECT to_regclass('s')").fetchone() == (None,)
    engine.create_stream_table("s", "SELECT id FROM t")


def test_a_locked_source_is_named_with_its_holder(conn, connect, engine, t):
    holder = connect(autocommit=False)
    holder.execute("UPDATE t SET v = 0 WHERE id = 1")
    pid = holder.info.backend_pid
    with pytest.raises(LockTimeout, match=str(pid)):
        engine.create_stream_table("s", "SELECT id FROM t", install_timeout=0.5)
    assert left_behind(conn) == []


def test_a_session_that_waits_for_us_is_not_waited_for(conn, connect, engine, t):
    holder = connect(autocommit=False)
    holder.execute("UPDATE t SET v = 0 WHERE id = 1")
    with pytest.raises(LockTimeout, match="UPDATE t"):
        engine.create_stream_table("s", "SELECT id FROM t", backend_pid=holder.info.backend_pid, install_timeout=600)
    assert left_behind(conn) == []


def test_a_missing_schema_is_said_so(engine, t):
    with pytest.raises(InvalidOption, match="nowhere"):
        engine.create_stream_table("nowhere.s", "SELECT id FROM t")


def test_indexes_are_made_as_configured(conn, engine, t):
    engine.create_stream_table(
        "s",
        "SELECT id, k FROM t",
        indexes=[{"columns": ["k"]}, {"columns": ["id", "k"], "unique": True, "type": "btree"}],
    )
    found = [row[0] for row in conn.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 's'").fetchall()]
    assert any("USING btree (k)" in one for one in found)
    assert any(one.startswith("CREATE UNIQUE") and "(id, k)" in one for one in found)


def test_odd_names_are_quoted_everywhere(conn, engine, oracle):
    conn.execute('CREATE SCHEMA "My Schema"')
    conn.execute('CREATE TABLE "My Schema"."T.1" ("a b" int PRIMARY KEY, "select" text, "s s" int)')
    conn.execute("""INSERT INTO "My Schema"."T.1" VALUES (1, 'x', 5), (2, 'y', 6)""")
    query = 'SELECT "select" AS "Group", count(*) AS "1", sum("s s") AS "c1" FROM "My Schema"."T.1" GROUP BY "select"'
    made = engine.create_stream_table('"My Schema"."S ""1"""', query, refresh_mode="DIFFERENTIAL")
    assert made.name == '"My Schema"."S ""1"""'
    conn.execute("""INSERT INTO "My Schema"."T.1" VALUES (3, 'x', 7); DELETE FROM "My Schema"."T.1" WHERE "a b" = 2""")
    assert engine.refresh_stream_table(made.name).action == "DIFFERENTIAL"
    oracle(conn, made.name, query)
    assert engine.status(made.name)[0].name == made.name
    assert engine.verify(made.name).proven


def test_implicit_acts_are_told_once(engine, t):
    first = engine.create_stream_table("s", "SELECT id, random() AS r FROM t")
    assert {notice.code for notice in first.notices} >= {"auto_full"}
    again = engine.create_or_replace_stream_table("s", "SELECT id, random() AS r FROM t")
    assert again.notices == ()


def test_the_old_name_of_a_renamed_stream_table_is_free(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    conn.execute("CREATE TABLE t (k integer PRIMARY KEY, g text); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    engine.create_stream_table("s", "SELECT g, count(*) AS n FROM t GROUP BY g")
    conn.execute("ALTER TABLE s RENAME TO older")
    engine.create_stream_table("s", "SELECT g, max(k) AS n FROM t GROUP BY g")
    conn.execute("UPDATE t SET k = k + 10")
    for name in ("s", "older"):
        engine.refresh_stream_table(name)
        assert engine.verify(name).proven
