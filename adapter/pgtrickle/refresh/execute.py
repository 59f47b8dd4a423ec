"""Applying the plan of one member: stage by stage, with counted rows."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from psycopg.sql import SQL, Identifier

from pgtrickle import db
from pgtrickle.catalog import groups
from pgtrickle.catalog.model import Snapshot
from pgtrickle.db import Query
from pgtrickle.errors import InternalError, PermissionDenied, PgTrickleError
from pgtrickle.plan import InputKey, Stage
from pgtrickle.refresh.bindings import bindings_of
from pgtrickle.refresh.compiled import Compiled, own_path, pinned
from pgtrickle.refresh.member import Counts, Member
from pgtrickle.refresh.plan import Action, MemberPlan, stage_changes
from pgtrickle.refresh.session import Session
from pgtrickle.refresh.transaction import FAR, FRESH_PLANS, NEAR, ONE_PLAN, lock_again

if TYPE_CHECKING:
    from typing_extensions import LiteralString

#: The schemas that belong to the engine, in PostgreSQL's messages.
_OURS = re.compile(r"\bpgtrickle(_changes|_state)?\b")


@dataclass(frozen=True, slots=True)
class Applied:
    """The row that every apply statement returns."""

    deleted: int
    updated: int
    inserted: int
    expected_deleted: int
    expected_updated: int
    expected_inserted: int
    faults: int = 0


class CountMismatch(InternalError):
    """A statement wrote other rows than the delta demands: content or state is not what the frontier says."""


def execute_member(session: Session, member: Member, first: Sequence[Query] = ()) -> None:
    """Run the stages of a member inside the refresh's transaction; fills its counts, number and duration.

    Args:
        session: its transaction is open.
        member: its plan is made.
        first: statements to be sent before.
    """
    started = time.monotonic()
    plan, locked = member.need_plan(), member.need_locked()
    member.refresh_no = locked.refresh_no + 1
    if plan.action is not Action.NO_DATA:
        if plan.action is Action.DIFFERENTIAL:
            enter(session, member, near=True, few=member.is_small, first=first)
            member.counts, wrote = _run_stages(session, member, plan)
        elif not _loads(member) and _may_stage(session, member):
            member.counts, wrote = _run_staged(session, member)
        else:
            _switch_before(session, member)
            enter(session, member, near=False)
            member.counts, wrote = _run_stages(session, member, plan)
        _switch_after(session, member)
    else:
        wrote = False
    if not wrote:
        # Dependents wake up by the number, so it only moves when rows do. Rows of an inner stage count too: the next
        # refresh must not take what is in the stages' logs now for its own.
        member.refresh_no = locked.refresh_no
    member.duration_ms = (time.monotonic() - started) * 1000


def enter(
    session: Session,
    member: Member,
    *,
    near: bool,
    few: bool = False,
    first: Sequence[Query] = (),
    ask: Query | None = None,
) -> Mapping[str, Any]:
    """Make settings and role those of the stream table.

    Args:
        session: its transaction is open.
        member: whose.
        near: what follows is planned as deltas are.
        few: and it reads few changes: one plan serves for all such windows.
        first: statements to be executed before, in the same message.
        ask: a query to be executed after, in the same message.

    Returns:
        The first row of ``ask``; nothing without it.
    """
    row = member.row
    statements: list[Query] = [*first]
    if few != session.few:
        session.few = few
        statements.append(ONE_PLAN if few else FRESH_PLANS)
    if near != session.near:
        session.near = near
        statements.append(NEAR if near else FAR)
    if row.settings != session.pinned:
        session.pinned = row.settings
        statements.append(pinned(row.settings))
    role = None if row.owner == row.session_role else row.owner
    if role != session.role:
        statements.append(become(row.owner))
        session.role = role
    if ask is not None:
        statements.append(ask)
    if not statements:
        return {}
    rows = db.batch(session.conn, statements, dict, object_name=row.name)
    session.statements += 1
    return rows[0] if ask is not None else {}


def leave(session: Session, member: Member) -> list[Query]:
    """The statements that make role and search_path the engine's again; to be sent with the next ones."""
    statements: list[Query] = []
    if session.pinned != own_path(session.pinned):
        session.pinned = own_path(session.pinned)
        statements.append(pinned(session.pinned))
    if session.role is not None:
        session.role = None
        statements.append(become(member.row.session_role))
    return statements


