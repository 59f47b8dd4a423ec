"""A session that has just refreshed a stream table asks for nothing that it knows, and notices whatever has changed."""

from __future__ import annotations

import pytest

from pgtrickle.api import PgTrickle

pytestmark = pytest.mark.edges_only

SHORT = 2
QUERY = "SELECT t.id, t.v, d.name FROM t LEFT JOIN d ON d.k = t.k"
#: Reads everything that a fingerprint has facts of.
WIDE = (
    "SELECT t.id, t.v, w.name, f(t.v) AS f, t.mood::text AS mood, any_of(t.v) AS g, t.v #&# 1 AS o, t.p::text AS p,"
    " upper(w.name COLLATE plain) AS u, to_tsvector('cfg', w.name)::text AS words, ts_lexize('dict', w.name) AS l"
    " FROM t JOIN w ON w.k = t.k JOIN public.up AS p ON p.id = t.id"
)


@pytest.fixture
def s(conn, engine):
    conn.execute(
        """
        CREATE TYPE mood AS ENUM ('sad', 'glad');
        CREATE TABLE d (k int PRIMARY KEY, name text, spare int);
        CREATE TABLE t (id int PRIMARY KEY, k int, v int, mood mood DEFAULT 'sad');
        INSERT INTO d SELECT n, 'name ' || n FROM generate_series(0, 2) n;
        INSERT INTO t SELECT n, n % 4, n FROM generate_series(1, 12) n;
        """
    )
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    return _warm(conn, engine)


@pytest.fixture
def wide(conn, s):
    conn.execute(
        """
        CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 + 1; END $$;
        CREATE VIEW w AS SELECT k, name FROM d;
        CREATE FUNCTION any_of(anyelement) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$;
        CREATE OPERATOR #&# (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
        CREATE COLLATION plain FROM "C";
        CREATE TEXT SEARCH CONFIGURATION cfg (COPY = pg_catalog.english);
        CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = pg_catalog.simple);
        CREATE TYPE pair AS (a int, b text);
        ALTER TABLE t ADD COLUMN p pair;
        """
    )
    s.create_stream_table("up", "SELECT id, v FROM t", refresh_mode="DIFFERENTIAL")
    s.create_stream_table("wide", WIDE, refresh_mode="DIFFERENTIAL")
    for _ in range(2):
        conn.execute("UPDATE t SET v = v + 1 WHERE id = 1")
        s.refresh_stream_table("public.wide")
    return s


def _warm(conn, engine, name="public.s"):
    for _ in range(3):
        conn.execute("UPDATE t SET v = v + 1 WHERE id = 1")
        result = engine.refresh_stream_table(name)
    assert (result.action, result.statements) == ("DIFFERENTIAL", SHORT)
    return engine


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
        "CREATE TABLE t_more () INHERITS (t); INSERT INTO t_more VALUES (50, 1, 50)",
        "CREATE TABLE t_more (LIKE t); INSERT INTO t_more VALUES (50, 1, 50); ALTER TABLE t_more INHERIT t",
        "ALTER TABLE s ADD COLUMN mine int; ALTER TABLE s DROP COLUMN mine",
        "GRANT SELECT ON t TO PUBLIC; CREATE INDEX ON t (v); ANALYZE t; ANALYZE s",
    ],
)
def test_what_leaves_no_change_row_is_noticed_by_a_session_that_remembers(conn, s, oracle, statement):
    conn.execute(statement)
    conn.execute("INSERT INTO t (id, k, v) VALUES (100, 1, 1)")
    s.refresh_stream_table("public.s")
    oracle(conn, "s", QUERY)
    conn.execute("INSERT INTO t (id, k, v) VALUES (101, 1, 1); UPDATE d SET name = 'other' WHERE k = 1")
    s.refresh_stream_table("s")
    oracle(conn, "s", QUERY)
    assert s.verify("s").proven


