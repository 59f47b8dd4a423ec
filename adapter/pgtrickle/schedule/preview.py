"""What the runner would do now, and what holds the others back; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pgtrickle import db, gates
from pgtrickle.catalog import groups
from pgtrickle.catalog.groups import GroupRow
from pgtrickle.catalog.model import Snapshot
from pgtrickle.gates import Hold, Pass, Refuse
from pgtrickle.refresh.cost import COUNT_CAP
from pgtrickle.refresh.plan import Window
from pgtrickle.refresh.windows import WindowOf, fetch_windows
from pgtrickle.schedule.agenda import Agenda, make_agenda
from pgtrickle.schedule.due import Due
from pgtrickle.schedule.expectation import Expectation, expect
from pgtrickle.schedule.situation import Situation
from pgtrickle.schedule.state import changes_query, fetch_changed, fetch_situation, pollable

Windows = Mapping[int, Mapping[int, Window]]
"""Catalog id -> OID of a base table -> its changes."""


@dataclass(frozen=True, slots=True)
class DueEntry:
    """A stream table that would be refreshed now.

    Attributes:
        order: position, from 1.
        group: number of its group; a group is one transaction on one snapshot.
        name: qualified name.
        mode: what its refresh would be: ``INITIAL``, ``RECOMPUTE``, ``FULL``, ``DIFFERENTIAL`` or ``NO_DATA``.
        changes: change rows of base tables that it would read.
        why: why it is due, or that it is the stale ancestor of what is due.
        mode_reason: why it would not be DIFFERENTIAL.
    """

    order: int
    group: int
    name: str
    mode: str
    changes: int
    why: str
    mode_reason: str | None


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
    """Look as the runner looks, and count the changes of what is due and of its ancestors."""
    situation = fetch_situation(conn)
    query = changes_query(pollable(situation))
    situation = situation.with_changes(fetch_changed(conn, query) if query is not None else ())
    agenda = make_agenda(situation)
    relids = [situation.tables[key].relid for group in agenda.groups for key in group.closure]
    rows = groups.fetch(conn, relids) if relids else ()
    return make_preview(situation, agenda, rows, fetch_windows(conn, _windows(rows)))


def _windows(rows: tuple[GroupRow, ...]) -> list[WindowOf]:
    return [
        WindowOf(row.id, source.relid, source.source_id, Snapshot.parse(row.snapshot), COUNT_CAP)
        for row in rows
        for source in row.sources
        if source.source_id is not None and row.snapshot is not None and row.is_populated
    ]


def make_preview(situation: Situation, agenda: Agenda, rows: tuple[GroupRow, ...], windows: Windows) -> Preview:
    """Decide; pure.

    Args:
        situation: all stream tables.
        agenda: what is due.
        rows: what is due, and its ancestors.
        windows: their changes.
    """
    by_id = {row.id: row for row in rows}
    expected: dict[int, Expectation] = {}
    for key in situation.dag.ordered(by_id):
        expected[key] = expect(by_id[key], windows.get(key, {}), sources_move=_sources_move(by_id, expected, key))
    due: list[DueEntry] = []
    for number, group in enumerate(agenda.groups, start=1):
        for key in situation.dag.ordered(group.closure & set(by_id)):
            if key in group.members:
                due.append(
                    _due(len(due) + 1, number, agenda.dues[key].state.name, expected[key], agenda.dues[key].reason)
                )
            elif expected[key].mode != "NO_DATA" and situation.tables[key].status != "SUSPENDED":
                name = situation.tables[key].name
                due.append(_due(len(due) + 1, number, name, expected[key], "stale ancestor of what is due"))
    planned = {entry.name for entry in due}
    held = [_held(item) for item in agenda.dues.values() if item.state.name not in planned]
    return Preview(situation.now, tuple(due), tuple(held))


def _sources_move(by_id: Mapping[int, GroupRow], expected: Mapping[int, Expectation], key: int) -> bool:
    """Whether a stream table that it reads has changed since it last looked, or is about to."""
    row = by_id[key]
    for source in row.sources:
        parent = by_id.get(source.stream_table_id or 0)
        if parent is None:
            continue
        if parent.refresh_no > row.consumed.get(str(source.relid), 0) or expected[parent.id].mode != "NO_DATA":
            return True
    return False


def _due(order: int, group: int, name: str, expected: Expectation, why: str) -> DueEntry:
    return DueEntry(order, group, name, expected.mode, expected.changes, why, expected.reason)


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
