"""When each stream table is wanted next, and what the gates say. Pure: facts in, decisions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgtrickle import gates
from pgtrickle.gates import GateFacts, Hold, Pass, Verdict
from pgtrickle.schedule.kinds import DueFacts, Schedule
from pgtrickle.schedule.kinds.continuous import PROOF_PERIOD
from pgtrickle.schedule.order import Dag
from pgtrickle.schedule.text import next_due

#: The period of ``calculated`` without dependents.
DEFAULT_PERIOD = timedelta(seconds=1)
#: ``continuous`` cannot be told by changes when a source is one that no trigger can watch: it is looked at this often.
UNWATCHED_PERIOD = timedelta(seconds=1)
#: What was refreshed later than now, and by more than this, was refreshed before somebody set the server's clock back.
CLOCK_TOLERANCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class TableState:
    """What the runner knows about one stream table, from one cheap query.

    Attributes:
        relid: OID of the table.
        name: qualified name.
        schedule: parsed.
        status: ``INITIALIZING``, ``ACTIVE``, ``SUSPENDED`` or ``ERROR``.
        populated: it was loaded at least once.
        last_refresh: when the last successful refresh began; None if it was never loaded.
        retry_at: not before, after a failure.
        last_error: text of the last failure since the last success.
        watched: every source is captured: without a change there is nothing to do.
        changed: a source has changes that it has not consumed, as far as that was asked.
        pending: it is wanted whatever its sources say: a recompute is due, or a stream table that it reads has moved.
        quiet: it is known that a refresh would find nothing to do, neither here nor in what it reads.
    """

    relid: int
    name: str
    schedule: Schedule
    status: str = "ACTIVE"
    populated: bool = True
    last_refresh: datetime | None = None
    retry_at: datetime | None = None
    last_error: str | None = None
    watched: bool = True
    changed: bool = False
    pending: bool = False
    quiet: bool = False

    @property
    def calm(self) -> bool:
        """Nothing but a change of a source gives reason to refresh it."""
        well = self.populated and self.status == "ACTIVE" and self.retry_at is None and self.last_error is None
        return well and self.watched and not self.changed and not self.pending


@dataclass(frozen=True, slots=True)
class Due:
    """When a stream table is wanted next, and why.

    Attributes:
        state: what was known.
        at: wanted at this moment; None never by itself.
        reason: for people.
        trail: what the gates say.
    """

    state: TableState
    at: datetime | None
    reason: str
    trail: tuple[Verdict, ...]

    @property
    def now(self) -> bool:
        """Wanted now, and every gate is open."""
        return self.at is not None and isinstance(gates.verdict(self.trail), Pass)

    @property
    def wake(self) -> datetime | None:
        """When to look again: the due time, or when the holding gate may open; None if a person has to act."""
        if self.now:
            return self.at
        decision = gates.verdict(self.trail)
        return decision.until if isinstance(decision, Hold) else None


def effective_periods(
    schedules: Mapping[int, Schedule], dag: Dag, default: timedelta = DEFAULT_PERIOD
) -> dict[int, timedelta | None]:
    """How old each stream table may become.

    ``calculated`` takes the shortest period of its dependents, ``default`` without any; None if all of them are on
    cron, which drags it along. Cron has no period.
    """
    periods: dict[int, timedelta | None] = {}
    for node in reversed(dag.ordered()):
        schedule = schedules[node]
        if schedule.kind != "calculated":
            periods[node] = schedule.period
            continue
        below = dag.dependents(node)
        wanted = [period for period in map(periods.__getitem__, below) if period is not None]
        periods[node] = min(wanted) if wanted else (None if below else default)
    return periods


def decide(state: TableState, period: timedelta | None, now: datetime) -> Due:
    """When this stream table is wanted next, and whether its gates are open.

    Args:
        state: what is known about it.
        period: its effective period, see ``effective_periods``.
        now: the server's clock.
    """
    at, reason = _wanted(state, period, now)
    facts = GateFacts(
        name=state.name,
        now=now,
        manual=False,
        pulled=False,
        status=state.status,
        populated=state.populated,
        due_at=at,
        retry_at=state.retry_at,
        last_error=state.last_error,
    )
    return Due(state, at, reason, gates.decide(facts))


def _wanted(state: TableState, period: timedelta | None, now: datetime) -> tuple[datetime | None, str]:
    last = state.last_refresh
    if last is None or not state.populated:
        return now, "never loaded"
    if last > now + CLOCK_TOLERANCE and not state.quiet:
        # How old it is nobody knows; if it waited for its time, it would wait for as long as the clock was set back.
        return now, "the server's clock was set back since its last refresh"
    if period == timedelta(0):
        if not state.watched:
            return last + UNWATCHED_PERIOD, "continuous, with a source that cannot be watched"
        if state.changed:
            # Since when is not known; those that were refreshed long ago come first.
            return last, "continuous: a source has changed"
        return (now if state.quiet else last) + PROOF_PERIOD, "continuous: no change"
    at = next_due(state.schedule, DueFacts(now, last, period))
    if state.quiet and period is not None and at is not None and at <= now:
        # It is as its query says at this very moment: the next moment to look is a period from now.
        return now + period, f"schedule {state.schedule.text}: no change"
    if at is None:
        return None, "refreshed together with its dependents, which are all on cron"
    if state.schedule.kind == "calculated" and period is not None:
        return at, f"schedule calculated: {period.total_seconds():g} s"
    return at, f"schedule {state.schedule.text}"