_CHANGES = [
    "ALTER TABLE t RENAME TO t_new",
    "ALTER TABLE t RENAME COLUMN v TO v_new",
    "ALTER TABLE t ALTER COLUMN v TYPE bigint",
    "ALTER TABLE t ALTER COLUMN k SET NOT NULL",
    "ALTER TABLE t DROP CONSTRAINT t_pkey",
    "CREATE UNIQUE INDEX ON t (v, id)",
    "ALTER TABLE t DISABLE TRIGGER USER",
    "ALTER TABLE t SET UNLOGGED",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE t FORCE ROW LEVEL SECURITY",
    "ALTER SCHEMA public RENAME TO other",
    "CREATE TABLE child () INHERITS (t)",
    "CREATE TABLE parent (); ALTER TABLE t INHERIT parent",
    "CREATE TABLE parent (k int, name text); ALTER TABLE d INHERIT parent",
    "CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 + 2; END $$",
    "ALTER FUNCTION f(int) SET work_mem = '1MB'",
    "ALTER FUNCTION f(int) VOLATILE",
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'gloomy'",
    "ALTER TYPE mood ADD VALUE 'mad' BEFORE 'glad'",
    "ALTER TYPE mood RENAME TO state",
    "ALTER TYPE pair ADD ATTRIBUTE c int",
    "ALTER TYPE pair RENAME ATTRIBUTE b TO c",
    "CREATE CAST (text AS pair) WITH INOUT",
    "CREATE CAST (date AS int) WITH INOUT",
    "ALTER FUNCTION any_of(anyelement) RENAME TO all_of",
    "CREATE FUNCTION any_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'",
    "CREATE SCHEMA lib; ALTER OPERATOR #&# (int, int) SET SCHEMA lib",
    "ALTER COLLATION plain RENAME TO other",
    "UPDATE pg_collation SET collversion = '2' WHERE collname = 'plain'",
    "ALTER TEXT SEARCH CONFIGURATION cfg RENAME TO other",
    "ALTER TEXT SEARCH CONFIGURATION cfg ALTER MAPPING FOR asciiword WITH dict",
    "ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ALTER MAPPING FOR asciiword WITH dict",
    "ALTER TEXT SEARCH DICTIONARY dict (accept = false)",
    "ALTER TEXT SEARCH DICTIONARY dict RENAME TO other",
    "CREATE OR REPLACE VIEW w AS SELECT k, upper(name) AS name FROM d",
    "ALTER TABLE d RENAME TO d_new",
    "ALTER TABLE d RENAME COLUMN name TO title",
    "ALTER TABLE d SET SCHEMA pgtrickle_state",
    "ALTER TABLE up RENAME TO up_new",
    "UPDATE pgtrickle.sources SET generation = generation + 1",
    "UPDATE pgtrickle.source_tables SET attached = 'nowhere'",
    "CLUSTER d USING d_pkey",
    "ALTER FUNCTION f(int) RENAME TO f2",
    "ALTER VIEW w RENAME COLUMN name TO title",
    "ALTER VIEW w RENAME TO w2",
    "ALTER FUNCTION pgtrickle_changes.f_1() SET work_mem = '1MB'",
    "ALTER TABLE pgtrickle_changes.b_1 RENAME TO mine",
    "DROP TABLE pgtrickle_changes.b_2",
    "DROP TRIGGER pgtrickle_guard ON wide",
    "ALTER TABLE wide DISABLE TRIGGER pgtrickle_guard",
    "ALTER TABLE wide SET UNLOGGED",
    "ALTER TABLE wide ALTER COLUMN name TYPE varchar(200)",
]


_CHANGES_OF_ITS_OWN = [
    "UPDATE pgtrickle.stream_tables SET options = options || '{\"a\": 1}'",
    "UPDATE pgtrickle.dependencies SET columns = columns",
    "ALTER TABLE wide RENAME TO broad",
    "ALTER TABLE wide SET SCHEMA pgtrickle_state",
    "ALTER TABLE wide RENAME COLUMN name TO title",
    "ALTER TABLE wide OWNER TO versions_owner",
    "SET LOCAL ROLE versions_owner",
]


