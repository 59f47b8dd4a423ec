"""Gate: a suspended stream table is not refreshed, not even by hand."""

from __future__ import annotations

from pgtrickle.gates.decision import Decision, GateFacts, Pass, Refuse


def check(facts: GateFacts) -> Decision:
    """Refuse while suspended; ERROR passes, so that a retry can mend it."""
    if facts.status != "SUSPENDED":
        return Pass()
    why = f" after repeated errors: {facts.last_error}" if facts.last_error else ""
    return Refuse(f"{facts.name} is suspended{why}", hint="resume it: pgtrickle alter --status ACTIVE, or resume()")
