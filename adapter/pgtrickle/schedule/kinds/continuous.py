"""``continuous``: refreshed as soon as a source has changed."""

from __future__ import annotations

from datetime import datetime, timedelta

from pgtrickle.schedule.kinds.base import DueFacts, Schedule

TEXT = "continuous"
#: Without changes it is refreshed this often all the same: it proves that nothing escaped (a changed definition of a
#: source, for example) and moves its freshness on.
PROOF_PERIOD = timedelta(seconds=10)


def parse(text: str) -> Schedule | None:
    """``continuous``, in any letter case."""
    return Schedule("continuous", TEXT, period=timedelta(0), promise=PROOF_PERIOD) if text.lower() == TEXT else None


def next_due(schedule: Schedule, facts: DueFacts) -> datetime | None:
    """Always at once; whether a source has changed is the runner's question."""
    return facts.now
