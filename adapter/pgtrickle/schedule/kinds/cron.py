"""Cron expressions with a time zone: ``0 6 * * * Europe/Berlin``, ``@daily``, six fields with seconds first.

Only the calendar arithmetic is croniter's, on naive local times; time zones are ours. A fixed hour runs exactly once a
day: at the first of two equal wall clock times, and behind the gap where the clock skips it. An hour of ``*`` or
``*/n`` follows the wall clock through both (the rule of Debian's cron).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

from pgtrickle.errors import InvalidOption
from pgtrickle.schedule.kinds.base import DueFacts, Schedule

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
DEFAULT_ZONE = "UTC"
HINT = "Write minute hour day month weekday [time zone], such as '0 6 * * 1-5 Europe/Berlin', or '@hourly'."

#: What a field may consist of; croniter's random ``R`` and hashed ``H`` are not schedules that can be explained.
_FIELD = re.compile(r"(?:[0-9*/,\-#?]|[A-Za-z]{3}|[lL])+")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-/]*")
#: A leap day may be eight years away.
_SEARCH_YEARS = 9
_REFERENCE = datetime(2024, 1, 1)


def parse(text: str) -> Schedule | None:
    """Five fields, or six with seconds first, or an alias; then, optionally, a time zone (default UTC).

    >>> parse("@daily Europe/Berlin").text
    '0 0 * * * Europe/Berlin'
    """
    words = text.split()
    if not words or (len(words) == 1 and not text.startswith("@")):
        return None
    fields, zone = _split(text, words)
    if len(fields) not in (5, 6):
        raise _invalid(text, f"it has {len(fields)} fields instead of 5 or 6")
    for field in fields:
        if not _FIELD.fullmatch(field):
            raise _invalid(text, f"'{field}' is not a field of a cron expression")
    _zone(zone, text)
    expression = " ".join(fields)
    try:
        _iterator(expression, _REFERENCE).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        raise _invalid(text, str(error)) from error
    return Schedule("cron", expression if zone == DEFAULT_ZONE else f"{expression} {zone}")


def next_due(schedule: Schedule, facts: DueFacts) -> datetime | None:
    """The first match after the last refresh; at once if there was none."""
    if facts.last_refresh is None:
        return facts.now
    return next_match(schedule, facts.last_refresh)


def next_match(schedule: Schedule, after: datetime) -> datetime:
    """The first moment after ``after`` (with time zone) that the expression names, in UTC."""
    fields, zone_name = _split(schedule.text, schedule.text.split())
    zone = _zone(zone_name, schedule.text)
    expression = " ".join(fields)
    if fields[-4].startswith("*"):
        return _next_on_the_wall(expression, zone, after)
    return _next_once_a_day(expression, zone, after)


def _next_once_a_day(expression: str, zone: tzinfo, after: datetime) -> datetime:
    naive = after.astimezone(zone).replace(tzinfo=None)
    # Behind a gap or inside a repeated hour the naive order differs from the real one by the size of the shift.
    iterator = _iterator(expression, naive - timedelta(hours=3))
    while True:
        # fold=0: the first of two equal times; a time in a gap is read with the offset before it, so it lies behind it.
        moment = iterator.get_next(datetime).replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
        if moment > after:
            return moment


def _next_on_the_wall(expression: str, zone: tzinfo, after: datetime) -> datetime:
    start, inclusive = after.astimezone(timezone.utc), False
    while True:
        offset = _offset(zone, start)
        naive = (start + offset).replace(tzinfo=None)
        found = _iterator(expression, naive - timedelta(seconds=1) if inclusive else naive).get_next(datetime)
        moment = (found - offset).replace(tzinfo=timezone.utc)
        if _offset(zone, moment) == offset:
            return moment
        start, inclusive = _transition(zone, start, moment), True


def _transition(zone: tzinfo, before: datetime, behind: datetime) -> datetime:
    """The first second of another offset between two moments of different offsets."""
    offset = _offset(zone, before)
    low, high = int(before.timestamp()), int(behind.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, datetime.fromtimestamp(middle, timezone.utc)) == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, timezone.utc)


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _iterator(expression: str, start: datetime) -> croniter:
    return croniter(expression, start, second_at_beginning=True, max_years_between_matches=_SEARCH_YEARS)


def _split(text: str, words: list[str]) -> tuple[list[str], str]:
    """Fields and time zone of an expression."""
    if words[0].startswith("@"):
        if words[0].lower() not in ALIASES:
            raise _invalid(text, f"'{words[0]}' is not one of {', '.join(ALIASES)}")
        words = ALIASES[words[0].lower()].split() + words[1:]
    last = words[-1]
    if len(words) > 5 and _ZONE.fullmatch(last) and ("/" in last or len(last) > 3 or last.upper() in _SHORT_ZONES):
        return words[:-1], last
    return words, DEFAULT_ZONE


#: Zone names of three letters; everything else of three letters is a weekday.
_SHORT_ZONES = frozenset({"UTC", "GMT", "CET", "EET", "MET", "WET", "EST", "MST", "HST", "UCT", "PRC", "ROC", "ROK"})


@lru_cache(maxsize=64)
def _zone(name: str, text: str) -> tzinfo:
    if name == DEFAULT_ZONE:
        # Works on machines without a time zone database too.
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidOption(
            f"The schedule '{text}' names an unknown time zone '{name}'.",
            clause="schedule",
            hint="Use a name of the IANA time zone database, such as Europe/Berlin; without one, install tzdata.",
        ) from error


def _invalid(text: str, reason: str) -> InvalidOption:
    return InvalidOption(
        f"The schedule '{text}' is not a valid cron expression: {reason}.", clause="schedule", hint=HINT
    )
