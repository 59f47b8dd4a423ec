"""Durations: ``30s``, ``5m``, ``1h30m``, ``2d``, ``1w``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from pgtrickle.errors import InvalidOption
from pgtrickle.schedule.kinds.base import DueFacts, Schedule

#: Seconds per unit, biggest first: the order of the canonical text.
UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=36_525)
HINT = "Write a whole number with a unit (s, m, h, d, w), such as '30s', '1h30m' or '2d'."

_DURATION = re.compile(r"(?:[0-9]+[smhdw])+", re.IGNORECASE)
_PART = re.compile(r"([0-9]+)([smhdw])", re.IGNORECASE)
#: Anything that begins like a number was meant as a duration, unless it has the blanks of a cron expression.
_MEANT = re.compile(r"[-+]?[0-9.]\S*")


def parse(text: str) -> Schedule | None:
    """A sum of numbers with units, at least one second.

    >>> parse("90m").text
    '1h30m'
    """
    if not _DURATION.fullmatch(text):
        if not _MEANT.fullmatch(text):
            return None
        reason = "a duration cannot be negative" if text.startswith("-") else "a duration is numbers with units"
        raise InvalidOption(f"The schedule '{text}' is not valid: {reason}.", clause="schedule", hint=HINT)
    # Python's integers do not overflow, but thousands of digits would cost time: the length is bounded first.
    parts = [(digits.lstrip("0") or "0", unit.lower()) for digits, unit in _PART.findall(text)]
    if any(len(digits) > 12 for digits, _ in parts):
        raise _too_long(text)
    seconds = sum(int(digits) * UNITS[unit] for digits, unit in parts)
    if seconds > LONGEST.total_seconds():
        raise _too_long(text)
    if seconds < SHORTEST.total_seconds():
        raise InvalidOption(
            f"The schedule '{text}' is too short: the shortest is one second.",
            clause="schedule",
            hint="For 'at once' use the schedule 'continuous'.",
        )
    period = timedelta(seconds=seconds)
    return Schedule("duration", format_duration(period), period=period, promise=period)


def next_due(schedule: Schedule, facts: DueFacts) -> datetime | None:
    """One period after the last refresh; at once if there was none."""
    if facts.last_refresh is None or schedule.period is None:
        return facts.now
    return facts.last_refresh + schedule.period


def format_duration(period: timedelta) -> str:
    """The canonical text of a period of whole seconds.

    >>> format_duration(timedelta(days=8, seconds=5))
    '1w1d5s'
    """
    rest = int(period.total_seconds())
    parts: list[str] = []
    for unit, seconds in UNITS.items():
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _too_long(text: str) -> InvalidOption:
    return InvalidOption(
        f"The schedule '{text[:40]}' is too long: the longest is {LONGEST.days} days.", clause="schedule", hint=HINT
    )
