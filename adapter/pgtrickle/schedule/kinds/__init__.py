"""The kinds of schedules: one module each, tried in this order."""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.schedule.kinds import calculated, continuous, cron, duration
from pgtrickle.schedule.kinds.base import DueFacts, Kind, Schedule

KINDS: Mapping[str, Kind] = {
    "continuous": continuous,
    "calculated": calculated,
    "duration": duration,
    "cron": cron,
}

__all__ = ["KINDS", "DueFacts", "Kind", "Schedule"]
