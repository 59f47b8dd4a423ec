"""The public calls: names, results, history, explanations, and what they cost."""

from __future__ import annotations

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import (
    CatalogError,
    ConnectionFailed,
    InvalidOption,
    InvalidQuery,
    PermissionDenied,
    StreamTableNotFound,
    UnsupportedQuery,
)

pytestmark = pytest.mark.edges_only

QUERY = "SELECT d.name, count(*) AS n, sum(t.v) AS v FROM t JOIN d ON d.k = t.k GROUP BY d.name"


@pytest.fixture
def s(conn, engine):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int); CREATE TABLE d (k int PRIMARY KEY, name text)")
    conn.execute("INSERT INTO d SELECT n, 'name ' || n FROM generate_series(0, 3) n")
    conn.execute("INSERT INTO t SELECT n, n % 4, n FROM generate_series(1, 20) n")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    return engine


def test_a_server_that_is_not_there_is_an_error_of_ours():
    with pytest.raises(ConnectionFailed):
        PgTrickle.connect("host=127.0.0.1 port=1 connect_timeout=2")


def test_a_database_without_the_catalog_says_how_to_install_it(db):
    with PgTrickle.connect(db) as trickle, pytest.raises(CatalogError, match="init"):
        trickle.refresh_stream_table("s")


def test_installing_twice_changes_nothing(engine):
    assert engine.install() == ()


@pytest.mark.parametrize("name", ["s", "public.s", '"s"', 'public."s"', "PUBLIC.S"])
def test_a_name_is_read_as_postgresql_reads_it(s, name):
    assert s.refresh_stream_table(name).name == "public.s"
    assert s.is_stream_table(name)


@pytest.mark.parametrize("name", ["", "a.b.c", "s; DROP TABLE t", "1s", 'un"quoted'])
def test_what_is_no_name_is_refused(s, name):
    with pytest.raises(InvalidOption):
        s.refresh_stream_table(name)


def test_names_follow_the_search_path(conn, db, s):
    conn.execute("CREATE SCHEMA other")
    with PgTrickle.connect(db, options="-c search_path=other,public") as trickle:
        made = trickle.create_stream_table("mine", "SELECT id FROM t")
        assert made.name == "other.mine"
        assert trickle.status("s")[0].name == "public.s"


def test_an_unknown_name_is_not_a_stream_table(s):
    assert not s.is_stream_table("missing")
    assert not s.is_stream_table("t")
    for call in (s.refresh_stream_table, s.verify, s.status, s.explain, s.suspend, s.drop_stream_table, s.history):
        with pytest.raises(StreamTableNotFound):
            call("missing")


def test_a_refresh_says_what_it_did(conn, s):
    conn.execute("INSERT INTO t VALUES (100, 0, 5); DELETE FROM d WHERE k = 3; INSERT INTO d VALUES (9, 'nine')")
    conn.execute("INSERT INTO t VALUES (101, 9, 1)")
    result = s.refresh_stream_table("s")
    assert (result.action, result.rows_inserted, result.rows_updated, result.rows_deleted) == ("DIFFERENTIAL", 1, 1, 1)
    assert result.rows_changed == 3
    assert result.duration_ms > 0
    assert result.fallback_reason is None
    snapshot = conn.execute("SELECT snapshot::text, refresh_no FROM pgtrickle.frontiers").fetchone()
    assert (result.snapshot, result.refresh_no) == snapshot
    row = s.history("s")[0]
    assert (row.action, row.rows_inserted, row.rows_updated, row.rows_deleted) == ("DIFFERENTIAL", 1, 1, 1)
    assert row.initiated_by == "manual"


def test_a_refresh_of_a_join_aggregate_takes_five_messages_and_four_where_the_session_has_just_made_one(conn, s, db):
    change = "UPDATE t SET v = v + 1 WHERE id = 1; UPDATE d SET name = name || 'x' WHERE k = 1"
    taken = []
    for _ in range(3):
        conn.execute(change)
        taken.append(s.refresh_stream_table("s").statements)
    assert max(taken) <= 5
    assert taken[-1] <= 4, taken
    assert s.refresh_stream_table("s").statements == 3
    conn.execute(change)
    with PgTrickle.connect(db) as another:
        assert another.refresh_stream_table("s").statements <= 5


