"""Generated columns, stored and virtual: what they are computed from, and what happens if the expression changes."""

from __future__ import annotations

import random

import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import RefreshError, UnsupportedQuery

virtual = pytest.mark.min_major(18)

SCHEMA = """
CREATE TABLE t (
    id integer PRIMARY KEY, a integer, b integer, s varchar(10), "50 %s" text,
    v integer GENERATED ALWAYS AS (coalesce(a, 0) * 2) VIRTUAL,
    n numeric(6, 1) GENERATED ALWAYS AS (a * 1.26) VIRTUAL,
    x text COLLATE pg_unicode_fast GENERATED ALWAYS AS (s || 'ß') VIRTUAL,
    y varchar GENERATED ALWAYS AS (s) VIRTUAL,
    q integer GENERATED ALWAYS AS (12 / b) VIRTUAL,
    gone boolean NOT NULL GENERATED ALWAYS AS (a IS NULL) VIRTUAL,
    "Odd ""%" text GENERATED ALWAYS AS ("50 %s" || '%s {} ''q''') VIRTUAL,
    d date GENERATED ALWAYS AS (date '2024-01-31' + a) VIRTUAL,
    r int4range GENERATED ALWAYS AS (int4range(0, abs(a))) VIRTUAL,
    f float8 GENERATED ALWAYS AS (a / 3.0::float8) VIRTUAL
);
CREATE TABLE u (id integer, k integer, v integer GENERATED ALWAYS AS (k) VIRTUAL);
CREATE TABLE w (k integer, v integer GENERATED ALWAYS AS (coalesce(k, -1)) VIRTUAL NOT NULL);
CREATE VIEW seen AS SELECT id, v, x FROM t WHERE NOT gone;
INSERT INTO t (id, a, b, s) SELECT g, nullif(g % 5, 0), g % 4, chr(96 + g % 7) FROM generate_series(1, 20) AS g;
INSERT INTO u SELECT g, g % 6 FROM generate_series(1, 10) AS g;
INSERT INTO w SELECT nullif(g % 4, 0) FROM generate_series(1, 6) AS g;
"""

