"""Sources that change their definition: harmless, recomputed, compiled again, or broken with the content intact."""

from __future__ import annotations

import pytest

from pgtrickle.errors import RefreshError, SelfWrite

pytestmark = pytest.mark.edges_only

QUERY = "SELECT t.id, t.v, d.name FROM t LEFT JOIN d ON d.k = t.k"


@pytest.fixture
def s(conn, engine):
    conn.execute(
        """
        CREATE TABLE d (k int PRIMARY KEY, name text, spare int);
        CREATE TABLE t (id int PRIMARY KEY, k int, v int);
        INSERT INTO d SELECT n, 'name ' || n FROM generate_series(0, 2) n;
        INSERT INTO t SELECT n, n % 4, n FROM generate_series(1, 12) n;
        """
    )
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    return engine


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT SELECT ON t TO PUBLIC",
        "ANALYZE t",
        "COMMENT ON TABLE t IS 'x'",
        "ALTER TABLE d DROP COLUMN spare",
        "ALTER TABLE d ADD COLUMN more int DEFAULT 3",
        "ALTER TABLE t ALTER COLUMN v SET DEFAULT 7",
        "CREATE INDEX ON t (v)",
        "ALTER TABLE t ALTER COLUMN v SET STATISTICS 10",
        "VACUUM FULL t",
    ],
)
def test_what_does_not_matter_costs_nothing(conn, s, oracle, statement):
    conn.execute(statement)
    conn.execute("INSERT INTO t VALUES (100, 1, 1)")
    result = s.refresh_stream_table("s")
    assert (result.action, result.rows_changed) == ("DIFFERENTIAL", 1)
    oracle(conn, "s", QUERY)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE d",
        "ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET v = 77 WHERE id = 1; ALTER TABLE t ENABLE TRIGGER ALL",
        "ALTER TABLE t ALTER COLUMN v TYPE int USING v * 2",
        "CREATE TABLE d2 (LIKE d INCLUDING ALL); INSERT INTO d2 VALUES (1, 'swapped'); DROP TABLE d;"
        "ALTER TABLE d2 RENAME TO d",
        "ALTER TABLE d RENAME TO d_old; CREATE TABLE d AS SELECT k, name || '!' AS name FROM d_old",
        "ALTER TABLE d DROP CONSTRAINT d_pkey; INSERT INTO d VALUES (1, 'twice')",
        "ALTER TABLE t RENAME COLUMN v TO v_old; ALTER TABLE t ADD COLUMN v int DEFAULT 5",
    ],
)
def test_what_leaves_no_change_row_is_noticed(conn, s, oracle, statement):
    conn.execute(statement)
    result = s.refresh_stream_table("s")
    assert [notice.code for notice in result.notices] == (["recompute"] if result.action == "FULL" else [])
    oracle(conn, "s", QUERY)
    conn.execute("INSERT INTO t (id, k, v) VALUES (100, 1, 1); UPDATE d SET name = 'other' WHERE k = 1")
    s.refresh_stream_table("s")
    oracle(conn, "s", QUERY)
    assert s.verify("s").proven


def test_a_full_consumer_notices_columns_that_a_differential_one_does_not_read(conn, s, oracle):
    query = "SELECT id, k, v FROM t"
    s.create_stream_table("counted", "SELECT count(*) AS n FROM t", refresh_mode="DIFFERENTIAL")
    s.drop_stream_table("s")
    s.create_stream_table("f", query, refresh_mode="FULL")
    conn.execute("UPDATE t SET k = k + 1")
    assert s.refresh_stream_table("f").action == "FULL"
    oracle(conn, "f", query)


def test_full_refreshes_notice_a_replaced_column_too(conn, engine, s, oracle):
    engine.create_stream_table("f", QUERY, refresh_mode="FULL")
    conn.execute("ALTER TABLE d DROP COLUMN spare")
    assert engine.refresh_stream_table("f").action == "NO_DATA"
    conn.execute("ALTER TABLE t DROP COLUMN v")
    with pytest.raises(RefreshError, match="v"):
        engine.refresh_stream_table("f")
    conn.execute("ALTER TABLE t ADD COLUMN v int DEFAULT 5")
    engine.refresh_stream_table("f")
    oracle(conn, "f", QUERY)


