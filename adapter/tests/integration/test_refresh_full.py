"""A refresh that recomputes writes what differs, also what a differential refresh would never have left behind."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support.guard import past_guard

pytestmark = pytest.mark.edges_only

QUERIES = {
    "rows": "SELECT k, v, w FROM t WHERE v IS DISTINCT FROM 3",
    "groups": "SELECT g, count(*) AS n, sum(v) AS v, sum(w) AS w, min(v) AS low FROM t GROUP BY g",
    "one": "SELECT count(*) AS n, sum(w) AS w, max(v) AS high FROM t",
    "outer_join": "SELECT a.k, b.k AS other, b.w FROM t a LEFT JOIN t b ON b.g = a.v",
    "bag": "SELECT g, w FROM t",
    "windows": "SELECT k, g, row_number() OVER (PARTITION BY g ORDER BY w, k) AS place FROM t",
    "first_ones": "SELECT k, w FROM t ORDER BY w DESC NULLS LAST, k LIMIT 5",
    "having_groups": "SELECT q.* FROM (SELECT g, count(*) FROM t GROUP BY g HAVING count(*) > 1) q JOIN t u ON k = q.g",
    "json": "SELECT k, to_json(v) AS j FROM t",
    "text_key": "SELECT name, count(*) AS n, sum(w) AS w FROM t GROUP BY name",
}
EVERY = pytest.mark.parametrize("name", sorted(QUERIES))


def shown(conn: psycopg.Connection[Any], query: str) -> list[Any]:
    return conn.execute(f"SELECT q::text FROM ({query}) q ORDER BY 1").fetchall()


@pytest.fixture
def table(conn: psycopg.Connection[Any]) -> None:
    conn.execute("CREATE TABLE t (k integer PRIMARY KEY, g integer, v integer, w numeric, name text)")
    conn.execute(
        "INSERT INTO t SELECT n, nullif(n % 7, 0), nullif(n % 5, 4), (n % 11) * 1.0, nullif('n' || n % 3, 'n2')"
        " FROM generate_series(1, 60) n"
    )


def change(conn: psycopg.Connection[Any], number: int) -> None:
    """Another value, another scale of the same value, NaN for NULL and back, other keys, NULL for a value and back."""
    conn.execute("UPDATE t SET v = v + 1 WHERE k %% 4 = %s", (number,))
    conn.execute("UPDATE t SET w = w * 1.00 WHERE k %% 9 = %s", (number,))
    conn.execute("UPDATE t SET w = CASE WHEN w IS NULL THEN 'NaN'::numeric END WHERE k % 8 = 1")
    conn.execute("UPDATE t SET g = CASE WHEN g IS NULL THEN 3 ELSE nullif(g, 5) END WHERE k %% 6 = %s", (number,))
    conn.execute("DELETE FROM t WHERE k %% 13 = %s", (number,))
    conn.execute("INSERT INTO t VALUES (%s, 9, 3, 'NaN', 'new')", (100 + number,))


@EVERY
@pytest.mark.usefixtures("table")
def test_recomputing_and_adding_up_take_turns(conn: psycopg.Connection[Any], engine: PgTrickle, name: str) -> None:
    engine.create_stream_table("s", QUERIES[name])
    for number in range(6):
        change(conn, number)
        result = engine.refresh_stream_table("s", full=number % 2 == 0)
        assert result.action == ("FULL" if number % 2 == 0 else "DIFFERENTIAL"), result.fallback_reason
        assert shown(conn, "SELECT * FROM s") == shown(conn, QUERIES[name])
        assert engine.verify("s").proven


@EVERY
@pytest.mark.usefixtures("table")
def test_an_owner_without_temporary_tables_gets_the_same(
    conn: psycopg.Connection[Any], engine: PgTrickle, name: str
) -> None:
    (database,) = conn.execute("SELECT current_database()").fetchone() or ("",)
    conn.execute(SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(Identifier(database)))
    engine.create_stream_table("s", QUERIES[name])
    conn.execute("CREATE ROLE without_temporary")
    try:
        conn.execute("GRANT SELECT ON t TO without_temporary")
        conn.execute("GRANT USAGE ON SCHEMA public, pgtrickle_state TO without_temporary")
        conn.execute("GRANT ALL ON ALL TABLES IN SCHEMA pgtrickle_state TO without_temporary")
        conn.execute("ALTER TABLE s OWNER TO without_temporary")
        change(conn, 1)
        assert engine.refresh_stream_table("s", full=True).action == "FULL"
        assert shown(conn, "SELECT * FROM s") == shown(conn, QUERIES[name])
    finally:
        engine.drop_stream_table("s", if_exists=True)
        conn.execute("DROP OWNED BY without_temporary; DROP ROLE without_temporary")


@pytest.mark.usefixtures("table")
def test_what_has_not_changed_is_not_written(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    for name, query in QUERIES.items():
        engine.create_stream_table(name, query)
    before = {name: conn.execute(f"SELECT ctid, xmin FROM {name}").fetchall() for name in QUERIES}
    state = (
        "SELECT relname, relfilenode, pg_relation_size(oid) FROM pg_class"
        " WHERE relnamespace = 'pgtrickle_state'::regnamespace AND relkind = 'r' ORDER BY 1"
    )
    sizes = conn.execute(state).fetchall()
    for name in QUERIES:
        result = engine.refresh_stream_table(name, full=True)
        assert (result.action, result.rows_inserted, result.rows_updated, result.rows_deleted) == ("FULL", 0, 0, 0)
        assert conn.execute(f"SELECT ctid, xmin FROM {name}").fetchall() == before[name]
    assert conn.execute(state).fetchall() == sizes
    assert conn.execute("SELECT count(*) FROM pg_class WHERE relpersistence = 't'").fetchone() == (0,)


@pytest.mark.usefixtures("table")
def test_a_row_that_is_there_twice_is_noticed(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    for name in ("rows", "text_key"):
        engine.create_stream_table(name, QUERIES[name])
        past_guard(conn, f"INSERT INTO {name} SELECT * FROM {name} LIMIT 1")
        with pytest.raises(PgTrickleError, match="rows of the delta"):
            engine.refresh_stream_table(name, full=True)
        assert engine.verify(name, repair=True).repaired
        assert shown(conn, f"SELECT * FROM {name}") == shown(conn, QUERIES[name])


@pytest.mark.usefixtures("table")
def test_a_wrong_state_is_right_again(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    engine.create_stream_table("text_key", QUERIES["text_key"])
    (state,) = conn.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE '%\\_state'").fetchone() or ("",)
    table = SQL("pgtrickle_state.{}").format(Identifier(state))
    damages = (
        "INSERT INTO {0} SELECT * FROM {0} LIMIT 1",
        "DELETE FROM {0} WHERE ctid = (SELECT min(ctid) FROM {0})",
        "UPDATE {0} SET __count = __count + 1",
        "INSERT INTO {0} SELECT * FROM {0} LIMIT 1; DELETE FROM {0} WHERE ctid = (SELECT min(ctid) FROM {0})",
    )
    for number, damage in enumerate(damages):
        conn.execute(SQL(damage).format(table))
        engine.refresh_stream_table("text_key", full=True)
        change(conn, number)
        assert engine.refresh_stream_table("text_key").action == "DIFFERENTIAL"
        assert shown(conn, "SELECT * FROM text_key") == shown(conn, QUERIES["text_key"])


@pytest.mark.usefixtures("table")
def test_dependents_get_the_differences(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    engine.create_stream_table("rows", QUERIES["rows"])
    above = "SELECT v, count(*) AS n, sum(w) AS w FROM rows GROUP BY v"
    engine.create_stream_table("above", above)
    for number in range(3):
        change(conn, number)
        engine.refresh_stream_table("rows", full=True)
        assert engine.refresh_stream_table("above").action == "DIFFERENTIAL"
        assert shown(conn, "SELECT * FROM above") == shown(
            conn, "SELECT v, count(*) AS n, sum(w) AS w FROM rows GROUP BY v"
        )
