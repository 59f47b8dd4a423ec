"""``calculated``: as fresh as the dependents need it."""

from __future__ import annotations

from datetime import datetime

from pgtrickle.schedule.kinds.base import DueFacts, Schedule

TEXT = "calculated"


def parse(text: str) -> Schedule | None:
    """``calculated``, in any letter case."""
    return Schedule("calculated", TEXT) if text.lower() == TEXT else None


def next_due(schedule: Schedule, facts: DueFacts) -> datetime | None:
    """One effective period after the last refresh; never without one: dependents on cron drag it along."""
    if facts.last_refresh is None:
        return facts.now
    if facts.effective is None:
        return None
    return facts.last_refresh + facts.effective