def test_what_changes_the_facts_or_the_stream_table_changes_its_versions(conn, wide):
    look = "SELECT pgtrickle.versions(ARRAY (SELECT id FROM pgtrickle.stream_tables WHERE relid = %s))"
    relid = conn.execute("SELECT 'wide'::regclass::oid").fetchone()
    conn.execute("CREATE ROLE versions_owner SUPERUSER")
    try:
        before = conn.execute(look, relid).fetchone()[0]
        assert before[0] is not None
        for statement in _CHANGES + _CHANGES_OF_ITS_OWN:
            with conn.transaction(force_rollback=True):
                conn.execute(statement)
                assert conn.execute(look, relid).fetchone()[0] != before, statement
        assert conn.execute(look, relid).fetchone()[0] == before
    finally:
        conn.execute("DROP ROLE versions_owner")


def test_all_that_is_a_fact_has_versions(conn, wide):
    facts = conn.execute(
        "SELECT facts FROM pgtrickle.fingerprint("
        "ARRAY (SELECT id FROM pgtrickle.stream_tables WHERE relid = 'wide'::regclass))"
    ).fetchone()[0]
    relation = next(iter(facts["relations"].values()))
    # Whoever adds one adds it to pgtrickle.versions and above to what changes it, too.
    assert " ".join(sorted(facts)) == (
        "canary casts cluster collation_version collations frontier_xmax functions meaning operators own relations"
        " text_search types views xmax"
    )
    assert " ".join(sorted(relation)) == (
        "captured columns family files generation keys kind members name named persistence recorded_name relkind"
        " row_security"
    )
    assert " ".join(sorted(next(iter(relation["columns"].values())))) == (
        "below collation dropped generated name not_null type typmod xmin"
    )
    assert set(facts["views"]["public.w"]) == {"text", "oid", "columns"}
    assert [len(function) for function in facts["functions"].values()] == [13, 13]
    assert {len(kind) for kind in facts["types"].values()} == {5}
    assert [len(operator) for operator in facts["operators"].values()] == [4]
    assert [len(collation) for collation in facts["collations"].values()] == [2]
    assert [len(found) for found in facts["text_search"].values()] == [2, 2, 2]
    assert set(facts["own"]) == {"name", "persistence", "guard", "columns"}


def test_a_stream_table_that_is_gone_or_partly_unknown_has_no_versions(conn, wide):
    known = "SELECT pgtrickle.versions(ARRAY (SELECT id FROM pgtrickle.stream_tables ORDER BY id) || 4711::bigint)"
    assert [one is None for one in conn.execute(known).fetchone()[0]] == [False, False, False, True]
    with conn.transaction(force_rollback=True):
        conn.execute("UPDATE pgtrickle.stream_tables SET fingerprint = fingerprint || '{\"moon\": 1}'")
        assert conn.execute(known).fetchone()[0] == [None] * 4
    with conn.transaction(force_rollback=True):
        conn.execute("DROP TABLE d CASCADE")
        assert conn.execute(known).fetchone()[0][0] is None


def test_families_and_generated_columns_are_always_looked_at(conn, engine, oracle):
    conn.execute(
        """
        CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE g (id int PRIMARY KEY, v int, w int GENERATED ALWAYS AS (v * 2) STORED);
        """
    )
    for name, query in (("sp", "SELECT id, v FROM p"), ("sp1", "SELECT id, v FROM p1"), ("sg", "SELECT id, w FROM g")):
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
    versions = conn.execute("SELECT pgtrickle.versions(ARRAY (SELECT id FROM pgtrickle.stream_tables))").fetchone()[0]
    assert versions == [None, None, None]


