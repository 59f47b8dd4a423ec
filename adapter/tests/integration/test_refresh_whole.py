"""PostgreSQL does not evaluate what no row needs. What a stage evaluates may fail then, and the query does not."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support.oracle import assert_same_rows

pytestmark = pytest.mark.edges_only

QUERY = "SELECT k, v FROM rows_of WHERE k > 100 AND v = (SELECT low FROM limits)"
TWO_ROWS = "more than one row returned by a subquery used as an expression"
WHOLE = f"computed as a whole: {TWO_ROWS}"


@pytest.fixture
def tables(conn: psycopg.Connection[Any]) -> None:
    conn.execute("CREATE TABLE rows_of (k integer PRIMARY KEY, v integer)")
    conn.execute("CREATE TABLE limits (low integer, name text)")
    conn.execute("INSERT INTO rows_of SELECT n, n % 3 FROM generate_series(1, 9) n")
    conn.execute("INSERT INTO limits VALUES (1, 'one'), (2, 'two')")


def waiting(conn: psycopg.Connection[Any], name: str) -> str | None:
    row = conn.execute("SELECT recompute_reason FROM pgtrickle.stream_tables WHERE table_name = %s", (name,)).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.usefixtures("tables")
def test_a_refresh_fails_only_if_the_query_does(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    created = engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    assert created.effective_mode == "DIFFERENTIAL"
    assert waiting(conn, "s") == WHOLE

    # Nothing changed, nothing is done, and it is not forgotten that the stages hold nothing.
    assert engine.refresh_stream_table("s").action == "NO_DATA"
    assert waiting(conn, "s") == WHOLE

    conn.execute("INSERT INTO rows_of VALUES (10, 1)")
    result = engine.refresh_stream_table("s")
    assert (result.action, result.fallback_reason) == ("FULL", WHOLE)

    # Now a row needs the value: the query fails, and the content stays.
    conn.execute("INSERT INTO rows_of VALUES (101, 1), (102, 2)")
    with pytest.raises(PgTrickleError, match=TWO_ROWS):
        engine.refresh_stream_table("s")
    assert conn.execute("SELECT * FROM s").fetchall() == []

    conn.execute("DELETE FROM limits WHERE low = 2")
    assert engine.refresh_stream_table("s").action == "FULL"
    assert waiting(conn, "s") is None
    assert_same_rows(conn, "s", QUERY)
    conn.execute("UPDATE limits SET low = 2")
    assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
    assert_same_rows(conn, "s", QUERY)
    assert engine.verify("s", state=True).proven


@pytest.mark.usefixtures("tables")
def test_those_who_read_it_follow_what_was_computed_as_a_whole(
    conn: psycopg.Connection[Any], engine: PgTrickle
) -> None:
    conn.execute("DELETE FROM limits WHERE low = 2")
    engine.create_stream_table("s", f"SELECT k, sum(v) AS v FROM rows_of GROUP BY k UNION ALL {QUERY}")
    engine.create_stream_table("above", "SELECT v, count(*) AS n FROM s GROUP BY v")
    conn.execute("INSERT INTO limits VALUES (2, 'two')")
    conn.execute("INSERT INTO rows_of VALUES (11, 7)")
    for changed in (
        "UPDATE rows_of SET v = v + 1 WHERE k = 8",
        "DELETE FROM rows_of WHERE k = 11",
        "DELETE FROM limits",
    ):
        results = {result.name: result for result in engine.refresh_all()}
        assert {name.split(".")[-1]: result.action for name, result in results.items()} == {
            "s": "FULL",
            "above": "DIFFERENTIAL",
        }
        assert_same_rows(conn, "above", "SELECT v::bigint AS v, count(*) AS n FROM rows_of GROUP BY v")
        conn.execute(changed)
    assert waiting(conn, "s") == WHOLE
    engine.refresh_all()
    assert waiting(conn, "s") is None


@pytest.mark.usefixtures("tables")
def test_a_new_definition_may_need_its_query_as_a_whole(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    engine.create_stream_table("s", "SELECT k, v FROM rows_of")
    engine.alter_stream_table("s", query=QUERY)
    assert waiting(conn, "s") == WHOLE
    assert_same_rows(conn, "s", QUERY)
