"""Several sessions create stream tables at the same time, as dbt does with threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import psycopg
import pytest

from pgtrickle.api import CreateResult, PgTrickle

SIBLINGS = 2
ROUNDS = 15


@pytest.mark.newest_only
def test_siblings_created_at_once_share_the_log_of_the_stream_table_they_read(
    db: str, conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Callable[..., None]
) -> None:
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int)")
    conn.execute("INSERT INTO t SELECT i, i % 3, i FROM generate_series(1, 30) AS i")
    for number in range(ROUNDS):
        parent = f"public.parent_{number}"
        engine.create_stream_table(parent, "SELECT id, k, v FROM t WHERE v > 3")
        barrier = Barrier(SIBLINGS)

        def create(child: int, parent: str = parent, barrier: Barrier = barrier) -> CreateResult:
            with PgTrickle.connect(db) as own:
                barrier.wait()
                return own.create_stream_table(f"{parent}_{child}", f"SELECT k, sum(v) AS v FROM {parent} GROUP BY k")

        with ThreadPoolExecutor(SIBLINGS) as pool:
            created = list(pool.map(create, range(SIBLINGS)))
        conn.execute("UPDATE t SET v = v + 1 WHERE id % 2 = 0")
        for child in created:
            engine.refresh_stream_table(child.name)
            oracle(conn, child.name, "SELECT k, sum(v) AS v FROM t WHERE v > 3 GROUP BY k")
