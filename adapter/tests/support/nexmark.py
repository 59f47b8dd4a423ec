"""The Nexmark benchmark as a test: an auction house whose events are made by numbers, the same in every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from tests.support.benchmarks import query_in, statements

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "nexmark"
TABLES = ("person", "auction", "bid", "side_input")


def queries() -> dict[str, str]:
    """The 23 queries by name, ``q00`` to ``q22``."""
    return {path.stem: query_in(path) for path in sorted(FIXTURES.glob("q*.sql"))}


def create(conn: psycopg.Connection[Any]) -> None:
    """The empty auction house."""
    conn.execute((FIXTURES / "schema.sql").read_bytes())


def happen(conn: psycopg.Connection[Any], events: int) -> None:
    """The next events, in transactions of their own: a person, three auctions and 46 bids of each fifty."""
    conn.execute("UPDATE span SET first = last + 1, last = last + %s", (events,))
    for statement in statements(FIXTURES / "events.sql"):
        conn.execute(statement)


def correct(conn: psycopg.Connection[Any]) -> None:
    """Updates and deletes of what has happened; which rows depends on how much has happened."""
    for statement in statements(FIXTURES / "corrections.sql"):
        conn.execute(statement)
