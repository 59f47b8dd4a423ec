"""Text of which equal values look different: a collation that does not see upper and lower case."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import UnsupportedQuery
from tests.support.oracle import EXACT, FOLDED, assert_same_rows

pytestmark = pytest.mark.edges_only
COLLATION = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
SCHEMA = (
    "CREATE TABLE a (id integer PRIMARY KEY, name text COLLATE loose, v integer)",
    "CREATE TABLE b (name text COLLATE loose, w integer)",
    "CREATE TABLE strict (name text, w integer)",
    "CREATE TABLE told_apart (name text COLLATE loose NOT NULL, w integer)",
    'CREATE UNIQUE INDEX ON told_apart (name COLLATE "C")',
    "INSERT INTO a VALUES (1, 'x', 1), (2, 'X', 2), (3, 'y', 3), (4, NULL, 4)",
    "INSERT INTO b VALUES ('X', 1), ('x', 2), ('Z', 3), (NULL, 4)",
)
QUERIES = {
    "SELECT name, count(*) AS n, sum(v) AS s FROM a GROUP BY name": (FOLDED, EXACT, EXACT),
    "SELECT DISTINCT name FROM a": (FOLDED,),
    "SELECT count(DISTINCT name) AS n, min(name) AS low FROM a": (EXACT, FOLDED),
    "SELECT a.id, b.w FROM a JOIN b ON a.name = b.name": (EXACT, EXACT),
    "SELECT a.id, b.w FROM a FULL JOIN b ON a.name = b.name": (EXACT, EXACT),
    "SELECT name FROM a UNION SELECT name FROM b": (FOLDED,),
    "SELECT name FROM a EXCEPT SELECT name FROM b": (FOLDED,),
    "SELECT id FROM a WHERE name IN (SELECT name FROM b)": (EXACT,),
    "SELECT id FROM a WHERE name NOT IN (SELECT name FROM b WHERE name IS NOT NULL)": (EXACT,),
    "SELECT id, (SELECT count(*) FROM b WHERE b.name = a.name) AS n FROM a": (EXACT, EXACT),
    "SELECT id, row_number() OVER (PARTITION BY name ORDER BY id) AS n FROM a": (EXACT, EXACT),
    "SELECT DISTINCT ON (name) name, v FROM a ORDER BY name, v DESC": (FOLDED, EXACT),
    "SELECT id, name FROM a WHERE name = 'X'": (EXACT, EXACT),
    'SELECT name COLLATE "C" AS name, count(*) AS n FROM a GROUP BY name COLLATE "C"': (EXACT, EXACT),
    'SELECT a.id, s.w FROM a LEFT JOIN strict AS s ON a.name COLLATE "C" = s.name COLLATE "C"': (EXACT, EXACT),
    'SELECT s.w, a.v FROM strict AS s LEFT JOIN a ON a.name COLLATE "C" = s.name': (EXACT, EXACT),
    "SELECT id, name LIKE 'x%' COLLATE \"C\" AS x, name COLLATE \"C\" < 'a' AS y FROM a": (EXACT, EXACT, EXACT),
    "SELECT a.id, s.name FROM a JOIN strict AS s ON s.w = a.id WHERE a.name IN ('x', 'y') OR s.name = 'Y'": (
        EXACT,
        EXACT,
    ),
    "SELECT name, 'n' AS note FROM a UNION SELECT name, note FROM (SELECT name, 'n' AS note FROM b) AS q": (
        FOLDED,
        EXACT,
    ),
    "SELECT a.id, k.w FROM a JOIN told_apart AS k ON a.name = k.name": (EXACT, EXACT),
}
#: Here 'x' may equal 'X' on one side and not on the other. PostgreSQL itself takes the wrong rows for duplicates.
MIXED = (
    "SELECT a.id, s.w FROM a LEFT JOIN strict AS s ON a.name = s.name",
    "SELECT a.id, s.w FROM a JOIN strict AS s USING (name)",
    "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM strict AS s WHERE s.name = a.name)",
    "SELECT id FROM a WHERE name IN (SELECT s.name FROM strict AS s)",
    "SELECT w FROM strict WHERE name COLLATE loose IN (SELECT s.name FROM strict AS s)",
    "SELECT name, w FROM b UNION ALL SELECT name, w FROM strict",
    "SELECT name FROM strict INTERSECT SELECT name FROM b",
    "SELECT id FROM a, strict AS s WHERE a.name IS DISTINCT FROM s.name",
    'SELECT s.w, a.v FROM strict AS s LEFT JOIN a ON a.name = s.name COLLATE "C"',
    'SELECT w FROM strict AS s WHERE s.name COLLATE "C" NOT IN (SELECT a.name FROM a)',
    'SELECT name FROM a UNION SELECT s.name COLLATE "C" FROM strict AS s',
)
BOTH_CASES = tuple(f"INSERT INTO {table} VALUES ('Y', 1), ('y', 2)" for table in ("strict", "told_apart"))
WINDOWS = (
    ("INSERT INTO a VALUES (5, 'Y', 5)", "INSERT INTO b VALUES ('y', 5)"),
    ("UPDATE a SET name = upper(name)", "DELETE FROM b WHERE w = 1"),
    ("UPDATE a SET name = lower(name) WHERE id < 3", "UPDATE b SET name = 'Y' WHERE w = 2"),
    ("DELETE FROM a WHERE id IN (1, 3)", "INSERT INTO b VALUES ('x', 6), ('z', 7)"),
    ("DELETE FROM b",),
    BOTH_CASES,
    tuple(f"DELETE FROM {table} WHERE w = 1" for table in ("strict", "told_apart")),
    ("DELETE FROM strict", "DELETE FROM told_apart"),
)


@pytest.fixture
def tables(conn: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    try:
        conn.execute(COLLATION)
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server was built without ICU, so it has no such collations")
    for statement in SCHEMA:
        conn.execute(statement)
    return conn


def test_what_is_equal_in_another_case_is_one_value(engine: PgTrickle, tables: psycopg.Connection[Any]) -> None:
    names = {f"st_{number}": query for number, query in enumerate(QUERIES)}
    for name, query in names.items():
        engine.create_stream_table(name, query, refresh_mode="AUTO")
    for window in WINDOWS:
        for statement in window:
            tables.execute(statement)
        for name, query in names.items():
            # Recomputing, which is how a fault of the engine is got over, would hide it here.
            assert engine.refresh_stream_table(name).action != "RECOMPUTE", query
            assert_same_rows(tables, name, query, classes=dict(enumerate(QUERIES[query])))
            assert engine.verify(name).proven is not False, query


def test_comparing_two_collations_of_which_one_is_loose_is_refused(
    engine: PgTrickle, tables: psycopg.Connection[Any]
) -> None:
    for query in MIXED:
        with pytest.raises(UnsupportedQuery, match="one of the two is non-deterministic"):
            engine.create_stream_table("st", query, refresh_mode="DIFFERENTIAL")
    assert engine.create_stream_table("st", MIXED[0], refresh_mode="AUTO").effective_mode == "FULL"