def test_an_explicit_full_refresh_writes_only_differences(conn, s, oracle):
    conn.execute("INSERT INTO t VALUES (100, 0, 5)")
    result = s.refresh_stream_table("s", full=True)
    assert (result.action, result.rows_updated, result.rows_changed) == ("FULL", 1, 1)
    assert result.fallback_reason == "asked for"
    oracle(conn, "s", QUERY)


def test_refreshing_chosen_ones_leaves_the_others(conn, s):
    s.create_stream_table("other", "SELECT id FROM t")
    conn.execute("INSERT INTO t VALUES (100, 0, 5)")
    assert [(one.name, one.action) for one in s.refresh_all(["s"])] == [("public.s", "DIFFERENTIAL")]
    assert conn.execute("SELECT count(*) FROM other").fetchone() == (20,)
    with pytest.raises(StreamTableNotFound):
        s.refresh_all(["s", "missing"])


def test_status_tells_what_people_ask(conn, s):
    row = s.status("s")[0]
    assert (row.name, row.schema, row.table, row.status) == ("public.s", "public", "s", "ACTIVE")
    assert (row.refresh_mode, row.effective_mode, row.is_populated, row.stale) == (
        "DIFFERENTIAL",
        "DIFFERENTIAL",
        True,
        False,
    )
    assert row.relid == conn.execute("SELECT 's'::regclass::oid").fetchone()[0]
    assert row.staleness_seconds is not None


def test_an_explanation_shows_tree_and_statement(s):
    found = s.explain("s")
    assert found.mode == "DIFFERENTIAL"
    assert [name for name, _ in found.columns] == ["name", "n", "v"]
    assert "public.t" in {source.name for source in found.sources}
    assert "Join" in found.stages[-1].tree
    assert "pgtrickle_changes" in (found.stages[-1].delta_sql or "")
    assert ("status", "pass", "") in found.gates


def test_a_query_is_validated_without_a_trace(conn, s):
    before = conn.execute("SELECT count(*) FROM pg_class").fetchone()
    found = s.validate_query("SELECT k, max(v) AS v FROM t GROUP BY k")
    assert (found.name, found.mode) == (None, "DIFFERENTIAL")
    full = s.validate_query("SELECT random() AS r FROM t")
    assert full.mode == "FULL"
    assert "random" in (full.full_reason or "")
    with pytest.raises(UnsupportedQuery):
        s.validate_query("SELECT random() AS r FROM t", "DIFFERENTIAL")
    with pytest.raises(InvalidQuery):
        s.validate_query("SELECT nothing FROM t")
    assert conn.execute("SELECT count(*) FROM pg_class").fetchone() == before


def test_a_role_is_set_for_everything_that_is_created(conn, db):
    conn.execute("CREATE ROLE api_maker; GRANT ALL ON SCHEMA public TO api_maker")
    name = conn.info.dbname
    conn.execute(
        psycopg.sql.SQL("GRANT CREATE, TEMPORARY ON DATABASE {} TO api_maker").format(psycopg.sql.Identifier(name))
    )
    try:
        conn.execute("CREATE TABLE t (id int); ALTER TABLE t OWNER TO api_maker")
        with PgTrickle.connect(db, role="api_maker") as trickle:
            trickle.install()
            trickle.create_stream_table("s", "SELECT id FROM t")
            conn.execute("INSERT INTO t VALUES (1)")
            assert trickle.refresh_stream_table("s").rows_inserted == 1
        # A runner may be another role: it works in the name of the owner.
        conn.execute("INSERT INTO t VALUES (2)")
        with PgTrickle.connect(db) as runner:
            assert runner.verify("s").proven
            result = runner.refresh_stream_table("s")
            assert (result.action, result.rows_inserted) == ("DIFFERENTIAL", 1)
            assert runner.refresh_stream_table("s", full=True).rows_changed == 0
            assert runner.conn.execute("SELECT current_user").fetchone() == ("postgres",)
        owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 's'::regclass"
        assert conn.execute(owner).fetchone() == ("api_maker",)
    finally:
        conn.execute("DROP OWNED BY api_maker CASCADE; DROP ROLE api_maker")


