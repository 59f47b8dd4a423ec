"""When stream tables are refreshed: schedules, order, groups, and the runner that does it."""

from __future__ import annotations

from pgtrickle.schedule.kinds import KINDS, DueFacts, Schedule
from pgtrickle.schedule.text import next_due, parse

__all__ = ["KINDS", "DueFacts", "Schedule", "next_due", "parse"]
