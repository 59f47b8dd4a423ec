"""``continuous``: refreshed as soon as a source has changed."""

from __future__ import annotations

from datetime import datetime, timedelta

from pgtrickle.schedule.kinds.base import DueFacts, Schedule

TEXT = "continuous"


def parse(text: str) -> Schedule | None:
    """``continuous``, in any letter case."""
    return Schedule("continuous", TEXT, timedelta(0)) if text.lower() == TEXT else None


def next_due(schedule: Schedule, facts: DueFacts) -> datetime | None:
    """Always at once; whether a source has changed is the runner's question."""
    return facts.now
