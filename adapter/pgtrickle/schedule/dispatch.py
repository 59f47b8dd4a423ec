"""Looks at the state, decides, and hands groups to workers; keeps count of what is running here."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from datetime import datetime, timedelta

from pgtrickle import db
from pgtrickle.config import RunnerSettings
from pgtrickle.errors import CatalogError, StatementFailed
from pgtrickle.gates.retry import is_retryable
from pgtrickle.results import RefreshResult
from pgtrickle.schedule import report
from pgtrickle.schedule.agenda import Agenda, Group, foreign_leases, make_agenda, startable, wake_after
from pgtrickle.schedule.cooling import Cooling
from pgtrickle.schedule.housekeeping import Identity, Leases
from pgtrickle.schedule.pool import Done, Job, Pool
from pgtrickle.schedule.situation import Situation
from pgtrickle.schedule.state import Poll, fetch_situation, pollable, watchable
from pgtrickle.schedule.watch import Watch

#: Polling takes at most this part of the time: a change buffer that is slow to look through is looked at less often.
POLL_SHARE = 0.1
#: Reading the state anew after each refresh takes at most this part of the time.
RELOAD_SHARE = 0.2
#: The state of all stream tables is read at least this often, so that new and altered ones are noticed, seconds.
STATE_SECONDS = 1.0


class Dispatcher:
    """Everything that one runner knows. Used by one thread.

    Attributes:
        failed: names of the stream tables that failed since the start.
        worked: something was changed, or may have been, since somebody set it to False.
        refused: the catalog is not the one that this engine knows any more: nothing that it does would be right.
    """

    def __init__(self, me: Identity, settings: RunnerSettings, pool: Pool) -> None:
        self.failed: set[str] = set()
        self.worked = True
        self.refused: CatalogError | None = None
        self._me = me
        self._settings = settings
        self._pool = pool
        self._cooling = Cooling()
        self._leases = Leases(me, settings.lease_seconds)
        self._running: list[Job] = []
        self._waiting: list[Group] = []
        self._done: set[int] = set()
        self._situation: Situation | None = None
        self._near = Poll()
        self._far = Poll()
        self._watch = Watch(me)
        self._changed: frozenset[int] = frozenset()
        self._touched = True
        self._calm_until: datetime | None = None
        self._clock = 0.0
        self._reload_at = 0.0
        self._quiet_until = 0.0
        self._reload_pause = 0.0
        self._poll_pause = settings.poll_interval

    # --- what is running --------------------------------------------------------------------------------------------

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the jobs in work."""
        return tuple(job.name for job in self._running)

    @property
    def free(self) -> bool:
        """Whether a worker is idle."""
        return len(self._running) < self._settings.workers

    @property
    def busy(self) -> frozenset[int]:
        """Catalog ids of the stream tables in work here, with their ancestors."""
        return frozenset().union(*(job.keys for job in self._running))

    def submit(self, job: Job) -> None:
        """Hand a job to a worker."""
        self._running.append(job)
        self._pool.submit(job)

    def keep_leases(self, conn: db.Connection) -> None:
        """Renew the leases of what is in work."""
        self._leases.renew(conn, self.busy, time.monotonic())

    def forget(self) -> None:
        """The connection is a new one: know nothing."""
        self._leases.until.clear()
        self._watch.forget()
        self._waiting.clear()
        self._reload_at = 0.0

    # --- looking and starting ---------------------------------------------------------------------------------------

    def step(self, conn: db.Connection) -> float:
        """Look, decide, start what can be started; seconds until there is something to do again."""
        now = time.monotonic()
        if self._waiting and self.free:
            # What was due when there was no worker for it is due still: nothing has to be asked for that.
            self._waiting = self.start(conn, self._waiting)
        self._share(conn)
        quiet = self._situation is not None and now < min(self._quiet_until, self._reload_at)
        if quiet and not (self.free and self._poll(conn)):
            return self._pause(now)
        agenda = self.look(conn)
        self._waiting = self.start(conn, agenda.groups)
        self._quiet_until = now + self._quiet_seconds(agenda, now)
        return self._pause(time.monotonic())

    def _share(self, conn: db.Connection) -> None:
        """Who has more to do than workers keeps no leases for the next time: another runner may be idle."""
        if self._waiting:
            self._leases.release(conn, self._done & self._leases.until.keys() - self.busy)
        self._done.clear()

    def look(self, conn: db.Connection) -> Agenda:
        """The decisions about all stream tables as of now."""
        now = time.monotonic()
        passed, self._clock = timedelta(seconds=now - self._clock), now
        if self._situation is None or now >= self._reload_at:
            idle = self._watch.beat(conn, self._situation and self._situation.later(passed).now)
            if self._situation is None or not idle or self._touched:
                self._calm_until = None
                self._reload(conn)
            else:
                self._situation = self._situation.later(passed)
            self._reload_at = now + STATE_SECONDS
            if self._watch.prove(conn, self._known().quiet):
                self._hear(self._changed)
        else:
            self._situation = self._situation.later(passed)
        return self._decide()

    def _decide(self) -> Agenda:
        """The decisions; none are made as long as it is known that they would all be to wait."""
        situation = self._known()
        if self._calm_until is not None and situation.now < self._calm_until:
            return Agenda({}, ())
        agenda = make_agenda(situation)
        loud = [due.wake for due in agenda.dues.values() if not due.state.quiet and due.wake is not None]
        calm = min(loud, default=situation.now + timedelta(hours=1)) - timedelta(seconds=STATE_SECONDS)
        self._calm_until = None if agenda.groups or calm <= situation.now else calm
        return agenda

    def _reload(self, conn: db.Connection) -> None:
        """Read the state of all stream tables, and ask all their change buffers."""
        started = time.monotonic()
        self._touched = False
        fresh = fetch_situation(conn)
        report.changes(self._situation, fresh)
        self._situation = fresh
        self._near.choose(pollable(fresh))
        self._far.choose(watchable(fresh))
        changed = self._ask(conn, self._far)
        if changed is not None:
            self._hear(changed)
            self._watch.tell(conn, self._known())
        self._reload_pause = (time.monotonic() - started) / RELOAD_SHARE

    def _hear(self, changed: Set[int]) -> None:
        """Take note of what has changes."""
        self._changed = frozenset(changed)
        self._calm_until = None
        asked = self._far.asked - self._watch.suspects
        self._situation = self._known().with_changes(changed, asked)

    def _ask(self, conn: db.Connection, poll: Poll) -> frozenset[int] | None:
        """Those that have changes; None if that could not be asked."""
        try:
            return poll.fetch(conn)
        except StatementFailed as error:
            if is_retryable(error.sqlstate):
                raise
            # A stream table or its capture was dropped since the state was read.
            report.poll_failed(error)
            self._touched = True
            self._reload_at = 0.0
            return None

    def start(self, conn: db.Connection, groups: Sequence[Group]) -> list[Group]:
        """Start what can be started, in this order; returns what waits for nothing but a free worker."""
        situation = self._known()
        leased = foreign_leases(situation, self._me.runner_id).keys()
        left: list[Group] = []
        for group in groups:
            now = time.monotonic()
            if not self.busy.isdisjoint(group.members):
                # It is being refreshed: whether it is due afterwards has to be seen.
                continue
            if not self.free:
                left.append(group)
            elif startable(group, busy=self.busy, cooling=self._cooling.resting(now), leased=leased):
                self._claim_and_submit(conn, situation, group, now)
        return left

    def _claim_and_submit(self, conn: db.Connection, situation: Situation, group: Group, now: float) -> None:
        if not self._leases.claim(conn, group.closure, now):
            self._cooling.fail(group.members, now)
            return
        relids = [situation.tables[key].relid for key in group.members]
        name = ", ".join(situation.tables[key].name for key in group.members)
        self.submit(Job(name, group.closure, lambda engine: engine.refresh_due(relids)))

    def _poll(self, conn: db.Connection) -> bool:
        """Ask the change buffers; whether a ``continuous`` stream table that could be started has changes."""
        situation = self._situation
        if not self._near.asked or situation is None:
            return False
        started = time.monotonic()
        if self._watch.moved(conn):
            changed = self._ask(conn, self._near)
            if changed is None:
                return True
            # What was found in the others a moment ago is still there.
            self._hear(changed | (self._changed - self._near.asked))
            self._poll_pause = max(self._settings.poll_interval, (time.monotonic() - started) / POLL_SHARE)
        blocked = self.busy | self._cooling.resting(time.monotonic())
        return bool(self._known().continuous_with_changes() - blocked)

    # --- how long to sleep ------------------------------------------------------------------------------------------

    def _quiet_seconds(self, agenda: Agenda, now: float) -> float:
        """How long the clock alone makes nothing due."""
        if not self.free:
            return STATE_SECONDS
        situation = self._known()
        return wake_after(
            agenda,
            situation.now,
            blocked=self.busy | self._cooling.resting(now),
            leased=foreign_leases(situation, self._me.runner_id),
            longest=timedelta(seconds=STATE_SECONDS),
        ).total_seconds()

    def _pause(self, now: float) -> float:
        moments = [self._quiet_until, self._reload_at]
        if self.free and self._near.asked:
            moments.append(now + self._poll_pause)
        rest = self._cooling.next_end(now)
        if rest is not None:
            moments.append(now + rest)
        return max(0.0, min(moments) - now)

    # --- what came back ---------------------------------------------------------------------------------------------

    def finish(self, done: Done) -> None:
        """Take note of a finished job."""
        self._running.remove(done.job)
        self._done |= done.job.keys
        self._touched = True
        if not self._waiting:
            # As long as all workers were at work nobody asked what is due next.
            self._quiet_until = 0.0
        self._reload_at = min(self._reload_at, self._clock + self._reload_pause)
        if isinstance(done.error, CatalogError) and not is_retryable(done.error.sqlstate):
            self.refused = done.error
        if done.error is not None:
            self._cooling.fail(done.job.keys, time.monotonic())
            if done.job.keys:
                self.failed.add(done.job.name)
            report.job_failed(done)
        for result in done.results or ():
            report.refreshed(result)
            self._settle(result, done.job)

    def _settle(self, result: RefreshResult, job: Job) -> None:
        tables = self._known().tables
        # Renamed or dropped in the meantime: whoever was in this job is meant.
        keys = [key for key, state in tables.items() if state.name == result.name] or sorted(job.keys & set(tables))
        if result.action == "FAILED":
            self.failed.add(result.name)
        # Nothing to do although changes were seen: somebody else was faster, or they do not concern its columns.
        in_vain = result.action == "NO_DATA" and any(tables[key].changed for key in keys)
        if in_vain or result.action in ("FAILED", "SKIPPED"):
            self._cooling.fail(keys, time.monotonic())
        else:
            self._cooling.succeed(keys)
        if result.action not in ("FAILED", "SKIPPED"):
            self._watch.proven(keys)
            self._situation = self._known().refreshed(keys)
            self._calm_until = None
            self._changed -= set(keys)
        self.worked = self.worked or result.action != "NO_DATA"

    def _known(self) -> Situation:
        assert self._situation is not None, "nobody looked yet"
        return self._situation
