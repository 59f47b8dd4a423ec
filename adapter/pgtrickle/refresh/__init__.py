"""Refreshes: one transaction moves a group of stream tables to one snapshot.

``plan`` and ``cost`` are pure: facts in, steps out. ``attempt`` and ``execute`` carry the steps out, ``run`` tries
until an attempt gets through, ``verify`` does the same and rolls back.
"""

from __future__ import annotations

from pgtrickle.refresh.attempt import NeedsReanalysis
from pgtrickle.refresh.compiled import Plans
from pgtrickle.refresh.member import PATIENCE_S, RUNNER_PATIENCE_S, Member, Request, Switch
from pgtrickle.refresh.memory import Memory
from pgtrickle.refresh.plan import Action, MemberPlan
from pgtrickle.refresh.run import Forgotten, result, results, run
from pgtrickle.refresh.session import Session
from pgtrickle.refresh.verify import verify

__all__ = [
    "PATIENCE_S",
    "RUNNER_PATIENCE_S",
    "Action",
    "Forgotten",
    "Member",
    "MemberPlan",
    "Memory",
    "NeedsReanalysis",
    "Plans",
    "Request",
    "Session",
    "Switch",
    "result",
    "results",
    "run",
    "verify",
]