def test_a_renamed_source_is_followed(conn, s, oracle):
    conn.execute("CREATE SCHEMA elsewhere; ALTER TABLE t RENAME TO moved; ALTER TABLE d SET SCHEMA elsewhere")
    query = QUERY.replace("FROM t", "FROM moved t").replace("JOIN d", "JOIN elsewhere.d")
    s.refresh_stream_table("s")
    oracle(conn, "s", query)
    conn.execute("INSERT INTO moved VALUES (100, 1, 1); UPDATE elsewhere.d SET name = 'other' WHERE k = 2")
    result = s.refresh_stream_table("s")
    assert result.action == "DIFFERENTIAL"
    oracle(conn, "s", query)


def test_a_renamed_stream_table_is_followed_by_its_dependents(conn, s, oracle):
    s.create_stream_table("below", "SELECT name, count(*) AS n FROM s GROUP BY name", refresh_mode="DIFFERENTIAL")
    conn.execute("ALTER TABLE s RENAME TO renamed")
    conn.execute("INSERT INTO t VALUES (100, 1, 1)")
    s.refresh_stream_table("below")
    oracle(conn, "below", "SELECT name, count(*) AS n FROM renamed GROUP BY name")
    conn.execute("DELETE FROM t WHERE id < 4")
    assert s.refresh_stream_table("below").action == "DIFFERENTIAL"
    oracle(conn, "below", "SELECT name, count(*) AS n FROM renamed GROUP BY name")


def test_a_changed_type_of_a_source_column_reaches_the_stream_table(conn, s, oracle):
    conn.execute("ALTER TABLE t ALTER COLUMN v TYPE numeric(20, 5) USING v / 3.0")
    s.refresh_stream_table("s")
    oracle(conn, "s", QUERY)
    conn.execute("INSERT INTO t VALUES (100, 1, 1.23456)")
    assert s.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)


@pytest.mark.parametrize(
    ("statement", "named", "remedy"),
    [
        ("ALTER TABLE t DROP COLUMN v", "v", "ALTER TABLE t ADD COLUMN v int DEFAULT 1"),
        ("DROP TABLE d", "d", "CREATE TABLE d (k int PRIMARY KEY, name text)"),
    ],
)
def test_a_broken_definition_keeps_the_content_and_heals(conn, s, oracle, statement, named, remedy):
    before = conn.execute("SELECT array_agg(s ORDER BY id) FROM s").fetchone()
    conn.execute(statement)
    with pytest.raises(RefreshError, match=named) as caught:
        s.refresh_stream_table("s")
    assert caught.value.hint
    assert conn.execute("SELECT array_agg(s ORDER BY id) FROM s").fetchone() == before
    row = s.status("s")[0]
    assert (row.status, row.consecutive_errors) == ("ERROR", 1)
    assert row.last_error
    conn.execute(remedy)
    s.refresh_stream_table("s")
    oracle(conn, "s", QUERY)
    assert s.status("s")[0].status == "ACTIVE"


def test_a_changed_view_and_a_changed_function_are_noticed(conn, engine, oracle):
    conn.execute(
        """
        CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2);
        CREATE VIEW w AS SELECT id, v + 1 AS v FROM t;
        CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
        """
    )
    query = "SELECT id, twice(v) AS v FROM w"
    engine.create_stream_table("s", query)
    conn.execute("CREATE OR REPLACE VIEW w AS SELECT id, v + 10 AS v FROM t")
    engine.refresh_stream_table("s")
    oracle(conn, "s", query)
    conn.execute("CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 3 * $1'")
    engine.refresh_stream_table("s")
    oracle(conn, "s", query)
    conn.execute("DROP VIEW w; CREATE VIEW w AS SELECT id, v + 10 AS v FROM t")
    engine.refresh_stream_table("s")
    oracle(conn, "s", query)


def test_renamed_labels_of_an_enum_are_noticed_and_new_ones_cost_nothing(conn, engine, oracle):
    conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, m mood, l mood[])")
    conn.execute("INSERT INTO t VALUES (1, 'sad', '{ok,sad}'), (2, 'ok', '{}')")
    query = "SELECT id, m::text AS m, l::text AS l FROM t"
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute("ALTER TYPE mood ADD VALUE 'happy'")
    assert engine.refresh_stream_table("s").action == "NO_DATA"
    conn.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    assert engine.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", query)


