"""The end of a refresh: frontiers, history and trail in one message with COMMIT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.catalog import groups
from pgtrickle.db import Query
from pgtrickle.refresh import own_writes
from pgtrickle.refresh.attempt import cost_of
from pgtrickle.refresh.cost import CostHistory, learn_differential, learn_full
from pgtrickle.refresh.execute import leave
from pgtrickle.refresh.member import Member, Request
from pgtrickle.refresh.plan import Action
from pgtrickle.refresh.session import Session

_COMMIT = SQL("COMMIT")
#: A crash that loses a refresh loses content and frontier together, and never what it has read: the log of the server
#: is in order. The next one makes up for it, so only somebody who waits for the result has to wait for the disk.
_LAZY_COMMIT = SQL("SET LOCAL synchronous_commit = off")


def finish(session: Session, request: Request, members: Sequence[Member]) -> None:
    """Check what can only be checked at the end, record what the members did, and commit.

    Raises:
        StatementFailed: the refresh wrote to its own sources (``groups.OWN_WRITES``), or the server refused to commit.
    """
    moved = [member for member in members if member.moved]
    quiet = [member for member in members if member.requested and member.running and not member.moved]
    done = [*moved, *quiet]
    statements: list[Query] = leave(session, done[0]) if done else []
    if not moved or session.initiated_by == "runner":
        statements.append(_LAZY_COMMIT)
    frontiers = [_frontier(member) for member in done]
    statements.append(
        groups.finish(
            written=own_writes.written(moved),
            members=frontiers,
            # Only what succeeded is remembered.
            settled=[_settled(member) for member in done if member.known is None],
            entries=[_entry(session, member) for member in (moved if session.initiated_by == "runner" else done)],
            trail=[record for member in done if not _decided_before(member) for record in trail_records(member)],
        )
    )
    for member in done:
        if member.left_incomplete is not None:  # what succeeded was just forgiven
            statements.append(groups.keep_incomplete(member.row.id, member.left_incomplete))
    db.tell(session.conn, [*statements, _COMMIT])
    session.statements += 1
    session.memory.keep(request, members, frontiers)
    for member in done:
        if member.compiled is not None:
            member.compiled.last_was_small = member.is_small
            if member.moved and not member.is_small:
                member.compiled.last_written = member.counts.total
        if member.moved and member.is_small and member.need_plan().action is Action.DIFFERENTIAL:
            member.need_compiled().small.add(member.need_plan().changed)


def _decided_before(member: Member) -> bool:
    """Whether the gates have said the same the last time, and that is recorded."""
    return member.known is not None and member.known.trail == member.trail


def _frontier(member: Member) -> dict[str, Any]:
    locked = member.need_locked()
    return {
        "id": member.row.id,
        "moved": member.moved,
        "refresh_no": member.refresh_no,
        "consumed": {str(relid): number for relid, number in member.consumed.items()}
        if member.moved
        else dict(locked.consumed),
        "cost": _learned(member).stored(),
    }


def _learned(member: Member) -> CostHistory:
    plan, cost = member.need_plan(), cost_of(member)
    if plan.action is Action.NO_DATA:
        return cost
    if plan.action is Action.DIFFERENTIAL:
        return learn_differential(cost, plan.changes, member.duration_ms)
    return learn_full(cost, member.duration_ms, by_decision=plan.by_cost, load=plan.action is Action.INITIAL)


def _settled(member: Member) -> dict[str, Any]:
    return {"id": member.row.id, "fingerprint": dict(member.present or {}) if member.outdated else None}


def _entry(session: Session, member: Member) -> dict[str, Any]:
    plan, locked = member.need_plan(), member.need_locked()
    return {
        **entry_base(member, session.initiated_by),
        "refresh_no": member.refresh_no,
        "group_id": locked.now_snapshot,
        "started_at": locked.started_at,
        "action": plan.action.value,
        "reason": plan.reason,
        "rows_inserted": member.counts.inserted,
        "rows_updated": member.counts.updated,
        "rows_deleted": member.counts.deleted,
        "changes": plan.changes,
        "duration_ms": member.duration_ms,
        "snapshot": locked.now_snapshot,
    }


def entry_base(member: Member, initiated_by: str) -> dict[str, Any]:
    """The keys that every history row has."""
    return {
        "stream_table_id": member.row.id,
        "schema_name": member.row.schema_name or member.row.registered_schema,
        "table_name": member.row.table_name or member.row.registered_name,
        "started_at": member.row.now.isoformat(),
        "rows_inserted": 0,
        "rows_updated": 0,
        "rows_deleted": 0,
        "duration_ms": 0.0,
        "initiated_by": initiated_by,
    }


def trail_records(member: Member) -> list[Mapping[str, Any]]:
    """The gates' decisions about a member, as rows of the trail."""
    return [
        {
            "stream_table_id": member.row.id,
            "gate": verdict.gate,
            "position": position,
            "decision": verdict.decision.word.upper(),
            "reason": verdict.decision.reason or None,
        }
        for position, verdict in enumerate(member.trail)
    ]
