"""Gate: after a failure the runner waits before it tries again."""

from __future__ import annotations

from pgtrickle.gates.decision import Decision, GateFacts, Hold, Pass
from pgtrickle.gates.retry import LONGEST_DELAY


def check(facts: GateFacts) -> Decision:
    """Hold until ``retry_at``; a refresh by hand is tried at once."""
    if facts.manual or facts.retry_at is None or facts.retry_at <= facts.now:
        return Pass()
    if facts.retry_at > facts.now + LONGEST_DELAY:
        return Pass("the server's clock was set back since it failed")
    why = facts.last_error or "unknown error"
    return Hold(f"{facts.name} failed and is tried again later: {why}", until=facts.retry_at)
