"""Counting what a connection sends."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import TupleRow
from psycopg.sql import Composable


def sent_by(conn: psycopg.Connection[Any]) -> list[str]:
    """The list to which every further statement of this connection is added, as text.

    One entry is one message to the server and one round trip.
    """
    sent: list[str] = []

    class Counting(psycopg.Cursor[TupleRow]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Counting:
            sent.append(_text(query))
            super().execute(query, params, **options)
            return self

    conn.cursor_factory = Counting
    return sent


def _text(query: Any) -> str:
    return query.as_string(None) if isinstance(query, Composable) else str(query)
