"""What every kind of schedule shares: the value, the facts it decides on, the protocol of a kind's module."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a stream table is wanted to be refreshed.

    Attributes:
        kind: key of ``KINDS``.
        text: the canonical text; ``parse(schedule.text) == schedule``.
        period: how old the content may become; zero for "refresh on change"; None for kinds without a fixed period.
        promise: how old the content gets at most while a runner keeps up; None where nothing is promised. Content
            twice as old is called stale.
    """

    kind: str
    text: str
    period: timedelta | None = None
    promise: timedelta | None = None


@dataclass(frozen=True, slots=True)
class DueFacts:
    """What is known about one stream table when the next due time is asked for.

    Attributes:
        now: the server's clock, with time zone.
        last_refresh: when the snapshot of its content was taken; None if it was never filled.
        effective: the period that was calculated from the dependents, for ``calculated``.
    """

    now: datetime
    last_refresh: datetime | None
    effective: timedelta | None = None


class Kind(Protocol):
    """A kind of schedule is a module with these two functions."""

    def parse(self, text: str) -> Schedule | None:
        """The schedule, or None if the text is not of this kind; InvalidOption if it is, but wrong."""
        ...

    def next_due(self, schedule: Schedule, facts: DueFacts) -> datetime | None:
        """The next moment at which a refresh is wanted; the past or ``facts.now`` means at once, None never."""
        ...
