"""Schedules as text: parse, and the next due time of any kind."""

from __future__ import annotations

from datetime import datetime

from pgtrickle.errors import InvalidOption
from pgtrickle.schedule.kinds import KINDS, DueFacts, Schedule


def parse(text: str) -> Schedule:
    """Read a schedule.

    Args:
        text: ``30s``, ``1h30m``, a cron expression with an optional time zone, ``continuous`` or ``calculated``.

    Raises:
        InvalidOption: with the reason and an example.

    >>> parse("90s").text
    '1m30s'
    """
    cleaned = text.strip()
    for kind in KINDS.values() if cleaned else ():
        schedule = kind.parse(cleaned)
        if schedule is not None:
            return schedule
    raise InvalidOption(
        f"The schedule '{text}' is not valid." if cleaned else "The schedule is empty.",
        clause="schedule",
        hint="Use a duration ('30s', '1h30m'), a cron expression ('0 6 * * * Europe/Berlin'), 'continuous' or "
        "'calculated'.",
    )


def next_due(schedule: Schedule, facts: DueFacts) -> datetime | None:
    """When a refresh is wanted next: a moment of the past means at once, None never by itself."""
    return KINDS[schedule.kind].next_due(schedule, facts)
