"""The ways of bringing a stored result up to date, each with its own copy of it and its own connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pgtrickle.api import PgTrickle
from tests.benchmarks import databases
from tests.benchmarks.model import AUTO, CONCURRENTLY, DIFFERENTIAL, FULL, HAND, REFRESH, Scenario

SMALL = 1_000
"""Up to this many changed rows the hand-written delta is a prepared statement."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a method is to catch up with: changes from this transaction on, about so many rows."""

    since: str
    rows: int


Run = Callable[[Window], "str | None"]


@dataclass(frozen=True, slots=True)
class Method:
    """One method, prepared for one scenario.

    Attributes:
        name: of the method.
        run: brings the result up to date; what it wants noted, or None.
        result: selects what it maintains.
        backend: process id of the session that works.
    """

    name: str
    run: Run
    result: str
    backend: int


class Bench:
    """The connections of one database: ours, and one for everybody else's statements."""

    def __init__(self, dsn: str) -> None:
        self.engine = PgTrickle.connect(dsn)
        self.engine.install()
        self._copied: dict[str, str] = {}
        self.conn: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)

    def close(self) -> None:
        """Close both."""
        self.engine.close()
        self.conn.close()

    def prepare(self, scenario: Scenario, wanted: tuple[str, ...]) -> list[Method]:
        """Make what the wanted methods maintain; those that the scenario has no part for are left out."""
        makers = {
            DIFFERENTIAL: self._stream_table,
            AUTO: self._stream_table,
            FULL: self._stream_table,
            HAND: self._hand,
            REFRESH: self._materialized,
            CONCURRENTLY: self._materialized,
        }
        # The hand-written delta reads change buffers, which exist once a stream table does.
        made = {name: makers[name](scenario, name) for name in sorted(wanted, key=lambda name: name == HAND)}
        return [method for name in wanted if (method := made[name]) is not None]

    def _stream_table(self, scenario: Scenario, name: str) -> Method | None:
        table = f"{scenario.name}_{name}"
        mode = AUTO if name == AUTO else DIFFERENTIAL
        created = self.engine.create_stream_table(f"public.{table}", scenario.query, refresh_mode=mode.upper())
        full = name == FULL

        def run(_: Window) -> str:
            result = self.engine.refresh_stream_table(f"public.{table}", full=full)
            reason = f": {result.fallback_reason}" if result.fallback_reason and not full else ""
            return f"{result.action}{reason}"

        del created
        return Method(name, run, f"SELECT * FROM {table}", self.engine.own_conn.info.backend_pid)

    def _materialized(self, scenario: Scenario, name: str) -> Method | None:
        if name == CONCURRENTLY and not scenario.unique:
            return None
        view = f"{scenario.name}_{name}"
        self.conn.execute(f"CREATE MATERIALIZED VIEW {view} AS {scenario.query}".encode())
        if scenario.unique:
            self.conn.execute(f"CREATE UNIQUE INDEX ON {view} ({', '.join(scenario.unique)})".encode())
        how = "CONCURRENTLY " if name == CONCURRENTLY else ""

        def run(_: Window) -> None:
            self.conn.execute(f"REFRESH MATERIALIZED VIEW {how}{view}".encode())

        return Method(name, run, f"SELECT * FROM {view}", self.conn.info.backend_pid)

    def copy_window(self, since: str) -> None:
        """Give the hand-written delta the window that our refreshes are going to read, and may trim: not measured."""
        for table, rows in self._copied.items():
            self.conn.execute(f"TRUNCATE hand_{table}".encode())
            text = f"INSERT INTO hand_{table} {rows} WHERE __x >= %s::xid8"
            self.conn.execute(text.encode(), (since,))

    def _hand(self, scenario: Scenario, name: str) -> Method | None:
        """The delta, statistics of large windows, and the consumption of the window, in one transaction."""
        hand = scenario.hand
        if hand is None:
            return None
        for statement in hand.setup:
            self.conn.execute(statement.format(query=scenario.query).encode())
        buffers = databases.windows(self.conn)
        self._copied = {table: buffers[table] for table in scenario.changed}
        for table, rows in self._copied.items():
            self.conn.execute(f"CREATE TABLE hand_{table} AS {rows} WITH NO DATA".encode())
        names = {table: f"hand_{table} AS d_{table}" for table in self._copied}
        delta = [statement.format(**names).encode() for statement in hand.delta]
        consume = [f"DELETE FROM hand_{table}".encode() for table in self._copied]
        look = [f"ANALYZE hand_{table}".encode() for table in self._copied]

        def run(window: Window) -> None:
            small = window.rows <= SMALL
            with self.conn.transaction():
                for text in [] if small else [b"SET LOCAL default_statistics_target = 10", *look]:
                    self.conn.execute(text)
                for text in [*delta, *consume]:
                    self.conn.execute(text, prepare=small)

        return Method(name, run, hand.result, self.conn.info.backend_pid)


def cpu_ms(backend: int) -> float | None:
    """Processor time so far of this process and of a process of the server; None where this machine does not tell."""
    try:
        if not Path(f"/proc/{backend}/comm").read_text().startswith("postgres"):
            return None
        spent = int(Path(f"/proc/{backend}/schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return 1000 * time.process_time() + spent / 1_000_000


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time in milliseconds, and the result."""
    started = time.perf_counter()
    result = run()
    return 1000 * (time.perf_counter() - started), result
