"""A source's numeric column gets another scale: what is stored is shown as the query shows it, unchanged rows too."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support import oracle

pytestmark = pytest.mark.edges_only

QUERY = "SELECT k, sum(v) AS s, max(v) AS m FROM t GROUP BY k"


def test_rows_that_are_equal_but_look_different_are_written_again(
    engine: PgTrickle, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("CREATE TABLE t (id integer PRIMARY KEY, k integer, v numeric)")
    conn.execute("INSERT INTO t SELECT i, i % 3, i FROM generate_series(1, 9) i")
    engine.create_stream_table("s", QUERY, refresh_mode="AUTO")
    conn.execute("ALTER TABLE t ALTER v TYPE numeric(12, 2)")
    engine.refresh_stream_table("s")
    oracle.assert_same_rows(conn, "s", QUERY)
    conn.execute("UPDATE t SET v = v + 1 WHERE id = 4")
    engine.refresh_stream_table("s")
    oracle.assert_same_rows(conn, "s", QUERY)
