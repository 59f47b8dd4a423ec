"""How long applications wait while the engine does one thing after the other: measured by themselves and by the server.

What an application measures has in it what the machine does meanwhile; what the server says in ``pg_locks`` is the wait
for a lock, and whose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import psycopg

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.faults.agents import Agent, Told, reader
from tests.faults.stalling import OPERATIONS, QUERIES, TABLES, Bench, Operation, agents_of_world, world
from tests.support.catalogs import restore
from tests.support.runners import ADAPTER

#: For how long an old transaction is in the way.
HELD_SECONDS = 2.5
_SAMPLE_SECONDS = 0.003
#: Statements that began before an operation ended may end after it.
_AFTER_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for a lock that the server has shown: of which agent, seconds, for whose statement."""

    agent: str
    seconds: float
    blocker: str


@dataclass(slots=True)
class Measured:
    """What one operation did to the agents.

    Attributes:
        operation: which.
        seconds: how long it took itself.
        told: statements that took long, or failed.
        waits: the longest wait for a lock of each agent.
        error: why the operation failed, if it did.
    """

    operation: Operation
    seconds: float
    told: list[Told]
    waits: list[Wait]
    error: str | None = None

    def longest(self, kind: str) -> float:
        """The longest statement of ``writer`` or ``reader``, seconds; 0: none worth telling."""
        return max((one.seconds for one in self.told if one.agent.startswith(kind)), default=0.0)

    def longest_wait(self, kind: str) -> Wait | None:
        """The longest wait for a lock."""
        found = [one for one in self.waits if one.agent.startswith(kind)]
        return max(found, key=lambda one: one.seconds, default=None)

    def broken(self) -> list[str]:
        """What was not as promised."""
        name, allowed = self.operation.name, {f"reader {table}" for table in self.operation.readers_wait}
        failed = [
            f"{name}: {one.agent} failed with {one.error} after {one.seconds:.3f} s"
            for one in self.told
            if one.error is not None and one.agent not in allowed
        ]
        if self.operation.silent:
            failed += [f"{name}: {one.agent} waited {one.seconds:.3f} s for {one.blocker}" for one in self.waits]
        return failed


