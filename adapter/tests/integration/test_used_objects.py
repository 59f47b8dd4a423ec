"""Types, functions, operators, casts, collations, text search objects change: it is noticed, followed, said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support.oracle import assert_same_rows
from tests.support.used_objects import CASES, ERROR, NOTHING, QUICK, Used

pytestmark = pytest.mark.edges_only

Connection = psycopg.Connection[Any]
#: One is refreshed by the session that made it, the other one by a session that has to read it first.
TABLES = ("near", "far")


@pytest.fixture(scope="module")
def engines(module_db: str) -> Iterator[Mapping[str, PgTrickle]]:
    """Two sessions of the engine, by the stream tables that they refresh."""
    with PgTrickle.connect(module_db) as near, PgTrickle.connect(module_db) as far:
        near.install()
        yield dict(zip(TABLES, (near, far), strict=True))


@pytest.fixture
def conn(module_db: str) -> Iterator[Connection]:
    with psycopg.connect(module_db, autocommit=True) as connection:
        yield connection


def parameters() -> Iterator[Any]:
    for name, case in CASES.items():
        yield pytest.param(case, id=name, marks=() if name in QUICK else pytest.mark.slow)


def write(conn: Connection) -> None:
    number = (conn.execute("SELECT 1 + max(id) FROM app.t").fetchone() or (0,))[0]
    conn.execute(f"INSERT INTO app.t (id, g, x) VALUES ({number}, 1, 'Cats ran')")
    conn.execute(f"UPDATE app.t SET g = 1 - g WHERE id % 3 = {number % 3}")
    conn.execute("DELETE FROM app.t WHERE id = (SELECT min(id) FROM app.t WHERE id > 2)")


def create(conn: Connection, engines: Mapping[str, PgTrickle], case: Used) -> None:
    conn.execute(case.setup)
    if case.view:
        conn.execute(f"CREATE VIEW app.v AS {case.query}")
    for table in engines:
        engines["near"].create_stream_table(table, case.query, refresh_mode="DIFFERENTIAL")
    for _ in range(2):
        write(conn)
        for table, engine in engines.items():
            engine.refresh_stream_table(table)


def check(conn: Connection, engine: PgTrickle, table: str, case: Used) -> None:
    assert_same_rows(conn, table, case.now or case.query)
    if case.view:
        assert_same_rows(conn, table, "SELECT * FROM app.v")
    assert engine.verify(table).proven


@pytest.mark.parametrize("case", list(parameters()))
def test_what_a_query_uses_may_change(conn: Connection, engines: Mapping[str, PgTrickle], case: Used) -> None:
    try:
        create(conn, engines, case)
        for statement in case.statements:
            conn.execute(statement)
        if case.outcome == ERROR:
            for table, engine in engines.items():
                check_refused(conn, engine, table, case)
            conn.execute(case.remedy)
        for table, engine in engines.items():
            found = engine.refresh_stream_table(table)
            assert found.action == ("NO_DATA" if case.outcome == NOTHING else "FULL"), found
            if case.outcome != ERROR and table == "near":
                assert case.says in (found.fallback_reason or "")
            check(conn, engine, table, case)
        write(conn)
        for table, engine in engines.items():
            assert engine.refresh_stream_table(table).action == "DIFFERENTIAL"
            check(conn, engine, table, case)
    finally:
        for table in TABLES:
            engines["near"].drop_stream_table(table, if_exists=True)


def check_refused(conn: Connection, engine: PgTrickle, table: str, case: Used) -> None:
    stored = conn.execute(f"SELECT array_agg(s::text ORDER BY s::text) FROM {table} s").fetchone()
    with pytest.raises(PgTrickleError) as caught:
        engine.refresh_stream_table(table)
    assert case.says in str(caught.value)
    assert engine.status(table)[0].status == "ERROR"
    assert conn.execute(f"SELECT array_agg(s::text ORDER BY s::text) FROM {table} s").fetchone() == stored
