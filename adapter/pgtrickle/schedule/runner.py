"""The runner's life: connections, signals, housekeeping, and one dispatcher in the middle.

It needs nothing but a database. All state is in rows: what is due is computed from the catalog, who works on what is a
lease, the lock of a refresh is its frontier row. So it can be killed at any moment, several may share the work, and it
works behind PgBouncer in transaction mode: no session state, no LISTEN, no advisory locks.
"""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable
from enum import Enum

from pgtrickle import db, lifecycle
from pgtrickle.catalog import installation, runners
from pgtrickle.config import RunnerSettings
from pgtrickle.errors import ConnectionFailed, PgTrickleError
from pgtrickle.gates.retry import is_retryable
from pgtrickle.schedule import housekeeping, log
from pgtrickle.schedule.dispatch import Dispatcher
from pgtrickle.schedule.housekeeping import Identity
from pgtrickle.schedule.pool import Done, Engine, Pool

#: Without refreshes there is little to trim: so much rarer, times ``trim_interval``.
IDLE_TRIM_FACTOR = 12
RECONNECT_FIRST_SECONDS = 0.1
RECONNECT_LONGEST_SECONDS = 5.0
#: How often a runner that waits says so again.
REMIND_SECONDS = 60.0
#: After an abort, workers get this long to notice that their statements were cancelled.
ABORT_SECONDS = 5.0


class Signal(Enum):
    """What others may tell a runner."""

    STOP = "stop"
    ABORT = "abort"


class Waiting:
    """Says why a runner waits for its server: at once, when the reason changes, and now and then."""

    def __init__(self) -> None:
        self._told: str | None = None
        self._again = 0.0

    def tell(self, error: PgTrickleError) -> None:
        """One attempt has failed."""
        now = time.monotonic()
        if error.message != self._told or now >= self._again:
            self._told, self._again = error.message, now + REMIND_SECONDS
            log.warning("waiting_for_server", **error.as_dict())


