"""Large numbers come, hide the small ones, and go: sums keep their error bound, and verify keeps its word."""

from __future__ import annotations

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support.guard import past_guard

#: The versions in between run it with --run-slow.
pytestmark = pytest.mark.edges_only

QUERY = "SELECT g, sum(x) AS s, avg(x) AS a, variance(x) AS v, count(*) AS n FROM points GROUP BY g"
GROUPS = 4
#: What the sums are when every digit counts, and how much may be lost of each (design: 1e-9 of the sum of sizes).
EXACT = """
SELECT g, sum(d) AS s, avg(d) AS a, variance(d) AS v, count(*) AS n, sum(abs(d)) AS size, sum(d * d) AS squares
FROM (SELECT g, x::text::numeric AS d FROM points) AS p GROUP BY g
"""


@pytest.fixture
def points(conn: psycopg.Connection) -> None:
    conn.execute("CREATE TABLE points (id int PRIMARY KEY, g int NOT NULL, x float8)")
    conn.execute("INSERT INTO points SELECT -i, i % 4, i * 0.1 FROM generate_series(1, 40) AS i")


def assert_bounded(conn: psycopg.Connection) -> None:
    """Every aggregate is within 1e-9 of its exact value, relative to the sizes of what was added up."""
    wrong = conn.execute(f"""
        SELECT g, st.s, e.s, st.a, e.a, st.v, e.v, st.n, e.n FROM st FULL JOIN ({EXACT}) AS e USING (g)
        WHERE st.n IS DISTINCT FROM e.n
           OR NOT coalesce(abs(st.s::text::numeric - e.s) <= 1e-9 * greatest(1, e.size), false)
           OR NOT coalesce(abs(st.a::text::numeric - e.a) <= 1e-9 * greatest(1, e.size / e.n), false)
           OR (e.n > 1 AND NOT coalesce(abs(st.v::text::numeric - e.v) <= 1e-9 * greatest(1, e.squares / e.n), false))
    """).fetchall()
    assert not wrong


def churn(conn: psycopg.Connection, engine: PgTrickle, rounds: int, rows: int) -> None:
    """Insert and delete this many rows per round, up to 10^18 times as large as what stays; 1/10 is updated too."""
    before = conn.execute("SELECT array_agg(st ORDER BY g)::text FROM st").fetchone()
    for number in range(rounds):
        conn.execute(
            "INSERT INTO points SELECT i, i %% %s, (hashint4(i + %s) / 2147483648.0) * 10::float8 ^ (i %% 18)"
            " FROM generate_series(1, %s) AS i",
            (GROUPS, number, rows),
        )
        assert engine.refresh_stream_table("st").action == "DIFFERENTIAL"
        assert_bounded(conn)
        conn.execute("UPDATE points SET x = -x WHERE id > 0 AND id % 10 = 3")
        engine.refresh_stream_table("st")
        assert_bounded(conn)
        conn.execute("DELETE FROM points WHERE id > 0")
        assert engine.refresh_stream_table("st").action == "DIFFERENTIAL"
        assert_bounded(conn)
    assert conn.execute("SELECT array_agg(st ORDER BY g)::text FROM st").fetchone() == before
    assert engine.verify("st").proven


def test_sums_keep_their_error_bound_while_large_numbers_come_and_go(
    conn: psycopg.Connection, engine: PgTrickle, points: None
) -> None:
    engine.create_stream_table("st", QUERY, refresh_mode="DIFFERENTIAL")
    churn(conn, engine, rounds=3, rows=2_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sums_keep_their_error_bound_over_a_million_changes(
    conn: psycopg.Connection, engine: PgTrickle, points: None
) -> None:
    engine.create_stream_table("st", QUERY, refresh_mode="DIFFERENTIAL")
    churn(conn, engine, rounds=10, rows=50_000)


CANCELLING = {
    "grouped": "SELECT g, sum(x) AS s, count(*) AS n FROM points GROUP BY g",
    "of everything": "SELECT avg(x) AS a, count(*) AS n FROM points",
    "feeds a filter": "SELECT g, count(*) AS n FROM points GROUP BY g HAVING sum(x) > 3",
    "feeds a sum": "SELECT n, sum(s) AS s FROM (SELECT count(*) AS n, sum(x) AS s FROM points GROUP BY g) q GROUP BY n",
    "a subquery": "SELECT id, (SELECT sum(x) FROM points q WHERE q.g = p.g) AS n FROM points p WHERE id < 0",
}


@pytest.mark.parametrize("what", CANCELLING)
def test_sums_that_postgresql_loses_are_neither_proven_nor_called_wrong(
    what: str, conn: psycopg.Connection, engine: PgTrickle, points: None
) -> None:
    engine.create_stream_table("st", CANCELLING[what], refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO points VALUES (1, 0, 1e20), (2, 0, -1e20)")
    engine.refresh_stream_table("st")
    found = engine.verify("st")
    assert found.proven is None
    assert "floating-point" in (found.reason or "")
    conn.execute("DELETE FROM points WHERE id > 0")
    assert engine.verify("st").proven


@pytest.mark.parametrize("what", CANCELLING)
def test_a_wrong_row_does_not_hide_behind_sums_that_cancel(
    what: str, conn: psycopg.Connection, engine: PgTrickle, points: None
) -> None:
    conn.execute("INSERT INTO points VALUES (1, 0, 1e20), (2, 0, -1e20)")
    engine.create_stream_table("st", CANCELLING[what], refresh_mode="DIFFERENTIAL")
    column = "s" if "AS s" in CANCELLING[what] else "n"
    past_guard(conn, f"UPDATE st SET {column} = {column} + 1")
    found = engine.verify("st")
    assert found.proven is False, found
    assert engine.verify("st", repair=True).repaired
    assert engine.verify("st").proven is None
