"""Applications that do one small thing after the other and notice how long each took; a process of their own.

    python -m tests.faults.agents CONNECTION < specification

The engine's own work must not slow them down, so they do not share its interpreter. They end when stdin does. What took
longer than `WORTH_TELLING_SECONDS` is told on stdout as JSON, one object per line.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import psycopg

WORTH_TELLING_SECONDS = 0.02
#: Between two statements of an agent; there are about twenty of them, and they shall not be the load.
REST_SECONDS = 0.004
#: What the engine promises is shorter by far. Who waits longer for a lock gives up, and that is told as a failure.
LOCK_TIMEOUT_MS = 1500
#: Rows from here on are the agents' own.
FIRST_ID = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Agent:
    """One application: a name, and what it does again and again (``{n}`` counts)."""

    name: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A statement that took long, or failed.

    Attributes:
        agent: whose.
        start: seconds of the system's monotonic clock.
        seconds: how long it took.
        error: SQLSTATE if it failed.
    """

    agent: str
    start: float
    seconds: float
    error: str | None = None


def writer(table: str, columns: str = "id, k, v") -> Agent:
    """Single rows: one comes, changes, goes."""
    return Agent(
        f"writer {table}",
        (
            f"INSERT INTO {table} ({columns}) VALUES ({FIRST_ID} + {{n}}, {{n}} % 10, 1)",
            f"UPDATE {table} SET v = v + 1 WHERE id = {FIRST_ID} + {{n}}",
            f"DELETE FROM {table} WHERE id = {FIRST_ID} + {{n}}",
        ),
    )


def reader(table: str) -> Agent:
    """Some row."""
    return Agent(f"reader {table}", (f"SELECT * FROM {table} LIMIT 1",))


def run(dsn: str, agents: Sequence[Agent]) -> None:
    """Until stdin ends."""
    ended, tell = threading.Event(), threading.Lock()
    threads = [threading.Thread(target=_work, args=(dsn, agent, ended, tell), daemon=True) for agent in agents]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join(10)


def _work(dsn: str, agent: Agent, ended: threading.Event, tell: threading.Lock) -> None:
    name = f"agent {agent.name}"[:63]
    # What is prepared fails once when the columns of a table change, and with the driver for good.
    with psycopg.connect(dsn, autocommit=True, application_name=name, prepare_threshold=None) as conn:
        conn.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        for statement in _endless(agent):
            if ended.wait(REST_SECONDS):
                return
            start, error = time.monotonic(), None
            try:
                conn.execute(statement.encode())
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
                # It is not there yet, or no more.
                continue
            except psycopg.Error as failed:
                error = failed.sqlstate or "?"
            seconds = time.monotonic() - start
            if error is not None or seconds > WORTH_TELLING_SECONDS:
                with tell:
                    print(json.dumps(asdict(Told(agent.name, start, seconds, error))), flush=True)


def _endless(agent: Agent) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        for statement in agent.statements:
            yield statement.format(n=number)


if __name__ == "__main__":
    run(sys.argv[1], [Agent(name, tuple(statements)) for name, statements in json.loads(sys.stdin.readline())])
