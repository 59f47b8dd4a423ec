"""Consumed changes go away where no runner runs."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle import api
from pgtrickle.api import PgTrickle

pytestmark = pytest.mark.edges_only


def kept(conn: psycopg.Connection[Any]) -> int:
    (buffer,) = conn.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'b\\_%'").fetchone() or ("",)
    rows = conn.execute(f"SELECT count(*) FROM pgtrickle_changes.{buffer}").fetchone()
    return rows[0] if rows else -1


@pytest.fixture
def table(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    conn.execute("CREATE TABLE t (k integer PRIMARY KEY, v integer)")
    engine.create_stream_table("total", "SELECT sum(v) AS v FROM t")


@pytest.mark.usefixtures("table")
def test_refresh_all_trims_what_everybody_has_consumed(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    conn.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 50) g")
    assert kept(conn) == 50
    engine.refresh_all()
    assert kept(conn) == 0


@pytest.mark.usefixtures("table")
def test_single_refreshes_trim_after_many_changes(
    conn: psycopg.Connection[Any], engine: PgTrickle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "TRIM_AFTER", 60)
    for start in (1, 101):
        conn.execute("INSERT INTO t SELECT g, g FROM generate_series(%s::int, %s::int) g", (start, start + 39))
        engine.refresh_stream_table("total")
    assert kept(conn) == 0
    conn.execute("INSERT INTO t VALUES (900, 1)")
    engine.refresh_stream_table("total")
    assert kept(conn) == 1