#: Every clause that can read a virtual column.
QUERIES = [
    'SELECT id, v, n, x, y, gone, "Odd ""%", d, r, f FROM t',
    "SELECT count(*) AS n FROM t WHERE v > 2 AND NOT gone",
    "SELECT upper(x) AS big, count(*) AS n FROM t GROUP BY upper(x)",
    "SELECT v, count(*) AS n, sum(n), max(x) FROM t GROUP BY v HAVING sum(v) > 0",
    "SELECT id, v, count(*) AS c FROM t GROUP BY id",
    "SELECT v, x, grouping(v), count(*) AS c FROM t GROUP BY GROUPING SETS ((v), (x), (v, x), ())",
    "SELECT v, array_agg(x ORDER BY id) AS xs FROM t GROUP BY v",
    "SELECT r, count(DISTINCT v) AS c FROM t GROUP BY r",
    "SELECT DISTINCT v, gone FROM t",
    "SELECT DISTINCT ON (v) v, id FROM t ORDER BY v, id",
    "SELECT id, v FROM t ORDER BY v DESC, id LIMIT 5",
    "SELECT x, row_number() OVER (PARTITION BY v ORDER BY n, id) AS no FROM t",
    "SELECT v FROM t UNION SELECT v FROM u",
    "SELECT v FROM t EXCEPT SELECT v FROM u",
    "SELECT t.id, t.v, u.id AS uid FROM t JOIN u ON t.v = u.v",
    "SELECT v, t.id, u.id AS uid FROM u JOIN t USING (v)",
    "SELECT u.id, t.v, t.gone, t.n FROM u LEFT JOIN t ON t.v = u.v",
    "SELECT u.id, t.v, coalesce(t.gone, true) AS g FROM t RIGHT JOIN u ON t.id = u.k AND t.v > 2",
    "SELECT v, t.id, u.id AS uid, t.gone FROM u FULL JOIN t USING (v)",
    "SELECT v, w.k AS wk, u.k AS uk FROM w FULL JOIN u USING (v)",
    "SELECT u.id, j.v, j.wv FROM u LEFT JOIN (t AS t1 (id, k) JOIN w AS w1 (k, wv) USING (k)) AS j ON j.v = u.v",
    "SELECT u.id, o.v, o.wv FROM u LEFT JOIN (SELECT t.id, t.v, w.v AS wv FROM t LEFT JOIN w ON w.k = t.a) AS o"
    " ON o.id = u.k",
    "SELECT u.id, t.v, w.v AS wv FROM u LEFT JOIN (t LEFT JOIN w ON w.v = t.v) ON t.id = u.k",
    "SELECT * FROM u WHERE v IN (SELECT v FROM t WHERE x > 'b')",
    "SELECT id FROM u WHERE NOT EXISTS (SELECT 1 FROM t WHERE t.v = u.v AND t.gone)",
    "SELECT id FROM u WHERE v NOT IN (SELECT v FROM w WHERE v > 1)",
    "SELECT id, EXISTS (SELECT 1 FROM t WHERE t.v = u.k AND NOT t.gone) OR u.v > 4 AS e FROM u",
    "SELECT id, (SELECT sum(t.v) FROM t WHERE t.v = u.v + 2) AS s FROM u",
    "SELECT id FROM u WHERE v = (SELECT max(v) FROM w)",
    "SELECT id, (SELECT max(z.v) FROM (SELECT t.v FROM t WHERE t.id = u.id UNION ALL SELECT u.k) AS z) AS m FROM u",
    "SELECT u.id, t.v FROM u LEFT JOIN t ON t.id = u.id AND t.v > ALL (SELECT w.v FROM w WHERE w.k = t.a)",
    "SELECT u.id, l.v FROM u LEFT JOIN LATERAL (SELECT v FROM t WHERE t.v > u.v ORDER BY v, t.id LIMIT 2) AS l ON true",
    "SELECT u.id, l.m FROM u CROSS JOIN LATERAL (SELECT max(t.n) AS m FROM t WHERE t.v = u.v) AS l",
    "SELECT t.id, e FROM t CROSS JOIN LATERAL generate_series(1, t.v) AS e",
    "WITH RECURSIVE r AS (SELECT id, v FROM t WHERE v = 2 UNION SELECT u.id, u.v FROM r JOIN u ON u.k = r.v) TABLE r",
    "SELECT * FROM seen",
    "SELECT u AS whole, count(w) AS c FROM u JOIN w ON w.v = u.v GROUP BY u",
    "SELECT w.k, u AS whole FROM w LEFT JOIN u ON u.v = w.v",
]

CHANGES = [
    "UPDATE t SET a = a + 1 WHERE id % 3 = {0}",
    "UPDATE t SET a = NULL WHERE id = {1}",
    "UPDATE t SET s = upper(s), \"50 %s\" = 'x' WHERE id % 4 = {0}",
    "UPDATE t SET b = b WHERE id < 9",
    "DELETE FROM t WHERE id = {1}",
    "INSERT INTO t (id, a, b, s) VALUES (100 + {1}, {0}, {0}, 'new') ON CONFLICT (id) DO UPDATE SET a = excluded.a",
    "UPDATE u SET k = k + 1 WHERE id % 2 = {0} % 2",
    "UPDATE u SET k = NULL WHERE id = {1}",
    "INSERT INTO u VALUES ({1}, {0}), (NULL, NULL)",
    "DELETE FROM u WHERE id = {1}",
    "INSERT INTO w VALUES ({0}), (NULL)",
    "DELETE FROM w WHERE k = {0}",
    "UPDATE w SET k = {0} WHERE k IS NULL",
]


def _proven(engine, conn, oracle, names, why):
    for name, query in names.items():
        result = engine.refresh_stream_table(name)
        oracle(conn, name, query)
        assert engine.verify(name).proven, (query, why)
        yield query, result


