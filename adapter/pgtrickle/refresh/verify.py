"""The proof: refresh differentially, compare on the same snapshot, roll back."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg.sql import SQL, Identifier

from pgtrickle import db
from pgtrickle.catalog import groups
from pgtrickle.errors import InternalError, LockTimeout, PermissionDenied, StatementFailed, TransactionConflict
from pgtrickle.names import STATE_SCHEMA
from pgtrickle.plan import MOMENTS, Plan
from pgtrickle.refresh import own_writes, transaction
from pgtrickle.refresh.attempt import ChangesRefused, NeedsRepair, attempt
from pgtrickle.refresh.execute import CountMismatch, enter, execute_member, explain_owner, leave
from pgtrickle.refresh.group import build_group
from pgtrickle.refresh.member import Member, Request
from pgtrickle.refresh.plan import Action
from pgtrickle.refresh.session import Session
from pgtrickle.results import VerifyResult
from pgtrickle.rewrite.classes import computes_floats

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5
_CANCELLED = (
    "it adds up floating-point numbers, and computing them again from the sources changes nothing: where large numbers"
    " cancel each other, PostgreSQL's own sum is no measure"
)
_SKIPPED_HOUR = (
    "it compares local times with moments, and computing it again from the sources changes nothing: where daylight"
    " saving skips an hour, PostgreSQL's own plans lose or repeat rows"
)


_SUM = SQL("pg_catalog.trim_scale(pg_catalog.sum({0}::pg_catalog.numeric))::text AS {0}")
_EXACT = SQL(
    "SELECT a.attname AS name FROM pg_catalog.pg_attribute a"
    " WHERE a.attrelid = pg_catalog.to_regclass('pgtrickle_state.' || pg_catalog.quote_ident(%(table)s))"
    " AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN (20, 21, 23, 1700)"
)


@dataclass(frozen=True, slots=True)
class _Difference:
    missing: int
    extra: int


def verify(session: Session, relid: int, *, state: bool = False) -> VerifyResult:
    """Compare a stream table with its query, as they are after a differential refresh that is rolled back.

    Args:
        session: the engine's.
        relid: OID of the stream table.
        state: also compare what is kept beside it, from which later refreshes go on, with what a recompute makes of it.

    Returns:
        ``proven`` is None with a reason where the comparison would not say anything about differential maintenance.

    Raises:
        NeedsReanalysis: the definition has to be compiled again first.
        LockTimeout, TransactionConflict: others kept it locked.
    """
    request = Request(relids=(relid,), prove=True)
    deadline, pause = time.monotonic() + request.patience_s, _FIRST_PAUSE_S
    while True:
        try:
            return _attempt(session, request, state=state)
        except (NeedsRepair, ChangesRefused) as error:
            return VerifyResult(_name(session, relid), None, reason=f"a recompute is due: {error.message}")
        except (TransactionConflict, LockTimeout):
            if time.monotonic() + pause > deadline:
                raise
        finally:
            transaction.rollback(session.conn)
        time.sleep(pause * random.uniform(0.5, 1.5))  # jitter, no secret
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _name(session: Session, relid: int) -> str:
    transaction.rollback(session.conn)
    rows = groups.fetch(session.conn, [relid])
    return next((row.quoted_name for row in rows if row.relid == relid), str(relid))


def _attempt(session: Session, request: Request, *, state: bool) -> VerifyResult:
    members = build_group(session, request)
    try:
        return _proof(session, request, members, state=state)
    except PermissionDenied as error:
        explain_owner(error, members)
        raise


def _proof(session: Session, request: Request, members: Sequence[Member], *, state: bool) -> VerifyResult:
    wanted = next(member for member in members if member.requested)
    unproven = _before(wanted)
    if unproven is not None:
        return VerifyResult(wanted.row.quoted_name, None, reason=unproven)
    try:
        members = list(attempt(session, members, request))
    except CountMismatch as error:
        return VerifyResult(wanted.row.quoted_name, False, reason=str(error.detail or error.message))
    _check_own_writes(session, members)
    unproven = _after(wanted)
    if unproven is not None:
        return VerifyResult(wanted.row.quoted_name, None, reason=unproven)
    found = _compare(session, wanted)
    differs = _state_differs(session, wanted) if state and found.proven else None
    return found if differs is None else replace(found, proven=False, reason=differs)


def _check_own_writes(session: Session, members: Sequence[Member]) -> None:
    moved = [member for member in members if member.moved]
    written = own_writes.written(moved)
    if written:
        try:
            db.batch(session.conn, [*leave(session, moved[0]), groups.refuse_own_writes(written)], dict)
        except StatementFailed as error:
            transaction.rollback(session.conn)
            raise own_writes.explained(session.conn, members, error) from error


def _before(wanted: Member) -> str | None:
    """Reasons that are known without a refresh."""
    if wanted.error is not None:
        return wanted.error.message
    if wanted.skipped is not None:
        return wanted.skipped
    plan = wanted.need_compiled().plan
    if plan.mode == "FULL":
        return f"it runs FULL: {plan.full_reason or 'asked for'}"
    return None


def _after(wanted: Member) -> str | None:
    if wanted.error is not None:
        return f"the refresh failed: {wanted.error.message}"
    if wanted.skipped is not None:
        return wanted.skipped
    plan = wanted.need_plan()
    if plan.action not in (Action.NO_DATA, Action.DIFFERENTIAL):
        return f"a recompute is due: {plan.reason}"
    return None


def _compare(session: Session, wanted: Member) -> VerifyResult:
    enter(session, wanted, near=False)
    compiled = wanted.need_compiled()
    doubt = _doubt(compiled.plan)
    try:
        found = db.fetch_one(session.conn, compiled.verify(session.conn), _Difference, {}, object_name=wanted.row.name)
    except StatementFailed as error:
        if doubt != _SKIPPED_HOUR:
            raise
        return VerifyResult(wanted.row.quoted_name, None, reason=f"the query itself fails: {error.message}")
    if found is None:
        raise InternalError("the verify statement returned nothing", object_name=wanted.row.name)
    equal = found.missing == 0 and found.extra == 0
    reason = None if equal else f"{found.missing} rows are missing, {found.extra} rows are too many"
    if not equal and doubt is not None and _is_recomputed_to_the_same(session, wanted):
        return VerifyResult(wanted.row.quoted_name, None, found.missing, found.extra, f"{reason}, but {doubt}")
    return VerifyResult(wanted.row.quoted_name, equal, found.missing, found.extra, reason)


def _state_differs(session: Session, wanted: Member) -> str | None:
    """What recomputing everything changes in the state and output tables of the stages, or None.

    Compared are rows and sums of what is exact: representatives and floating-point numbers may differ and be right.
    """
    names = [name for stage in wanted.row.stages for name in (stage["output"], stage["state"]) if name]
    db.batch(session.conn, [*leave(session, wanted), SQL("SELECT 1")], dict)
    before = _sums(session, names)
    wanted.plan = replace(wanted.need_plan(), action=Action.FULL)
    try:
        execute_member(session, wanted)
    except CountMismatch as error:
        return str(error.detail or error.message)
    db.batch(session.conn, [*leave(session, wanted), SQL("SELECT 1")], dict)
    after = _sums(session, names)
    wrong = [name for name in names if before[name] != after[name]]
    return f"it is equal, but its state is not what a recompute makes of it: {', '.join(wrong)}" if wrong else None


def _sums(session: Session, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """The number of rows of tables of state and the sums of their exact columns, by table and column."""
    found: dict[str, dict[str, str | None]] = {}
    for name in names:
        columns = [row["name"] for row in db.fetch_all(session.conn, _EXACT, dict, {"table": name})]
        sums = [_SUM.format(Identifier(column)) for column in columns]
        selected = SQL(", ").join([SQL("pg_catalog.count(*)::text AS rows"), *sums])
        query = SQL("SELECT {} FROM {}").format(selected, Identifier(STATE_SCHEMA, name))
        (found[name],) = db.fetch_all(session.conn, query, dict)
    return found


def _doubt(plan: Plan) -> str | None:
    """Why what PostgreSQL answers to the query may not be its right answer."""
    if any(rewrite.step == MOMENTS for rewrite in plan.rewrites):
        return _SKIPPED_HOUR
    return _CANCELLED if computes_floats(plan) else None


def _is_recomputed_to_the_same(session: Session, wanted: Member) -> bool:
    """Whether computing everything again from the sources, by the plan, would write nothing.

    Where large values cancel each other, the sum that PostgreSQL computes is off by far more than the tolerance, and
    depends on the order of the rows; where an hour is skipped, its joins depend on their method. Such an answer says
    nothing about the stream table then.
    """
    wanted.plan = replace(wanted.need_plan(), action=Action.FULL)
    try:
        execute_member(session, wanted)
    except CountMismatch:
        return False
    return wanted.refresh_no == wanted.need_locked().refresh_no
