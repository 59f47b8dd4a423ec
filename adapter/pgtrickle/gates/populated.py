"""Gate: a stream table that is just being created belongs to its creator."""

from __future__ import annotations

from pgtrickle.gates.decision import Decision, GateFacts, Hold, Pass


def check(facts: GateFacts) -> Decision:
    """Hold until the creator has captured every source and loaded; before that nobody knows what was missed."""
    if facts.status != "INITIALIZING":
        return Pass()
    return Hold(f"{facts.name} is being created; if its creator died, create_or_replace_stream_table finishes it")
