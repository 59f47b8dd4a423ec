"""Aggregates of floating-point numbers are kept from exact totals: no error survives the row that brought it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support.guard import past_guard

#: The versions in between run it with --run-slow.
pytestmark = pytest.mark.edges_only

TOTALS = "SELECT g, sum(x) AS s, avg(x) AS a, stddev(x) AS d, sum(x::real) AS r, count(*) AS n FROM points GROUP BY g"


@pytest.fixture
def points(conn: psycopg.Connection[Any]) -> None:
    conn.execute("CREATE TABLE points (id integer PRIMARY KEY, g integer NOT NULL, x double precision)")


def row(conn: psycopg.Connection[Any], columns: str = "s, a, d, r, n") -> tuple[Any, ...]:
    found = conn.execute(f"SELECT {columns} FROM st WHERE g = 1").fetchone()
    assert found is not None
    return tuple(found)


def test_sums_are_exact_after_many_changes_that_cancel(
    conn: psycopg.Connection[Any], engine: PgTrickle, points: None
) -> None:
    conn.execute("INSERT INTO points VALUES (0, 1, 0.1), (-1, 1, 0.2)")
    engine.create_stream_table("st", TOTALS, refresh_mode="DIFFERENTIAL")
    for turn in range(6):
        conn.execute(
            "INSERT INTO points SELECT i, 1, (CASE WHEN i %% 2 = 0 THEN 1 ELSE -1 END) * 10::float8 ^ (%s + i %% 7) / 3"
            " FROM generate_series(1, 2000) AS i",
            (turn * 8 - 20,),
        )
        engine.refresh_stream_table("st")
        conn.execute("DELETE FROM points WHERE id > 0")
        assert engine.refresh_stream_table("st").action == "DIFFERENTIAL"
        sums = row(conn)
        assert sums[:2] == (0.3, 0.15)
        assert sums[2] == pytest.approx(0.0707106781186547, rel=1e-15)
        assert sums[3:] == (pytest.approx(0.3, rel=1e-7), 2)


def test_minus_zero_nan_and_infinities_come_and_go(
    conn: psycopg.Connection[Any], engine: PgTrickle, points: None
) -> None:
    conn.execute("INSERT INTO points VALUES (1, 1, '-0'), (2, 1, '-0')")
    engine.create_stream_table("st", TOTALS, refresh_mode="DIFFERENTIAL")
    assert row(conn, "s::text, a::text, r::text") == ("-0", "0", "-0")
    steps = [
        ("INSERT INTO points VALUES (3, 1, 0)", "0"),
        ("INSERT INTO points VALUES (4, 1, 'Infinity')", "Infinity"),
        ("INSERT INTO points VALUES (5, 1, '-Infinity')", "NaN"),
        ("DELETE FROM points WHERE id = 4", "-Infinity"),
        ("INSERT INTO points VALUES (6, 1, 'NaN')", "NaN"),
        ("DELETE FROM points WHERE id IN (5, 6)", "0"),
        ("DELETE FROM points WHERE id = 3", "-0"),
        ("UPDATE points SET x = NULL", None),
    ]
    for change, expected in steps:
        conn.execute(change)
        engine.refresh_stream_table("st")
        assert row(conn, "s::text") == (expected,), change
        assert conn.execute("SELECT sum(x)::text FROM points").fetchone() == (expected,)


def test_the_smallest_and_the_largest_numbers_add_up(
    conn: psycopg.Connection[Any], engine: PgTrickle, points: None
) -> None:
    conn.execute("INSERT INTO points VALUES (1, 1, 1e308), (2, 1, 5e-324)")
    query = "SELECT g, sum(x) AS s, avg(x) AS a FROM points GROUP BY g"
    engine.create_stream_table("st", query, refresh_mode="DIFFERENTIAL")
    conn.execute("DELETE FROM points WHERE id = 1")
    engine.refresh_stream_table("st")
    assert row(conn, "s, a") == (5e-324, 5e-324)
    # The texts of 5e-324 * 10, * 1 and * 11 do not cancel to the last digit.
    conn.execute("DELETE FROM points; INSERT INTO points VALUES (3, 1, 5e-323), (4, 1, 5e-324), (5, 1, -5.4e-323)")
    engine.refresh_stream_table("st")
    assert row(conn, "s, a") == (0.0, 0.0)


def test_where_floats_are_not_shown_with_all_digits_their_groups_are_computed_again(
    db: str, conn: psycopg.Connection[Any], engine: PgTrickle, points: None
) -> None:
    conn.execute("INSERT INTO points VALUES (1, 1, 0.1), (2, 1, 123456789.123456789)")
    with PgTrickle.connect(db, options="-c extra_float_digits=-15") as rounding:
        rounding.create_stream_table("st", TOTALS, refresh_mode="DIFFERENTIAL")
        conn.execute("DELETE FROM points WHERE id = 1")
        rounding.refresh_stream_table("st")
    assert row(conn, "s, n") == (123456789.123456789, 1)


def test_verify_allows_for_rounding_and_for_no_more(
    conn: psycopg.Connection[Any], engine: PgTrickle, points: None
) -> None:
    conn.execute(
        "INSERT INTO points SELECT i, i % 3, CASE WHEN i % 2 = 0 THEN i ELSE 1 - i END * 0.1"
        " FROM generate_series(1, 999) AS i"
    )
    queries = {
        "st": TOTALS,
        "shown": "SELECT sum(x) AS s, sum(x) > 1 AS b, 's' || sum(x) AS t, round(sum(x)::numeric, 2) AS n FROM points",
        "keyless": "SELECT avg(x) AS a FROM points GROUP BY g",
        "nothing": "SELECT sum(x) AS s, stddev(x) AS d FROM points WHERE g > 5",
    }
    for name, query in queries.items():
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
    conn.execute("UPDATE points SET x = x + 0.1 WHERE id % 5 = 0; INSERT INTO points VALUES (2000, 2, 'NaN')")
    for name in queries:
        assert engine.verify(name).proven, name
    for name, column in (("st", "s"), ("keyless", "a")):
        engine.refresh_stream_table(name)
        past_guard(
            conn, f"UPDATE {name} SET {column} = {column} + 1e-6 WHERE {column} = (SELECT min({column}) FROM {name})"
        )
        proof = engine.verify(name)
        assert (proof.proven, proof.missing, proof.extra) == (False, 1, 1), name