def test_a_trigger_on_a_stream_table_that_writes_to_its_source_is_named(conn, s):
    conn.execute(
        """
        CREATE FUNCTION feed_back() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE public.t SET v = v + 1 WHERE id = 1; RETURN NULL; END $$;
        CREATE TRIGGER feeds_back AFTER INSERT ON s FOR EACH ROW EXECUTE FUNCTION feed_back();
        """
    )
    conn.execute("INSERT INTO t VALUES (100, 1, 1)")
    with pytest.raises(SelfWrite, match="feeds_back"):
        s.refresh_stream_table("s")
    assert conn.execute("SELECT count(*) FROM s WHERE id = 100").fetchone() == (0,)
    conn.execute("DROP TRIGGER feeds_back ON s")
    assert s.refresh_stream_table("s").rows_inserted == 1


def test_a_function_of_the_query_that_writes_to_its_source_is_named(conn, engine):
    conn.execute(
        """
        CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE loud ();
        CREATE FUNCTION noisy(int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.t SELECT max(id) + 1, 0 FROM public.t HAVING EXISTS (SELECT FROM public.loud);
        RETURN $1; END $$;
        """
    )
    engine.create_stream_table("s", "SELECT id, noisy(v) AS v FROM t", refresh_mode="FULL")
    conn.execute("INSERT INTO t VALUES (1, 1); INSERT INTO loud DEFAULT VALUES")
    with pytest.raises(SelfWrite, match=r"noisy\(integer\)"):
        engine.refresh_stream_table("s")
    conn.execute("DELETE FROM loud")
    assert engine.refresh_stream_table("s").rows_inserted == 1


def test_a_foreign_key_that_reaches_a_source_is_named(conn, engine):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
    conn.execute("CREATE TABLE child (id int PRIMARY KEY, parent int)")
    engine.create_stream_table(
        "s",
        "SELECT id, v FROM t WHERE v > 0",
        refresh_mode="DIFFERENTIAL",
        indexes=[{"columns": ["id"], "unique": True}],
    )
    engine.create_stream_table("c", "SELECT count(*) AS n FROM child JOIN s ON s.id = child.parent")
    conn.execute("ALTER TABLE child ADD FOREIGN KEY (parent) REFERENCES s (id) ON DELETE CASCADE")
    conn.execute("INSERT INTO child VALUES (1, 1)")
    engine.refresh_all()
    conn.execute("UPDATE t SET v = 0 WHERE id = 1")
    done = {result.name: result for result in engine.refresh_all()}
    assert done["public.c"].action == "FAILED"
    assert "child" in (done["public.c"].fallback_reason or "")


def test_a_row_that_came_and_went_cannot_fail_a_refresh(conn, engine, oracle):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
    query = "SELECT id, 10 / v AS q FROM t"
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (2, 0); UPDATE t SET v = 5 WHERE id = 2")
    result = engine.refresh_stream_table("s")
    oracle(conn, "s", query)
    assert result.action in ("DIFFERENTIAL", "FULL")
    if result.action == "FULL":
        assert "division by zero" in (result.fallback_reason or "")


def test_sources_that_nobody_can_watch_are_read_at_every_refresh(conn, engine, oracle):
    conn.execute("CREATE TABLE t (id int); CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t")
    engine.create_stream_table("s", "SELECT n FROM m")
    conn.execute("INSERT INTO t VALUES (1)")
    conn.execute("REFRESH MATERIALIZED VIEW m")
    assert engine.refresh_stream_table("s").action == "FULL"
    oracle(conn, "s", "SELECT n FROM m")


def test_time_moves_a_query_that_reads_the_clock(conn, engine):
    conn.execute(
        "CREATE TABLE t (id int, until timestamptz); INSERT INTO t SELECT 1, clock_timestamp() + interval '2 s'"
    )
    engine.create_stream_table("s", "SELECT id FROM t WHERE until > now()")
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (1,)
    conn.execute("SELECT pg_sleep_until(until) FROM t")
    engine.refresh_stream_table("s")
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (0,)
