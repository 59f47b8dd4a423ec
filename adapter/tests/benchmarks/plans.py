"""The plans of the statements that a method sends, by auto_explain on its own session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.methods import Bench
from tests.benchmarks.model import AUTO, DIFFERENTIAL, HAND

_ON = (
    "LOAD 'auto_explain'",
    "SET auto_explain.log_analyze = on",
    "SET auto_explain.log_buffers = on",
    "SET auto_explain.log_timing = on",
    "SET auto_explain.log_level = 'notice'",
    "SET client_min_messages = 'notice'",
    "SET auto_explain.log_min_duration = 0",
)


def connection_of(bench: Bench, method: str) -> psycopg.Connection[Any] | None:
    """The session whose statements are worth a look; None for those that only run the query."""
    return {DIFFERENTIAL: bench.engine.own_conn, AUTO: None, HAND: bench.conn}.get(method)


@contextmanager
def collected(conn: psycopg.Connection[Any], path: Path) -> Iterator[None]:
    """Write the plans of everything that this connection executes meanwhile into a file, longest first."""
    found: list[str] = []

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        found.append(notice.message_primary or "")

    for statement in _ON:
        conn.execute(statement)
    conn.add_notice_handler(keep)
    try:
        yield
    finally:
        conn.remove_notice_handler(keep)
        conn.execute("SET auto_explain.log_min_duration = -1")
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted((text for text in found if text.startswith("duration")), key=_duration, reverse=True)
    path.write_text("\n\n".join(ordered) + "\n")


def _duration(text: str) -> float:
    return float(text.split()[1])