def become(role: str) -> Query:
    """The statement that makes the transaction another role."""
    return SQL("SET LOCAL ROLE {}").format(Identifier(role))


def explain_owner(error: PgTrickleError, members: Sequence[Member]) -> None:
    """Say what to do if a stream table was given to a role that may not read what belongs to the engine; in place."""
    if not isinstance(error, PermissionDenied) or error.hint or not _OURS.search(error.message):
        return
    for row in (member.row for member in members if member.row.owner != member.row.session_role):
        role, owner = Identifier(row.session_role).as_string(None), Identifier(row.owner).as_string(None)
        error.detail = (
            f"{row.quoted_name} belongs to {row.owner}, and so its query and the changes are read as that role."
        )
        error.hint = (
            "Give it back to the engine's role, and let the other one read it:"
            f" ALTER TABLE {row.quoted_name} OWNER TO {role}; GRANT SELECT ON {row.quoted_name} TO {owner}"
        )
        return


def _run_stages(session: Session, member: Member, plan: MemberPlan) -> tuple[Counts, bool]:
    """The rows that the root wrote, and whether any stage wrote some."""
    compiled, counts, wrote = _compiled(member), Counts(), False
    if plan.action is not Action.DIFFERENTIAL and not _loads(member) and _may_stage(session, member):
        return _run_staged(session, member)
    params = _params(member)
    changed: set[InputKey] = set(plan.changed)
    for stage in compiled.plan.stages:
        inputs = stage_changes(stage, frozenset(changed))
        if plan.action is Action.DIFFERENTIAL and not inputs:
            counts = Counts()
            continue
        statements = _statements(session.conn, compiled, member, stage, inputs)
        if not statements:
            counts = Counts()
            continue
        *first, last = statements
        for statement in first:
            db.execute(session.conn, statement, params, object_name=member.row.name)
            session.statements += 1
        usual = plan.action is Action.DIFFERENTIAL and member.is_small and compiled.is_usual(stage, inputs)
        counts = _apply(session, member, stage, last, params, usual=usual)
        if counts.total:
            wrote = True
            changed.add(InputKey("stage", stage.number))
    return counts, wrote


def _compiled(member: Member) -> Compiled:
    compiled = member.need_compiled()
    return compiled if member.whole is None else compiled.whole


_STAGING = SQL("SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY') AS allowed")
_PLACEHOLDER = re.compile(r"%%|%\(refresh_no\)s")


def _may_stage(session: Session, member: Member) -> bool:
    """Enter; whether the role may create temporary tables."""
    return bool(enter(session, member, near=False, ask=_STAGING)["allowed"])


def _run_staged(session: Session, member: Member) -> tuple[Counts, bool]:
    """Recompute all stages by way of temporary tables, in one message; as `_run_stages`.

    Where the stream table is about to get other columns, everything is computed before: two messages.
    """
    compiled = _compiled(member)
    *inner, root = compiled.plan.stages
    todo = [(stage, compiled.recompute(session.conn, stage, staged=True)) for stage in inner]
    if member.switch is None or member.switch.before is None:
        todo.append((root, compiled.recompute(session.conn, root, staged=True)))
        counts = _send_staged(session, member, todo)
    else:
        counts = _send_staged(session, member, todo, compiled.compute(session.conn, root))
        _switch_before(session, member)
        compiled = _compiled(member)
        enter(session, member, near=False)
        todo = [(root, compiled.recompute(session.conn, root, staged=True, computed=True))]
        counts += _send_staged(session, member, todo)
    return counts[-1], any(each.total for each in counts)


def _send_staged(
    session: Session, member: Member, todo: Sequence[tuple[Stage, tuple[SQL, ...]]], last: Sequence[SQL] = ()
) -> list[Counts]:
    """Send stages with their statements, and what comes last, in one message; what each stage wrote."""
    statements: list[Query] = []
    ends: list[tuple[Stage, int]] = []
    for stage, texts in todo:
        statements += [_without_parameters(text, member.refresh_no) for text in texts]
        ends.append((stage, len(statements) - 1))
    statements += [_without_parameters(text, member.refresh_no) for text in last]
    found = db.batch_sets(session.conn, statements, object_name=member.row.name)
    session.statements += 1
    return [checked(member, stage, Applied(**found[end][0])) for stage, end in ends]