def test_a_role_without_rights_is_told_the_grant(conn, db, engine):
    conn.execute("CREATE ROLE api_stranger")
    try:
        with PgTrickle.connect(db, role="api_stranger") as trickle, pytest.raises(PermissionDenied) as caught:
            trickle.status()
        assert "GRANT postgres TO api_stranger" in (caught.value.hint or "")
    finally:
        conn.execute("DROP OWNED BY api_stranger; DROP ROLE api_stranger")


def test_a_stream_table_that_was_given_to_another_role_keeps_its_content_and_says_what_to_do(conn, db, engine, oracle):
    query = "SELECT g, count(*) AS n, sum(v) AS s FROM t GROUP BY g"
    conn.execute("CREATE ROLE api_heir; CREATE TABLE t (id int PRIMARY KEY, g int, v int)")
    conn.execute("INSERT INTO t SELECT i, i % 3, i FROM generate_series(1, 9) i; GRANT SELECT ON t TO api_heir")
    try:
        engine.create_stream_table("s", query)
        conn.execute("ALTER TABLE s OWNER TO api_heir; INSERT INTO t VALUES (10, 1, 1)")
        for call in (engine.refresh_stream_table, engine.verify):
            with pytest.raises(PermissionDenied) as caught:
                call("s")
            hint = caught.value.hint or ""
            assert "belongs to api_heir" in (caught.value.detail or "")
        assert conn.execute("SELECT sum(n) FROM s").fetchone() == (9,)
        conn.execute(hint.split("read it: ")[1])
        engine.refresh_stream_table("s")
        oracle(conn, "s", query)
        assert conn.execute("SELECT has_table_privilege('api_heir', 's', 'SELECT')").fetchone() == (True,)
    finally:
        conn.execute("DROP OWNED BY api_heir; DROP ROLE api_heir")


def test_settings_of_the_creator_stay_in_force_for_other_sessions(conn, db, engine, oracle):
    conn.execute("CREATE TABLE e (id int PRIMARY KEY, at timestamptz)")
    conn.execute("INSERT INTO e VALUES (1, '2024-01-01 23:30+00')")
    query = "SELECT id, at::date AS day, at::text AS text, decode('5c00', 'hex')::text AS b FROM e"
    with PgTrickle.connect(db, options="-c TimeZone=Europe/Berlin -c bytea_output=escape") as berlin:
        berlin.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO e VALUES (2, '2024-06-01 22:30+00'); DELETE FROM e WHERE id = 1")
    with PgTrickle.connect(db, options="-c TimeZone=America/New_York") as york:
        assert york.refresh_stream_table("s").action == "DIFFERENTIAL"
        assert york.verify("s").proven
    conn.execute("SET TimeZone = 'Europe/Berlin'; SET bytea_output = 'escape'")
    assert conn.execute(f"SELECT count(*) FROM (SELECT * FROM s EXCEPT ALL ({query})) x").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (1,)


def test_a_role_with_another_date_style_can_work(conn, db, engine, oracle):
    conn.execute("CREATE TABLE e (id int PRIMARY KEY, day date); INSERT INTO e VALUES (1, '2024-02-01')")
    with PgTrickle.connect(db, options="-c DateStyle=German,DMY -c IntervalStyle=iso_8601") as german:
        german.create_stream_table("s", "SELECT id, day FROM e WHERE day = '01/02/2024'")
        assert german.status("s")[0].is_populated
        assert german.history("s")
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (1,)
