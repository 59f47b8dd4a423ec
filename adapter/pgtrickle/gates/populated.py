"""Gate: a stream table that is just being created belongs to its creator."""

from __future__ import annotations

from pgtrickle.gates.decision import Decision, GateFacts, Hold, Pass


def check(facts: GateFacts) -> Decision:
    """Hold scheduled refreshes during the first load; by hand it may be loaded (its creator may have died)."""
    if facts.status == "INITIALIZING" and not facts.manual:
        return Hold(f"{facts.name} is being created; its first load is not finished")
    return Pass()
