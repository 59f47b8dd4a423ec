"""Gates: pure checks that pass, hold or refuse a refresh, in one ordered tuple.

To add one: a file with ``check(facts) -> Pass | Hold | Refuse``, what it must know as a field of ``GateFacts``, and
its place in ``GATES``. The first that does not pass decides; the trail of decisions is stored with the stream table.
"""

from __future__ import annotations

from collections.abc import Callable

from pgtrickle.gates import backoff, due, populated, status
from pgtrickle.gates.decision import Decision, GateFacts, Hold, Pass, Refuse, Verdict

__all__ = ["GATES", "Decision", "GateFacts", "Hold", "Pass", "Refuse", "Verdict", "decide", "verdict"]

GATES: tuple[tuple[str, Callable[[GateFacts], Decision]], ...] = (
    ("status", status.check),
    ("populated", populated.check),
    ("backoff", backoff.check),
    ("due", due.check),
)


def decide(facts: GateFacts) -> tuple[Verdict, ...]:
    """The trail: every gate's verdict up to the first that does not pass."""
    trail: list[Verdict] = []
    for name, check in GATES:
        trail.append(Verdict(name, check(facts)))
        if not isinstance(trail[-1].decision, Pass):
            break
    return tuple(trail)


def verdict(trail: tuple[Verdict, ...]) -> Decision:
    """What a trail amounts to."""
    return trail[-1].decision if trail else Pass()
