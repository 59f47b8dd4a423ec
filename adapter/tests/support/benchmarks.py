"""Benchmarks as tests: all their queries as stream tables over one history, each held against its definition."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from pgtrickle.api import PgTrickle
from tests.support import oracle

Window = Callable[[psycopg.Connection[Any]], object]
"""A window of changes: what happens between two refreshes."""


def statements(path: Path) -> list[bytes]:
    """The statements of a file in which no semicolon stands anywhere but at their ends."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("--")]
    return [part.strip().encode() for part in "\n".join(lines).split(";\n") if part.strip(" \n;")]


def query_in(path: Path) -> str:
    """The one query of a file."""
    (found,) = statements(path.with_suffix(".sql"))
    return found.decode().rstrip(";")


def follow(
    conn: psycopg.Connection[Any],
    engine: PgTrickle,
    queries: Mapping[str, str],
    windows: Mapping[str, Window],
    tables: tuple[str, ...],
) -> None:
    """Create all stream tables, run the windows, and hold every stream table against its query after each.

    Fails if one is not DIFFERENTIAL, differs from its query, or was reached by no change at all.

    Args:
        conn: the application.
        engine: installed in the same database.
        queries: name of the stream table -> its query.
        windows: name -> changes, in order.
        tables: to be analysed after each window, as autovacuum would do a minute later.
    """
    created = {
        name: engine.create_stream_table(name, text, refresh_mode="DIFFERENTIAL") for name, text in queries.items()
    }
    assert {name: result.effective_mode for name, result in created.items()} == dict.fromkeys(queries, "DIFFERENTIAL")
    wrong: list[str] = []
    changed = dict.fromkeys(queries, 0)
    for title, window in windows.items():
        window(conn)
        conn.execute(f"ANALYZE {', '.join(tables)}".encode())
        spent = {}
        for name, text in queries.items():
            started = time.perf_counter()
            result = engine.refresh_stream_table(name)
            spent[name] = round(1000 * (time.perf_counter() - started))
            changed[name] += result.rows_changed
            if result.action not in ("DIFFERENTIAL", "NO_DATA"):
                wrong.append(f"{title}, {name}: {result.action}, {result.fallback_reason}")
            proof = engine.verify(name)
            if not proof.proven:
                wrong.append(f"{title}, {name}: {proof}")
            difference = oracle.compare(conn, name, text)
            if difference is not None:
                wrong.append(f"{title}, {difference}")
        print(f"{title}: refreshed in ms {spent}")
    assert not wrong, "\n".join(wrong)
    assert all(changed.values()), f"no window reached {[name for name, rows in changed.items() if not rows]}"
