"""Equalities between types of which different values are equal to one value of the other type."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support.guard import past_guard
from tests.support.oracle import assert_same_rows

pytestmark = pytest.mark.edges_only

#: A zone, a moment one hour before an hour is skipped there, and one before an hour is doubled.
ZONES = (
    ("America/New_York", "2024-03-10 06:00Z", "2024-11-03 04:30Z"),
    ("Europe/Berlin", "2024-03-31 00:00Z", "2024-10-26 23:30Z"),
)
TABLES = tuple(f"CREATE TABLE {name} (k integer PRIMARY KEY, z timestamptz, l timestamp, g integer)" for name in "ab")
KEYED = ("CREATE TABLE lk (x timestamp PRIMARY KEY, g integer)", "CREATE TABLE zk (x timestamptz PRIMARY KEY)")
#: {x|y}: the query has x. PostgreSQL's plans for it lose or repeat rows, or fail, so the rows expected are those of y.
QUERIES = (
    "SELECT a.k, b.k AS o FROM a JOIN b ON a.z = {b.l|b.l::timestamptz}",
    "SELECT a.k, b.k AS o FROM a LEFT JOIN b ON a.z = {b.l|b.l::timestamptz}",
    "SELECT a.k, b.k AS o FROM b LEFT JOIN a ON a.z = {b.l|b.l::timestamptz}",
    "SELECT a.k, b.k AS o FROM a FULL JOIN b ON a.z = {b.l|b.l::timestamptz}",
    "SELECT a.k FROM a JOIN lk ON a.z = {lk.x|lk.x::timestamptz}",
    "SELECT a.k, lk.g FROM a LEFT JOIN lk ON a.z = {lk.x|lk.x::timestamptz}",
    "SELECT lk.g, x FROM {lk|(SELECT x::timestamptz, g FROM lk) AS lk} JOIN zk USING (x)",
    "SELECT x, count(g) AS n FROM {lk|(SELECT x::timestamptz, g FROM lk) AS lk} NATURAL FULL JOIN zk GROUP BY x",
    "SELECT k FROM a WHERE z IN (SELECT {l|l::timestamptz} FROM b)",
    "SELECT k FROM b WHERE {l|l::timestamptz} NOT IN (SELECT z FROM a WHERE z IS NOT NULL)",
    "SELECT k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE {b.l|b.l::timestamptz} = a.z)",
    "SELECT k, z = ANY (SELECT {l|l::timestamptz} FROM b WHERE b.g = a.g) AS y FROM a",
    "SELECT a.k, (SELECT count(*) FROM b WHERE {b.l|b.l::timestamptz} = a.z) AS n FROM a",
    "SELECT z FROM a EXCEPT SELECT {l|l::timestamptz} FROM b",
    "SELECT count(*) AS n FROM a JOIN b ON a.z = {b.l|b.l::timestamptz}",
)
CHANGES = (
    ("DELETE FROM b WHERE k % 9 = 6", "UPDATE a SET z = z + interval '15 min' WHERE k % 7 = 2"),
    ("DELETE FROM lk WHERE extract(minute FROM x) = 30", "DELETE FROM zk WHERE extract(minute FROM x) = 15"),
    ("UPDATE b SET l = l + interval '1 hour' WHERE k % 5 = 2", "INSERT INTO a SELECT k + 100, z, l, g FROM b"),
    ("INSERT INTO lk SELECT DISTINCT l, 5 FROM b ON CONFLICT DO NOTHING", "DELETE FROM a WHERE k % 4 = 1"),
    ("UPDATE a SET z = NULL WHERE k % 11 = 3", "DELETE FROM b WHERE extract(hour FROM l) = 3"),
)


def _read(query: str, which: int) -> str:
    parts = query.replace("}", "{").split("{")
    return "".join(part.split("|")[which] if place % 2 else part for place, part in enumerate(parts))


@pytest.mark.parametrize(("zone", "spring", "autumn"), ZONES, ids=lambda value: value)
def test_local_times_meet_moments_in_hours_that_are_skipped_and_doubled(
    zone: str, spring: str, autumn: str, db: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute(f"SET timezone = '{zone}'".encode())
    for statement in (*TABLES, *KEYED):
        conn.execute(statement.encode())
    for first, moment in ((0, spring), (50, autumn)):
        row = f"g + {first}, timestamptz '{moment}' + step, timestamptz '{moment}' AT TIME ZONE '{zone}' + step, g % 3"
        quarters = "generate_series(0, 15) AS g, LATERAL (SELECT g * interval '15 min' AS step) AS q"
        conn.execute(f"INSERT INTO a SELECT {row} FROM {quarters}".encode())
    conn.execute("INSERT INTO b SELECT * FROM a; INSERT INTO lk SELECT DISTINCT l, 1 FROM a")
    conn.execute("INSERT INTO zk SELECT DISTINCT z FROM a")
    names = {f"st_{number}": query for number, query in enumerate(QUERIES)}
    with PgTrickle.connect(db, options=f"-c TimeZone={zone}") as engine:
        engine.install()
        for table, query in names.items():
            engine.create_stream_table(table, _read(query, 0), refresh_mode="DIFFERENTIAL")
        for window in ((), *CHANGES):
            for statement in window:
                conn.execute(statement.encode())
            for table, query in names.items():
                assert engine.refresh_stream_table(table).action != "RECOMPUTE", query
                assert_same_rows(conn, table, _read(query, 1))
                assert engine.verify(table).proven is not False, query


def test_a_wrong_row_does_not_hide_behind_a_skipped_hour(engine: PgTrickle, conn: psycopg.Connection[Any]) -> None:
    for statement in TABLES:
        conn.execute(statement.encode())
    conn.execute("INSERT INTO a VALUES (1, '2024-01-01', NULL, 1); INSERT INTO b VALUES (1, NULL, '2024-01-01', 1)")
    engine.create_stream_table("st", "SELECT a.k FROM a JOIN b ON a.z = b.l", refresh_mode="DIFFERENTIAL")
    assert engine.verify("st").proven
    past_guard(conn, "INSERT INTO st VALUES (2)")
    assert engine.verify("st").proven is False


def test_another_session_finds_the_same_operators_when_it_compiles_again(
    engine: PgTrickle, conn: psycopg.Connection[Any], db: str
) -> None:
    """What was proven is compiled without being checked: `=` of citext is in a schema of the user's all the same."""
    conn.execute("CREATE EXTENSION citext; CREATE TABLE l (id int PRIMARY KEY, v citext); CREATE TABLE r (v citext)")
    query = "SELECT v, id FROM l FULL JOIN r USING (v)"
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO l VALUES (1, 'a'), (2, 'bc'); INSERT INTO r VALUES ('A'), ('Bc'), ('zz')")
    with PgTrickle.connect(db) as another:
        assert another.refresh_stream_table("s").action == "DIFFERENTIAL"
        assert another.verify("s").proven
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (3,)
