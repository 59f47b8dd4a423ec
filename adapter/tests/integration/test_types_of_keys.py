"""Types that can only be hashed or only be sorted: what PostgreSQL cannot do with them is known at creation."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import UnsupportedQuery


def test_what_the_server_cannot_plan_is_refused_at_creation_and_runs_full_when_asked_to(
    engine: PgTrickle, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("CREATE TABLE t (x xid, v integer)")
    conn.execute("INSERT INTO t VALUES ('1', 1), ('1', 2), ('2', 3)")
    # The order that makes array_agg repeatable wants sorted groups, and xid has no order.
    query = "SELECT x, array_agg(v) AS a FROM t GROUP BY x"
    with pytest.raises(UnsupportedQuery, match="could not implement GROUP BY"):
        engine.create_stream_table("st", query, refresh_mode="DIFFERENTIAL")
    engine.create_stream_table("st", query)
    conn.execute("INSERT INTO t VALUES ('3', 4)")
    conn.execute("DELETE FROM t WHERE v = 1")
    assert engine.refresh_stream_table("st").action == "FULL"
    rows = conn.execute("SELECT x::text, a FROM st ORDER BY a").fetchall()
    assert rows == [("1", [2]), ("2", [3]), ("3", [4])]
