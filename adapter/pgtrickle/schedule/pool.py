"""Worker threads: each has one connection of its own and works on one job at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from pgtrickle import db
from pgtrickle.errors import ConnectionFailed
from pgtrickle.results import RefreshResult
from pgtrickle.schedule import log

#: How long a worker leaves the server alone that had no connection for it, seconds.
_REST_SECONDS = 1.0


class Engine(Protocol):
    """What a worker needs of the engine; ``pgtrickle.api.PgTrickle`` is one."""

    @property
    def own_conn(self) -> db.Connection:
        """The connection, for what is not the work of a refresh."""
        ...

    def refresh_due(self, relids: Iterable[int]) -> tuple[RefreshResult, ...]:
        """Refresh these stream tables and their stale ancestors; never raises for a failing one."""
        ...

    def tidy(self) -> None:
        """Finish what somebody left who died."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do on a worker's connection.

    Attributes:
        name: for the log.
        keys: catalog ids of the stream tables it keeps busy.
        run: what to do.
    """

    name: str
    keys: frozenset[int]
    run: Callable[[Engine], tuple[RefreshResult, ...]]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished job; exactly one of ``results`` and ``error`` is set."""

    job: Job
    seconds: float
    results: tuple[RefreshResult, ...] | None = None
    error: Exception | None = None


class Pool:
    """A fixed number of workers. `submit` from one thread; finished jobs arrive at ``report`` in a worker's thread."""

    def __init__(self, size: int, open_engine: Callable[[], Engine], report: Callable[[Done], None]) -> None:
        self._open_engine = open_engine
        self._report = report
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._connected: set[str] = set()
        self._closing = threading.Event()
        self._threads = [
            # Daemons: after an abort the process must not wait for a statement that does not end.
            threading.Thread(target=self._work, name=f"pgtrickle-worker-{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Hand a job to the next free worker."""
        self._jobs.put(job)

    def close(self, timeout: float | None = None) -> None:
        """Let the workers finish what was submitted, and end them.

        Args:
            timeout: seconds to wait for each; None: as long as it takes.
        """
        self._closing.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout)

    def _work(self) -> None:
        engine: Engine | None = None
        me = threading.current_thread().name
        while (job := self._jobs.get()) is not None:
            started = time.monotonic()
            try:
                if engine is None:
                    engine = self._open_engine()
                    self._connected.add(me)
                engine, results = self._run(job, engine)
                done = Done(job, time.monotonic() - started, results=results)
                if any(result.action == "FAILED" for result in results):
                    # A session keeps the settings that its role and database had when it began.
                    engine = _closed(engine)
            except Exception as error:  # noqa: BLE001  # whatever it is, the other stream tables go on
                if engine is None and isinstance(error, ConnectionFailed) and self._leave_to_others(job, error):
                    continue
                done = Done(job, time.monotonic() - started, error=error)
                engine = _closed(engine)
                self._connected.discard(me)
            self._report(done)
        _closed(engine)

    def _leave_to_others(self, job: Job, error: ConnectionFailed) -> bool:
        """The server has no connection left for this worker: whoever has one does its job, and it rests."""
        if not self._connected or self._closing.is_set():
            return False
        log.warning("worker_without_connection", reason=error.message, connected=len(self._connected))
        self._jobs.put(job)
        self._closing.wait(_REST_SECONDS)
        return True

    def _run(self, job: Job, engine: Engine) -> tuple[Engine, tuple[RefreshResult, ...]]:
        """Run a job; a connection that died while nobody used it is replaced."""
        try:
            results = job.run(engine)
        except ConnectionFailed as error:
            # An abort ends statements too, but leaves the connection open; a lost one rolled everything back.
            if not engine.own_conn.closed:
                raise
            log.debug("worker_reconnects", reason=error.message)
        else:
            return engine, results
        _closed(engine)
        fresh = self._open_engine()
        try:
            return fresh, job.run(fresh)
        except Exception:
            _closed(fresh)
            raise


def _closed(engine: Engine | None) -> None:
    """Close it; a connection that is broken already cannot be closed more. The next job opens a new one."""
    if engine is None:
        return
    try:
        engine.close()
    except ConnectionFailed:
        return