def _switch_before(session: Session, member: Member) -> None:
    """What a new definition does to the table before its rows are written; they are written by its new columns then."""
    if member.switch is None or member.switch.before is None:
        return
    _resign(session, member)
    member.switch.before()
    (member.row,) = (row for row in groups.fetch(session.conn, [member.row.relid]) if row.id == member.row.id)
    member.need_compiled().bind(bindings_of(member.row, member.need_compiled().plan))


def _switch_after(session: Session, member: Member) -> None:
    """What a new definition does to the table after its rows were written; what is recorded of it is what it is now."""
    if member.switch is None:
        return
    _resign(session, member)
    if member.switch.after is not None:
        member.switch.after()
    member.switch = None
    lock_again(session, [member])
    member.present, member.outdated = member.need_locked().facts, True


def _resign(session: Session, member: Member) -> None:
    """Work as the engine again."""
    statements = leave(session, member)
    if statements:
        db.batch(session.conn, [*statements, SQL("SELECT 1")], dict)
        session.statements += 1


def _without_parameters(statement: SQL, refresh_no: int) -> SQL:
    """The statement for a message of several: the protocol for those has no parameters."""
    values = {"%%": "%", "%(refresh_no)s": f"{refresh_no}::pg_catalog.int8"}
    filled = _PLACEHOLDER.sub(lambda match: values[match[0]], statement.as_string(None))
    return SQL(cast("LiteralString", filled))


def _statements(
    conn: db.Connection, compiled: Compiled, member: Member, stage: Stage, inputs: frozenset[InputKey]
) -> tuple[SQL, ...]:
    action = member.need_plan().action
    if action is Action.DIFFERENTIAL:
        return compiled.refresh(conn, stage, inputs, few=member.is_small)
    if _loads(member):
        return compiled.load(conn, stage)
    return compiled.recompute(conn, stage, staged=False)


def _loads(member: Member) -> bool:
    """A first load may skip the comparison, unless dependents wait for the rows in its log."""
    return member.need_plan().action is Action.INITIAL and not member.row.has_log


def _apply(
    session: Session, member: Member, stage: Stage, statement: SQL, params: dict[str, Any], *, usual: bool
) -> Counts:
    session.statements += 1
    if _loads(member):
        loaded = db.execute(session.conn, statement, params, object_name=member.row.name)
        return Counts(inserted=max(loaded, 0))
    done = db.fetch_one(session.conn, statement, Applied, params, object_name=member.row.name, prepare=usual)
    if done is None:
        raise InternalError("an apply statement returned no counts", object_name=member.row.name)
    return checked(member, stage, done)


def checked(member: Member, stage: Stage, done: Applied) -> Counts:
    """The rows written, if they are what the delta demands."""
    written = (done.deleted, done.updated, done.inserted)
    expected = (done.expected_deleted, done.expected_updated, done.expected_inserted)
    if written != expected or done.faults:
        raise CountMismatch(
            "The rows written are not the rows of the delta.",
            object_name=member.row.name,
            detail=f"stage {stage.number}: deleted, updated, inserted {written}, expected {expected}, "
            f"{done.faults} faults",
            hint="The table keeps its content; verify(repair=True) builds it again. Did something else write to it?",
        )
    return Counts(*written)


def _params(member: Member) -> dict[str, Any]:
    locked = member.need_locked()
    frontier = Snapshot.parse(locked.snapshot) if locked.snapshot else Snapshot("0", "0", ())
    params: dict[str, Any] = {"xmax": frontier.xmax, "xip": list(frontier.xip), "refresh_no": member.refresh_no}
    params.update(xmin=frontier.xmin, until=Snapshot.parse(locked.now_snapshot).xmax)
    for source in member.row.sources:
        if source.kind == "stream_table":
            params[f"consumed_{source.relid}"] = int(locked.consumed.get(str(source.relid), 0))
            params[f"until_{source.relid}"] = member.consumed.get(source.relid, 0)
    return params