@virtual
def test_virtual_columns_follow_what_they_are_computed_from(conn, engine, oracle):
    conn.execute(SCHEMA.encode())
    names = {f"s{number}": query for number, query in enumerate(QUERIES)}
    for name, query in names.items():
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
    draw = random.Random(18)
    for window in range(3):
        changes = [change.format(draw.randint(0, 3), draw.randint(1, 20)) for change in draw.sample(CHANGES, 6)]
        if window == 1:
            changes += ["DELETE FROM w", "TRUNCATE u"]
        for change in changes:
            conn.execute(change.encode())
        for query, result in _proven(engine, conn, oracle, names, changes):
            marked = window == 1 and result.fallback_reason is not None and "internal" not in result.fallback_reason
            assert result.action in ("DIFFERENTIAL", "NO_DATA") or marked, (query, result)


@virtual
def test_another_expression_of_a_virtual_column_reaches_every_engine(conn, db, engine, oracle):
    conn.execute(SCHEMA.encode())
    names = {f"s{number}": query for number, query in enumerate(QUERIES[::5])}
    with PgTrickle.connect(db) as other:
        for name, query in names.items():
            engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
            other.refresh_stream_table(name)
        conn.execute("UPDATE t SET a = a + 1 WHERE id < 5")
        conn.execute("ALTER TABLE t ALTER v SET EXPRESSION AS (coalesce(a, 1) + b)")
        conn.execute("ALTER TABLE u ALTER v SET EXPRESSION AS (k + 1)")
        conn.execute("UPDATE t SET a = a + 1 WHERE id < 3; UPDATE u SET k = 1 WHERE id = 2")
        results = dict(_proven(engine, conn, oracle, names, "SET EXPRESSION"))
        assert {result.action for query, result in results.items() if "v" in query} == {"FULL"}
        conn.execute("UPDATE t SET a = a + 1, b = 5 WHERE id < 9; UPDATE u SET k = 2 WHERE id = 3; DELETE FROM w")
        for query, result in _proven(other, conn, oracle, names, "the other engine"):
            assert result.action in ("DIFFERENTIAL", "NO_DATA"), (query, result)


@virtual
def test_what_a_virtual_column_reads_is_captured_where_only_a_subquery_reads_the_column(conn, engine, oracle):
    conn.execute(SCHEMA.encode())
    (query,) = (query for query in QUERIES if "UNION ALL" in query)
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute("UPDATE t SET a = a + 1")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", query)


@virtual
def test_an_expression_that_is_not_read_may_change(conn, engine, oracle):
    conn.execute(SCHEMA.encode())
    query = "SELECT id, a, v FROM t"
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute("ALTER TABLE t ALTER n SET EXPRESSION AS (a * 3); UPDATE t SET a = 7 WHERE id = 1")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", query)


@virtual
@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n numeric GENERATED ALWAYS AS (a / 7.0) VIRTUAL",
        "ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n numeric GENERATED ALWAYS AS (a / 7.0) STORED",
        "ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD COLUMN n numeric DEFAULT 7.00",
        "ALTER TABLE t ALTER n TYPE numeric(9, 3)",
        "ALTER TABLE t RENAME a TO base",
    ],
)
def test_a_redefined_virtual_column_is_compiled_again(conn, engine, oracle, change):
    conn.execute(SCHEMA.encode())
    query = "SELECT n, count(*) AS c FROM t GROUP BY n"
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute("DROP VIEW seen; DELETE FROM t WHERE id = 1")
    conn.execute(change.encode())
    engine.refresh_stream_table("s")
    oracle(conn, "s", query)
    conn.execute("INSERT INTO t (id, b) VALUES (99, 1); DELETE FROM t WHERE id IN (2, 3)")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", query)


@virtual
def test_a_full_consumer_notices_base_columns_and_expressions(conn, engine, oracle):
    conn.execute(SCHEMA.encode())
    query = "SELECT id, v FROM t"
    engine.create_stream_table("s", query, refresh_mode="FULL")
    for change in ("UPDATE t SET a = 9 WHERE id = 1", "ALTER TABLE t ALTER v SET EXPRESSION AS (a + b)"):
        conn.execute(change.encode())
        assert engine.refresh_stream_table("s").action == "FULL"
        oracle(conn, "s", query)
    assert engine.refresh_stream_table("s").action == "NO_DATA"


