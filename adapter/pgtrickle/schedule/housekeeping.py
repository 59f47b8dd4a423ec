"""What a runner does besides refreshing: heartbeat, leases of what is in work, trimming, retention."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Set
from dataclasses import dataclass, field

import pgtrickle
from pgtrickle import capture, db
from pgtrickle.catalog import history, runners
from pgtrickle.catalog.runners import Beat
from pgtrickle.results import RefreshResult
from pgtrickle.schedule import log
from pgtrickle.schedule.pool import Engine, Job

#: A runner that was silent for this many lease times is forgotten.
SILENT_LEASES = 30
#: Seconds between two sweeps of history and silent runners.
SWEEP_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a runner is, for everybody who looks at ``pgtrickle.runners``."""

    runner_id: str
    host: str
    pid: int

    @classmethod
    def of_this_process(cls) -> Identity:
        """A new identity; several runners of one process are told apart."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(f"{host}:{pid}:{uuid.uuid4().hex[:8]}", host, pid)


def beat(conn: db.Connection, me: Identity, known: str | None = None) -> Beat:
    """Say that this runner is alive; registers it the first time. ``known``: see ``runners.beat``."""
    return runners.beat(conn, me.runner_id, host=me.host, pid=me.pid, engine_version=pgtrickle.__version__, known=known)


@dataclass(slots=True)
class Leases:
    """The leases of this runner. They only spread the work over several runners; the locks are the frontier rows.

    A lease is kept until it expires on its own, so a stream table that is refreshed all the time costs one write per
    half a lease time, not one per refresh.

    Attributes:
        me: the runner.
        seconds: how long a lease lasts.
        until: catalog id -> end of the lease, seconds of a monotonic clock.
    """

    me: Identity
    seconds: float
    until: dict[int, float] = field(default_factory=dict)

    def claim(self, conn: db.Connection, wanted: frozenset[int], now: float) -> bool:
        """Lease all of these or none; whether it worked."""
        if all(self.until.get(key, 0.0) - now > self.seconds / 2 for key in wanted):
            return True
        got = runners.acquire(conn, self.me.runner_id, sorted(wanted), seconds=self.seconds)
        if got == wanted:
            self.until.update(dict.fromkeys(got, now + self.seconds))
            return True
        self.release(conn, got)
        return False

    def renew(self, conn: db.Connection, keys: frozenset[int], now: float) -> None:
        """Keep what is in work."""
        if keys:
            got = runners.acquire(conn, self.me.runner_id, sorted(keys), seconds=self.seconds)
            self.until.update(dict.fromkeys(got, now + self.seconds))

    def release(self, conn: db.Connection, keys: Set[int]) -> None:
        """Give these back."""
        if keys:
            runners.release(conn, self.me.runner_id, sorted(keys))
        for key in keys:
            self.until.pop(key, None)


def trim_job() -> Job:
    """Trim the change buffers on a worker's connection."""
    return Job("trim", frozenset(), _trim)


def sweep_job(lease_seconds: float) -> Job:
    """Finish interrupted drops, delete old history and silent runners on a worker's connection."""

    def sweep(engine: Engine) -> tuple[RefreshResult, ...]:
        engine.tidy()
        pruned = history.prune(engine.own_conn)
        silent = runners.delete_silent(engine.own_conn, older_than_s=SILENT_LEASES * lease_seconds)
        if pruned or silent:
            log.info("swept", history_rows=pruned, silent_runners=silent)
        return ()

    return Job("sweep", frozenset(), sweep)


def _trim(engine: Engine) -> tuple[RefreshResult, ...]:
    result = capture.trim(engine.own_conn)
    if result.demoted:
        log.warning("demoted", stream_tables=result.demoted, reason="it holds back more changes than the limit allows")
    if result.deleted or result.removed:
        log.debug("trimmed", rows=result.deleted, sources_removed=result.removed)
    return ()