class Runner:
    """One runner. `run` blocks; `stop` and `abort` may be called from other threads and from signal handlers."""

    def __init__(
        self,
        settings: RunnerSettings,
        open_connection: Callable[[], db.Connection],
        open_engine: Callable[[], Engine],
    ) -> None:
        """Prepare a runner.

        Args:
            settings: how it behaves.
            open_connection: opens the connection on which it looks.
            open_engine: opens a worker's connection; called once per worker, and again after a failure.
        """
        self.me = Identity.of_this_process()
        self._settings = settings
        self._open_connection = open_connection
        self._open_engine = open_engine
        self._events: queue.SimpleQueue[Done | Signal] = queue.SimpleQueue()
        self._stopping = False
        self._aborted = False
        self._started = False
        self._pause = 0.0
        self._next_beat = 0.0
        self._next_trim = 0.0
        self._next_sweep = 0.0

    def stop(self) -> None:
        """Finish the current refreshes, then end."""
        self._events.put(Signal.STOP)

    def abort(self) -> None:
        """Cancel the current refreshes (they roll back), then end."""
        self._events.put(Signal.ABORT)

    def run(self) -> bool:
        """Refresh what is due, until `stop`.

        Returns:
            Whether it ended in order: False after `abort`.

        Raises:
            ConnectionFailed: the server does not let us in, and did not before: a wrong password, no such database.
                For a server that cannot be reached, or has no connection left, it waits.
            PgTrickleError: what does not pass by itself, such as a catalog that was uninstalled or migrated.
        """
        pool = Pool(self._settings.workers, self._open_engine, self._events.put)
        dispatcher = Dispatcher(self.me, self._settings, pool)
        conn = None
        try:
            while not self._stopping:
                conn = self._connect(dispatcher)
                began = time.monotonic()
                if conn is not None and not self._work(conn, dispatcher):
                    conn = None
                if time.monotonic() - began > RECONNECT_LONGEST_SECONDS:
                    # It was not refused as soon as it was made, as by a server whose disk is full.
                    self._pause = 0.0
        finally:
            self._finish(conn, dispatcher, pool)
        return not self._aborted

    def run_once(self) -> frozenset[str]:
        """Refresh what is due now, once.

        Returns:
            The names of the stream tables that failed.
        """
        conn = self._connected()
        pool = Pool(self._settings.workers, self._open_engine, self._events.put)
        dispatcher = Dispatcher(self.me, self._settings, pool)
        try:
            pending = list(dispatcher.look(conn).groups)
            while (pending or dispatcher.running) and not self._stopping:
                pending = dispatcher.start(conn, pending)
                if dispatcher.running:
                    self._wait(dispatcher, None)
            dispatcher.submit(housekeeping.trim_job())
        finally:
            self._finish(conn, dispatcher, pool)
        if dispatcher.refused is not None:
            raise dispatcher.refused
        return frozenset(dispatcher.failed)

    def _connected(self) -> db.Connection:
        """A connection to a catalog of this database that can be written to."""
        conn = self._open_connection()
        try:
            installation.check(conn)
            db.refuse_read_only(conn)
            lifecycle.rebind(conn)
        except PgTrickleError:
            conn.close()
            raise
        return conn

    # --- one connection's life --------------------------------------------------------------------------------------

    def _work(self, conn: db.Connection, dispatcher: Dispatcher) -> bool:
        """Work until told to stop (True) or until the connection is lost (False; it is closed then)."""
        self._next_beat = 0.0
        try:
            while not self._stopping:
                if dispatcher.refused is not None:
                    raise dispatcher.refused
                self._keep_house(conn, dispatcher)
                pause = dispatcher.step(conn)
                self._wait(dispatcher, max(0.0, min(pause, self._next_beat - time.monotonic())))
        except PgTrickleError as error:
            if not _passes(error):
                raise
            log.warning("connection_lost", **error.as_dict())
            conn.close()
            return False
        return True

    def _connect(self, dispatcher: Dispatcher) -> db.Connection | None:
        """Try until it works, or until told to stop (None)."""
        waiting = Waiting()
        while not self._stopping:
            if self._pause:
                # Jitter, so that runners do not come back all at once.
                self._wait(dispatcher, self._pause * random.uniform(0.5, 1.5))
                if self._stopping:
                    break
            self._pause = min(max(self._pause * 2, RECONNECT_FIRST_SECONDS), RECONNECT_LONGEST_SECONDS)
            try:
                conn = self._connected()
            except PgTrickleError as error:
                if not _passes(error) or (not self._started and _is_lasting(error)):
                    raise
                waiting.tell(error)
                continue
            if self._started:
                log.info("reconnected", runner=self.me.runner_id)
            else:
                log.info("runner_started", runner=self.me.runner_id, workers=self._settings.workers)
            self._started = True
            dispatcher.forget()
            return conn
        return None

    def _finish(self, conn: db.Connection | None, dispatcher: Dispatcher, pool: Pool) -> None:
        """Wait for what is in work, unless aborted; deregister; close."""
        if dispatcher.running:
            log.debug("runner_waits", waits_for=list(dispatcher.running))
        while dispatcher.running and not self._aborted:
            self._wait(dispatcher, None)
        pool.close(ABORT_SECONDS if self._aborted else None)
        if conn is not None and not conn.closed:
            try:
                runners.delete(conn, self.me.runner_id)
            except PgTrickleError as error:
                # Others forget a silent runner after a while anyway.
                log.debug("not_deregistered", **error.as_dict())
            conn.close()
        log.info("runner_stopped", runner=self.me.runner_id, aborted=self._aborted or None)

    def _keep_house(self, conn: db.Connection, dispatcher: Dispatcher) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + self._settings.lease_seconds / 3
            if lifecycle.rebind(conn):
                # A dump was restored, perhaps under this very connection.
                dispatcher.forget()
            dispatcher.keep_leases(conn)
            installation.check(conn)
        if now >= self._next_sweep and dispatcher.free:
            self._next_sweep = now + housekeeping.SWEEP_SECONDS
            dispatcher.submit(housekeeping.sweep_job(self._settings.lease_seconds))
        if now >= self._next_trim and dispatcher.free:
            factor = 1 if dispatcher.worked else IDLE_TRIM_FACTOR
            self._next_trim = now + self._settings.trim_interval * factor
            dispatcher.worked = False
            dispatcher.submit(housekeeping.trim_job())

    # --- events -----------------------------------------------------------------------------------------------------

    def _wait(self, dispatcher: Dispatcher, seconds: float | None) -> None:
        """Sleep until something is reported, at most so long (None: without bound); handle all that was reported."""
        try:
            event = self._events.get(timeout=seconds) if seconds is None or seconds > 0 else self._events.get_nowait()
            while True:
                self._handle(event, dispatcher)
                event = self._events.get_nowait()
        except queue.Empty:
            return

    def _handle(self, event: Done | Signal, dispatcher: Dispatcher) -> None:
        if isinstance(event, Done):
            dispatcher.finish(event)
            return
        if not self._stopping:
            log.info("runner_stopping", signal=event.value, in_work=list(dispatcher.running))
        self._stopping = True
        if event is Signal.ABORT:
            self._aborted = True
            log.warning("runner_aborting", cancelled=db.cancel_all())


def _is_lasting(error: PgTrickleError) -> bool:
    """Whether the server does not let us in, and will not before somebody has done something."""
    return isinstance(error, ConnectionFailed) and db.is_lasting(error)


def _passes(error: PgTrickleError) -> bool:
    """Whether it is worth to connect again and go on."""
    return isinstance(error, ConnectionFailed) or is_retryable(error.sqlstate) or error.sqlstate == db.READ_ONLY