class Agents:
    """The process with the applications."""

    def __init__(self, dsn: str, agents: Sequence[Agent]) -> None:
        self.told: list[Told] = []
        environment = {**os.environ, "PYTHONPATH": str(ADAPTER)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.agents", dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([(agent.name, agent.statements) for agent in agents]) + "\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Agents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0, "the applications did not get on"
        self._reader.join(timeout=10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.append(Told(**json.loads(line)))


_WAITING = """
    SELECT a.application_name, extract(epoch FROM clock_timestamp() - l.waitstart)::float8,
           (SELECT string_agg(left(regexp_replace(b.query, '\\s+', ' ', 'g'), 120), ' | ')
            FROM pg_stat_activity b
            WHERE b.pid = ANY (pg_blocking_pids(l.pid)) AND b.application_name LIKE 'pgtrickle%')
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE NOT l.granted AND l.waitstart IS NOT NULL AND a.application_name LIKE 'agent %'
"""


class Sampler:
    """Looks all the time who waits for a lock."""

    def __init__(self, dsn: str) -> None:
        self._waits: dict[str, Wait] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(dsn,), daemon=True)
        self._thread.start()

    def take(self) -> list[Wait]:
        """The longest wait of each agent since the last call."""
        with self._lock:
            found, self._waits = self._waits, {}
        return list(found.values())

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join(10)

    def _look(self, dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            while not self._ended.wait(_SAMPLE_SECONDS):
                for agent, seconds, blocker in conn.execute(_WAITING).fetchall():
                    name = agent.removeprefix("agent ")
                    if blocker is None:
                        # For autovacuum, or it was over when we looked.
                        continue
                    wait = Wait(name, seconds, blocker)
                    with self._lock:
                        if name not in self._waits or self._waits[name].seconds < seconds:
                            self._waits[name] = wait


def measure(bench: Bench, agents: Agents, sampler: Sampler, operation: Operation) -> Measured:
    """Do it, and say what the agents noticed."""
    if operation.before is not None:
        operation.before(bench)
    time.sleep(_AFTER_SECONDS)
    sampler.take()
    error, begin = None, time.monotonic()
    with _old_transaction(bench):
        started = time.monotonic()
        try:
            operation.act(bench)
        except PgTrickleError as failed:
            error = f"{type(failed).__name__}: {failed.message}"
        seconds = time.monotonic() - started
    time.sleep(_AFTER_SECONDS)
    told = [one for one in list(agents.told) if one.start + one.seconds >= begin]
    return Measured(operation, seconds, told, sampler.take(), error)


@contextmanager
def _old_transaction(bench: Bench) -> Iterator[None]:
    """One that has read and written everything stays open for a while, if it is asked for."""
    if not bench.held:
        yield
        return
    over = threading.Event()
    with psycopg.connect(bench.dsn, application_name="an old transaction") as old:
        for table in TABLES:
            old.execute(f"INSERT INTO {table} (id, k, v) VALUES (999999999, 1, 1)".encode())
        there = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY (%s)"
        for (name,) in old.execute(there, (list(QUERIES),)).fetchall():
            old.execute(f"SELECT * FROM {name} LIMIT 1".encode())

        def end() -> None:
            over.wait(HELD_SECONDS)
            old.rollback()

        ending = threading.Thread(target=end)
        ending.start()
        try:
            yield
        finally:
            over.set()
            ending.join()


def run(dsn: str, *, held: bool, rows: int, tell: Callable[[Measured], None] = lambda one: None) -> list[Measured]:
    """All operations, in a fresh database.

    Args:
        dsn: of an empty database.
        held: an old transaction is in the way of each.
        rows: of the big source.
        tell: called after each.
    """
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        world(conn, rows)
        return _measure_all(Bench(dsn, conn, engine, held, rows), agents_of_world(), OPERATIONS, tell)


#: What a catalog of the version before knows: see fixtures/catalogs.
MIGRATED = {
    "customer": Agent("writer customer", ("UPDATE customer SET region = 'r{n}' WHERE id = 1",)),
    "orders": Agent("writer orders", ("UPDATE orders SET amount = amount + 1 WHERE id = 1",)),
    "event": Agent("writer event", ("INSERT INTO event (at, kind) VALUES (now(), 'k{n}')",)),
}


def _measure_all(
    bench: Bench, agents: Sequence[Agent], operations: Sequence[Operation], tell: Callable[[Measured], None]
) -> list[Measured]:
    sampler, measured = Sampler(bench.dsn), list[Measured]()
    try:
        with Agents(bench.dsn, agents) as running:
            time.sleep(1)
            for operation in operations:
                measured.append(measure(bench, running, sampler, operation))
                tell(measured[-1])
    finally:
        sampler.close()
    return measured


def migrate(dsn: str, version: int, *, tell: Callable[[Measured], None] = lambda one: None) -> list[Measured]:
    """The migration of a catalog that an earlier engine left, under writers whose triggers are of that time."""
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        restore(conn, version)
        bench = Bench(dsn, conn, engine, held=False, rows=0)
        readers = [reader(table) for table in (*MIGRATED, "by_region", "kinds", "largest", "recent")]
        operation = Operation(f"migrate from {version}", lambda bench: bench.engine.install())
        return _measure_all(bench, [*MIGRATED.values(), *readers], [operation], tell)


def table(measured: Sequence[Measured]) -> str:
    """One line per operation, as Markdown."""
    lines = [
        "| Operation | took s | longest statement of a writer / reader, ms | longest wait for a lock | for | failed |",
        "|---|---|---|---|---|---|",
    ]
    for one in measured:
        waits = [one.longest_wait(kind) for kind in ("writer", "reader")]
        blocker = max(filter(None, waits), key=lambda wait: wait.seconds, default=None)
        cells = (
            one.operation.name,
            f"{one.seconds:.2f}",
            f"{_ms(one.longest('writer'))} / {_ms(one.longest('reader'))}",
            " / ".join(_ms(wait.seconds if wait else 0.0) for wait in waits),
            "" if blocker is None else f"{blocker.agent}: {blocker.blocker[:90]}",
            one.error or "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return "-" if seconds == 0 else f"{1000 * seconds:.0f}"
