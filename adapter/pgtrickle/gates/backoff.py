"""Gate: after a failure the runner waits before it tries again."""

from __future__ import annotations

from pgtrickle.gates.decision import Decision, GateFacts, Hold, Pass


def check(facts: GateFacts) -> Decision:
    """Hold until ``retry_at``; a refresh by hand is tried at once."""
    if facts.manual or facts.retry_at is None or facts.retry_at <= facts.now:
        return Pass()
    why = facts.last_error or "unknown error"
    return Hold(f"{facts.name} failed and is tried again later: {why}", until=facts.retry_at)
