"""``pgtrickle.messages``: implicit acts, each told once."""

from __future__ import annotations

from pgtrickle import db
from pgtrickle.catalog import access


def record(conn: db.Connection, stream_table_id: int, code: str, text: str) -> bool:
    """Remember a message; True if it is new and so has to be told."""
    return access.run(conn, "record_message", id=stream_table_id, code=code, text=text) == 1
