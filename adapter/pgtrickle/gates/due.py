"""Gate: a scheduled refresh waits until the schedule wants it."""

from __future__ import annotations

from pgtrickle.gates.decision import Decision, GateFacts, Hold, Pass


def check(facts: GateFacts) -> Decision:
    """Hold what is not due yet; refreshes by hand and stale ancestors of what is due pass."""
    if facts.manual or facts.pulled or facts.due_at is None or facts.due_at <= facts.now:
        return Pass()
    return Hold(f"{facts.name} is not due yet", until=facts.due_at)