@virtual
@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, q FROM t WHERE b <> 0",
        "SELECT id, CASE WHEN b <> 0 THEN q END AS q FROM t",
        "SELECT id, b FROM t",
        "SELECT q, count(*) AS n FROM t WHERE b <> 0 GROUP BY q",
        "SELECT t.id, t.q FROM t JOIN u ON u.id = t.id WHERE t.b <> 0",
        "SELECT u.id, t.q FROM u LEFT JOIN t ON t.id = u.id AND t.b <> 0",
        "SELECT u.id, t.x FROM u LEFT JOIN t ON t.b <> 0 AND t.q = u.v",
        "SELECT u.id, t.id AS tid, CASE WHEN t.b <> 0 THEN t.q END AS q FROM u FULL JOIN t ON t.id = u.id",
    ],
)
def test_an_expression_that_may_fail_is_evaluated_only_where_the_query_reads_it(conn, engine, oracle, query):
    conn.execute(SCHEMA.encode())
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    for change in (
        "UPDATE t SET b = 0 WHERE id = 5; UPDATE t SET b = 3 WHERE id = 4; INSERT INTO t (id, b) VALUES (50, 0)",
        "UPDATE u SET k = 3; UPDATE t SET a = a + 1; DELETE FROM t WHERE id = 5",
    ):
        conn.execute(change.encode())
        assert engine.refresh_stream_table("s").action in ("DIFFERENTIAL", "NO_DATA")
        oracle(conn, "s", query)


@virtual
@pytest.mark.parametrize("kind", ["varchar(3)", "char(3)", "bit(3)", "bit varying(3)"])
def test_a_value_that_is_too_long_for_its_column_is_an_error_and_not_cut_off(conn, engine, oracle, kind):
    base, long = ("text", "abcd") if "char" in kind else ("bit varying", "1011")
    conn.execute(f"CREATE TABLE t (id integer, x {base}, v {kind} GENERATED ALWAYS AS (x) VIRTUAL)".encode())
    conn.execute(f"INSERT INTO t VALUES (1, '{long[:3]}'), (2, NULL)".encode())
    engine.create_stream_table("s", "SELECT id, v FROM t", refresh_mode="DIFFERENTIAL")
    before = conn.execute("SELECT id, v FROM s ORDER BY id").fetchall()
    conn.execute(f"INSERT INTO t VALUES (3, '{long}')".encode())
    with pytest.raises(RefreshError, match=r"too long|does not match"):
        engine.refresh_stream_table("s")
    assert conn.execute("SELECT id, v FROM s ORDER BY id").fetchall() == before
    conn.execute("DELETE FROM t WHERE id = 3; UPDATE t SET x = NULL WHERE id = 1")
    engine.refresh_stream_table("s")
    oracle(conn, "s", "SELECT id, v FROM t")


@virtual
@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("oid GENERATED ALWAYS AS (tableoid) VIRTUAL", "system column"),
        ("varchar(2)[] GENERATED ALWAYS AS (ARRAY[x]) VIRTUAL", "in another way"),
        ("text GENERATED ALWAYS AS (x || 'pgt_hole_1_x') VIRTUAL", "reserved text"),
    ],
)
def test_an_expression_that_cannot_stand_for_its_column_is_refused_only_where_it_is_read(
    conn, engine, oracle, column, why
):
    conn.execute(f"CREATE TABLE t (id integer PRIMARY KEY, x varchar, v {column})".encode())
    conn.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    for query in ("SELECT id, v FROM t", "SELECT id, t AS whole FROM t"):
        with pytest.raises(UnsupportedQuery, match=why):
            engine.create_stream_table("refused", query, refresh_mode="DIFFERENTIAL")
        created = engine.create_stream_table("in_full", query)
        assert created.effective_mode == "FULL"
        assert why in (created.mode_reason or "")
        conn.execute("UPDATE t SET x = 'c' WHERE id = 1")
        engine.refresh_stream_table("in_full")
        oracle(conn, "in_full", query)
        engine.drop_stream_table("in_full")
    engine.create_stream_table("s", "SELECT a, b FROM t AS r (a, b, c)", refresh_mode="DIFFERENTIAL")
    conn.execute("UPDATE t SET x = 'd' WHERE id = 1")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", "SELECT id AS a, x AS b FROM t")


