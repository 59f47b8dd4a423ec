"""Writing to a stream table as only somebody can who pretends to be a refresh: damage for `verify` to find."""

from __future__ import annotations

from typing import Any

import psycopg


def past_guard(conn: psycopg.Connection[Any], statement: str) -> int:
    """Execute a statement past the guard trigger, which nobody may disable without being noticed; rows it wrote."""
    with conn.transaction():
        conn.execute("SELECT set_config('pgtrickle.refreshing', pg_backend_pid()::text, true)")
        return conn.execute(statement.encode()).rowcount
