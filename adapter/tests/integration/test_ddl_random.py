"""Random DDL between writes and refreshes: the content is right, or the old one, and what is missing is named."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support.ddl_histories import History


def play(conn: psycopg.Connection[Any], dsn: str, engine: PgTrickle, seed: int, steps: int) -> None:
    conn.prepare_threshold = None
    # Another session: it remembers what it has compiled, and prepared, before the other one has followed a change.
    with PgTrickle.connect(dsn) as other:
        History(conn, (engine, other), seed).play(steps)


@pytest.mark.newest_only
def test_random_ddl_is_followed_recomputed_or_named(conn: psycopg.Connection[Any], db: str, engine: PgTrickle) -> None:
    play(conn, db, engine, 1, 5)


@pytest.mark.slow
@pytest.mark.edges_only
@pytest.mark.parametrize("seed", range(100, 125))
def test_long_random_ddl(conn: psycopg.Connection[Any], db: str, engine: PgTrickle, seed: int) -> None:
    play(conn, db, engine, seed, 30)