@virtual
def test_explain_tells_what_a_virtual_column_is_read_as(conn, engine):
    conn.execute(SCHEMA.encode())
    engine.create_stream_table("s", "SELECT u.id, t.v FROM u JOIN t ON t.v = u.v", refresh_mode="DIFFERENTIAL")
    found = engine.explain("s")
    told = [rewrite.text for rewrite in found.rewrites if rewrite.step == "virtual column"]
    assert told == [
        "the virtual column t.v is read as (COALESCE(a, 0) * 2)",
        "the virtual column u.v is read as k",
    ]
    assert {source.name: source.columns for source in found.sources} == {
        "public.t": ("a", "v"),
        "public.u": ("id", "k", "v"),
    }


FAMILIES = """
CREATE TABLE p (id integer, a integer, g integer GENERATED ALWAYS AS (a + 1) {kind}) PARTITION BY LIST (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1, 3, 5);
CREATE TABLE p2 (g integer GENERATED ALWAYS AS (a + 100) {kind}, id integer, a integer);
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2, 4);
CREATE TABLE parent (id integer, a integer, g integer GENERATED ALWAYS AS (a + 1) {kind});
CREATE TABLE child (g integer GENERATED ALWAYS AS (a + 7) {kind}) INHERITS (parent);
INSERT INTO p SELECT n, n FROM generate_series(1, 5) AS n;
INSERT INTO parent SELECT n, n FROM generate_series(1, 5) AS n;
INSERT INTO child SELECT n, n FROM generate_series(11, 15) AS n;
"""
OF_FAMILIES = {
    "whole": "SELECT id, g FROM p",
    "grouped": "SELECT g, count(*) AS n FROM p GROUP BY g",
    "partition": "SELECT id, g FROM p2",
    "family": "SELECT id, g FROM parent",
}


@pytest.fixture(params=["STORED", pytest.param("VIRTUAL", marks=pytest.mark.min_major(18))])
def kind(request, pg_major):
    if request.param == "VIRTUAL" and pg_major < 18:
        pytest.skip("PostgreSQL before 18 has no virtual generated columns")
    return request.param


@pytest.mark.min_major(17)
def test_each_partition_and_child_may_have_an_expression_of_its_own(conn, engine, oracle, kind):
    conn.execute(FAMILIES.format(kind=kind).encode())
    for name, query in OF_FAMILIES.items():
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
    changes = "UPDATE p SET a = a + 1 WHERE id < 3; UPDATE parent SET a = a + 2; INSERT INTO child VALUES (20, 20)"
    conn.execute(changes.encode())
    for query, result in _proven(engine, conn, oracle, OF_FAMILIES, changes):
        assert result.action == "DIFFERENTIAL", (query, result)
    for table in ("p1", "p2", "child", "parent", "p"):
        change = f"ALTER TABLE {table} ALTER g SET EXPRESSION AS (a + {len(table)} + 50)"
        conn.execute(change.encode())
        conn.execute("UPDATE p SET a = a + 1 WHERE id IN (1, 2)")
        assert dict(_proven(engine, conn, oracle, OF_FAMILIES, change))
    conn.execute("UPDATE p SET a = a + 1; UPDATE parent SET a = a + 1")
    for query, result in _proven(engine, conn, oracle, OF_FAMILIES, "afterwards"):
        assert result.action == "DIFFERENTIAL", (query, result)


@pytest.mark.min_major(17)
def test_a_partition_that_is_only_rewritten_costs_nothing(conn, engine, oracle):
    conn.execute(FAMILIES.format(kind="STORED").encode())
    engine.create_stream_table("s", "SELECT id, g FROM p", refresh_mode="DIFFERENTIAL")
    conn.execute("VACUUM FULL p1")
    conn.execute("UPDATE p SET a = 0 WHERE id = 1")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", "SELECT id, g FROM p")
