"""What the runner would do now, and what holds the others back; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pgtrickle import db, gates
from pgtrickle.gates import Hold, Pass, Refuse
from pgtrickle.schedule.agenda import make_agenda
from pgtrickle.schedule.due import Due, TableState
from pgtrickle.schedule.situation import Situation
from pgtrickle.schedule.state import changes_query, fetch_changed, fetch_situation


@dataclass(frozen=True, slots=True)
class DueEntry:
    """A stream table that would be refreshed now.

    Attributes:
        order: position, from 1.
        group: number of its group; a group is one transaction on one snapshot.
        name: qualified name.
        mode: what its refresh would be, as far as that can be told from outside: ``INITIAL``, ``RECOMPUTE``, ``FULL``,
            ``DIFFERENTIAL``, ``AUTO`` (the cost decides) or ``NO_DATA``.
        why: why it is due, or whose stale ancestor it is.
    """

    order: int
    group: int
    name: str
    mode: str
    why: str


@dataclass(frozen=True, slots=True)
class HeldEntry:
    """A stream table that would not be refreshed now.

    Attributes:
        name: qualified name.
        gate: the gate that decided.
        decision: ``hold`` or ``refuse``.
        until: when that may change by itself; None if it is not known, or never.
        final: only a person can change it.
        why: the gate's reason.
        trail: every gate that was asked, with its decision.
    """

    name: str
    gate: str
    decision: str
    until: datetime | None
    final: bool
    why: str
    trail: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What the runner would do now."""

    now: datetime
    due: tuple[DueEntry, ...]
    held: tuple[HeldEntry, ...]


def fetch_preview(conn: db.Connection) -> Preview:
    """Look as the runner looks, and at the changes of every stream table."""
    situation = fetch_situation(conn)
    query = changes_query(situation.sources)
    return make_preview(situation.with_changes(fetch_changed(conn, query) if query is not None else ()))


def make_preview(situation: Situation) -> Preview:
    """Decide; pure.

    Args:
        situation: with the changes of all stream tables.
    """
    agenda = make_agenda(situation)
    due: list[DueEntry] = []
    for number, group in enumerate(agenda.groups, start=1):
        for key in situation.dag.ordered(group.closure):
            state = situation.tables[key]
            mode = expected_mode(state)
            if key in group.members:
                due.append(DueEntry(len(due) + 1, number, state.name, mode, agenda.dues[key].reason))
            elif mode != "NO_DATA" and state.status != "SUSPENDED":
                due.append(DueEntry(len(due) + 1, number, state.name, mode, "stale ancestor of what is due"))
    planned = {entry.name for entry in due}
    held = [_held(item) for item in agenda.dues.values() if item.state.name not in planned]
    return Preview(situation.now, tuple(due), tuple(held))


def expected_mode(state: TableState) -> str:
    """What a refresh of this stream table would be, by what is known from outside."""
    if not state.populated:
        return "INITIAL"
    if state.recompute_reason is not None:
        return "RECOMPUTE"
    if not state.changed and state.watched:
        return "NO_DATA"
    return state.effective_mode


def _held(due: Due) -> HeldEntry:
    trail = tuple((verdict.gate, verdict.decision.word) for verdict in due.trail)
    decision = gates.verdict(due.trail)
    gate = due.trail[-1].gate if due.trail else "due"
    match decision:
        case Hold(reason=reason, until=until):
            why = f"{reason}; {due.reason}" if gate == "due" else reason
            return HeldEntry(due.state.name, gate, decision.word, until, False, why, trail)
        case Refuse(reason=reason):
            return HeldEntry(due.state.name, gate, decision.word, None, True, reason, trail)
        case Pass():
            return HeldEntry(due.state.name, "due", "hold", due.at, False, due.reason, trail)