def test_the_name_belongs_to_whoever_has_it_now(conn, s, oracle):
    conn.execute("ALTER TABLE s RENAME TO old")
    s.create_stream_table("s", "SELECT id, v * 2 AS v FROM t", refresh_mode="DIFFERENTIAL")
    conn.execute("UPDATE t SET v = 500 WHERE id = 2")
    assert s.refresh_stream_table("public.s").rows_changed == 1
    oracle(conn, "s", "SELECT id, v * 2 AS v FROM t")
    s.drop_stream_table("s")
    s.create_stream_table("s", "SELECT id, v * 3 AS v FROM t", refresh_mode="DIFFERENTIAL")
    _warm(conn, s)
    oracle(conn, "s", "SELECT id, v * 3 AS v FROM t")


def test_other_sessions_may_refresh_alter_and_drop_meanwhile(conn, db, s, oracle):
    with PgTrickle.connect(db) as other:
        for step in range(4):
            conn.execute("UPDATE t SET v = v + 10 WHERE id = %s", (step + 1,))
            (other if step % 2 else s).refresh_stream_table("public.s")
            oracle(conn, "s", QUERY)
        other.create_stream_table("below", "SELECT count(*) AS n FROM s WHERE v > 10", refresh_mode="DIFFERENTIAL")
        conn.execute("UPDATE t SET v = v + 10")
        s.refresh_stream_table("public.s")
        other.refresh_stream_table("public.below")
        oracle(conn, "below", "SELECT count(*) AS n FROM s WHERE v > 10")
        changed = QUERY.replace("t.v,", "t.v + 1 AS v,")
        other.create_or_replace_stream_table("s", changed, refresh_mode="DIFFERENTIAL")
        conn.execute("UPDATE t SET v = v + 10 WHERE id = 3")
        s.refresh_stream_table("public.s")
        oracle(conn, "s", changed)
        other.suspend("s")
        conn.execute("UPDATE t SET v = v + 10 WHERE id = 3")
        with pytest.raises(Exception, match="suspended"):
            s.refresh_stream_table("public.s")


def test_a_group_is_remembered_as_a_whole(conn, s, oracle):
    query = "SELECT name, count(*) AS n, sum(v) AS v FROM s GROUP BY name"
    s.create_stream_table("below", query, refresh_mode="DIFFERENTIAL")
    spent = []
    for step in range(3):
        conn.execute("UPDATE t SET v = v + 1 WHERE id = %s", (step + 1,))
        spent.append(s.refresh_stream_table("public.below").statements)
        oracle(conn, "below", query)
    assert spent[-1] == 4, "one more stage, and a group is not foreseen"
    conn.execute("ALTER TABLE t ALTER COLUMN v TYPE bigint")
    conn.execute("UPDATE t SET v = v + 1 WHERE id = 3")
    s.refresh_stream_table("public.below")
    oracle(conn, "below", query)


def test_a_failure_is_forgotten_with_everything_else(conn, s, oracle):
    s.create_stream_table("ratio", "SELECT id, 100 / v AS r FROM t", refresh_mode="DIFFERENTIAL")
    _warm(conn, s, "public.ratio")
    conn.execute("UPDATE t SET v = 0 WHERE id = 5")
    with pytest.raises(Exception, match="division by zero"):
        s.refresh_stream_table("public.ratio")
    status = (
        "SELECT consecutive_errors, last_error IS NULL, status FROM pgtrickle.stream_tables"
        " WHERE relid = 'ratio'::regclass"
    )
    assert conn.execute(status).fetchone()[0] == 1
    conn.execute("UPDATE t SET v = 5 WHERE id = 5")
    s.refresh_stream_table("public.ratio")
    assert conn.execute(status).fetchone() == (0, True, "ACTIVE")
    oracle(conn, "ratio", "SELECT id, 100 / v AS r FROM t")
    _warm(conn, s, "public.ratio")


def test_facts_that_differ_without_meaning_anything_are_compared_once(conn, s, db):
    # As after a crash, which is nothing to tables that are logged.
    conn.execute("UPDATE pgtrickle.canary SET token = 'of another time'")
    with PgTrickle.connect(db) as other:
        _warm(conn, other)
