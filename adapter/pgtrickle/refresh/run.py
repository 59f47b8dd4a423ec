"""A refresh from outside: attempts until one gets through, records, results."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from pgtrickle import capture, db
from pgtrickle.errors import (
    CatalogError,
    ConnectionFailed,
    LockTimeout,
    PgTrickleError,
    RefreshBusy,
    RefreshError,
    StatementFailed,
    TransactionConflict,
)
from pgtrickle.refresh import foreseen, own_writes, transaction
from pgtrickle.refresh.attempt import (
    GONE,
    ChangesRefused,
    NeedsCare,
    NeedsReanalysis,
    NeedsRepair,
    StagesRefused,
    attempt,
)
from pgtrickle.refresh.execute import explain_owner
from pgtrickle.refresh.failure import record_failures
from pgtrickle.refresh.finish import finish
from pgtrickle.refresh.group import build_group, recall_group
from pgtrickle.refresh.member import Member, Request
from pgtrickle.refresh.plan import ASKED_FOR, Action, MemberPlan
from pgtrickle.refresh.session import Session
from pgtrickle.results import Notice, RefreshResult

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5
#: Partitions may come and go again while their capture is repaired.
_MOST_REPAIRS = 5
_MOST_GONE = 3
#: After these there is another attempt, or another who knows what to do.
_AGAIN = (
    TransactionConflict,
    LockTimeout,
    ConnectionFailed,
    CatalogError,
    NeedsCare,
    NeedsReanalysis,
    NeedsRepair,
    ChangesRefused,
    StagesRefused,
)


class Forgotten(PgTrickleError):
    """A refresh that relied on memory cannot be made so; what it was asked for has to be looked up."""


def run(session: Session, request: Request) -> tuple[Member, ...]:
    """Move the stream tables asked for, and their stale ancestors, in one transaction.

    Returns:
        All of them in dependency order. Those that failed or were held back say so; nothing is raised for them.

    Raises:
        RefreshBusy: other sessions kept refreshing them for ``request.patience_s``.
        LockTimeout: a source stayed locked for that long.
        NeedsReanalysis: a definition has to be compiled again first; the lifecycle does that.
        ConnectionFailed: the connection is gone.
        CatalogError: it was migrated while we worked.
        Forgotten: the OIDs were not sure.
    """
    done = _remembered(session, request)
    if done is not None:
        return done
    if not request.sure:
        raise Forgotten("what was remembered of the stream table has changed")
    return _persistently(session, request)


def _persistently(session: Session, request: Request) -> tuple[Member, ...]:
    """One attempt after the other."""
    deadline = time.monotonic() + request.patience_s
    pause, gone, repairs = _FIRST_PAUSE_S, 0, 0
    while True:
        members: list[Member] = []
        try:
            members = build_group(session, request)
            return _once(session, members, request, patient=gone < _MOST_GONE)
        except (TransactionConflict, LockTimeout, StatementFailed) as error:
            transaction.rollback(session.conn)
            gone += _is_gone(session, members, request, error, gone)
            if time.monotonic() + pause > deadline:
                raise _give_up(error, members) from error
        except ChangesRefused as error:
            transaction.rollback(session.conn)
            _log.warning("%s is recomputed: %s", _names(members), error.reason)
            request = replace(request, recompute={**request.recompute, error.stream_table_id: error.reason})
            continue
        except StagesRefused as error:
            transaction.rollback(session.conn)
            _log.warning("%s is %s", error.name, error.reason)
            request = replace(request, whole={**request.whole, error.name: error.reason})
            continue
        except NeedsCare as error:
            transaction.rollback(session.conn)
            _log.debug("%s failed: %s", error.object_name, error.message)
            request = replace(request, careful=True)
            continue
        except NeedsRepair as error:
            transaction.rollback(session.conn)
            repairs += 1
            if repairs > _MOST_REPAIRS:
                raise RefreshError(
                    f"Capture cannot be repaired: {error.message}", object_name=_names(members)
                ) from error
            request = _repair(session, request, error)
            continue
        except BaseException:
            # Also for what is not an error of ours: the next call must not find this transaction open.
            transaction.rollback(session.conn)
            raise
        time.sleep(pause * random.uniform(0.5, 1.5))  # jitter, no secret
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _repair(session: Session, request: Request, error: NeedsRepair) -> Request:
    """Mend capture; whose sources stay locked by a long transaction is left out, so that the others go on.

    Returns:
        The request to go on with.

    Raises:
        LockTimeout: a definition is being replaced, which is all or nothing.
    """
    policy = db.LockPolicy(give_up_after_s=request.patience_s)
    try:
        capture.repair(session.conn, error.stream_table_ids, policy=policy)
    except LockTimeout:
        if request.prelude is not None:
            raise
    else:
        return request
    broken: dict[int, PgTrickleError] = {}
    for stream_table_id in error.stream_table_ids:
        try:
            capture.repair(session.conn, (stream_table_id,), policy=db.LockPolicy(give_up_after_s=0))
        except LockTimeout as locked:
            locked.message = f"Capture has to be mended ({error.message}), but its source is locked: {locked.message}"
            broken[stream_table_id] = locked
    return replace(request, broken={**request.broken, **broken})


def _is_gone(session: Session, members: Sequence[Member], request: Request, error: PgTrickleError, before: int) -> bool:
    """Whether something is not there any more that may be there again at the next attempt.

    Raises:
        NeedsReanalysis: it is neither being renamed at this moment nor a change buffer; it may be a table of the state.
    """
    if error.sqlstate not in GONE:
        if isinstance(error, (StatementFailed, db.GaveUp)):
            raise error
        return False
    if isinstance(error, StatementFailed) and before == _MOST_GONE:
        raise error
    if before == _MOST_GONE - 1:
        ids = tuple(member.row.id for member in members if member.running)
        capture.repair(session.conn, ids)
        if not request.mended.issuperset(ids) and request.prelude is None:
            raise NeedsReanalysis(ids, error.message) from error
    return True


def _remembered(session: Session, request: Request) -> tuple[Member, ...] | None:
    """One attempt without reading what this session has read before; None if it has not, or nothing has come of it."""
    known = session.memory.recall(request)
    if known is None:
        return None
    try:
        begun = foreseen.begin(session, known, request)
        if begun is not None and begun.plan is not None:
            finish(session, request, [begun])
            return (begun,)
        members = recall_group(session, request, known)
        if members is None:
            transaction.rollback(session.conn)
            return None
        if begun is not None:
            members[0].locked = begun.locked
        return _once(session, members, request, patient=True)
    except PgTrickleError as error:
        transaction.rollback(session.conn)
        session.memory.forget(request.relids)
        _log.debug("%s is read again: %s", ", ".join(one.row.name for one in known), error.message)
        return None
    except BaseException:
        transaction.rollback(session.conn)
        session.memory.forget(request.relids)
        raise


def _once(session: Session, members: Sequence[Member], request: Request, *, patient: bool) -> tuple[Member, ...]:
    """One attempt with its records; ``patient``: what has vanished under it is to be tried again, not recorded."""
    try:
        members = attempt(session, members, request)
        _commit(session, request, members)
    except _AGAIN:
        raise
    except PgTrickleError as error:
        transaction.rollback(session.conn)
        explained = own_writes.explained(session.conn, members, error)
        explain_owner(explained, members)
        # With a prelude it is not the definition that stays which has failed.
        if request.prelude is not None or (patient and error.sqlstate in GONE):
            raise explained from error
        _blame(members, explained)
    record_failures(session, members)
    return tuple(members)


def _commit(session: Session, request: Request, members: Sequence[Member]) -> None:
    if any(member.running and member.locked is not None for member in members):
        finish(session, request, members)
    else:
        transaction.rollback(session.conn)


def _blame(members: Sequence[Member], error: PgTrickleError) -> None:
    """The whole transaction is gone: the member that was at work is at fault, the others could not go on."""
    running = [member for member in members if member.running]
    guilty = next((member for member in running if member.row.name == error.object_name), None)
    for member in running:
        if guilty is None or member is guilty:
            member.error = error
        else:
            member.skipped = f"{guilty.row.name}, refreshed in the same transaction, failed: {error.message}"


def _names(members: Sequence[Member]) -> str:
    return ", ".join(member.row.name for member in members if member.requested)


def _give_up(error: PgTrickleError, members: Sequence[Member]) -> PgTrickleError:
    names = _names(members)
    if isinstance(error, LockTimeout) and "frontiers" not in (error.detail or ""):
        return LockTimeout(
            "A source stayed locked, so the refresh could not begin.",
            object_name=names,
            detail=error.detail or error.message,
            hint="See pg_locks for who holds ACCESS EXCLUSIVE on it.",
        )
    return RefreshBusy(
        "Other sessions kept refreshing it.", object_name=names, detail=error.message, hint="Try again later."
    )


def results(session: Session, members: Sequence[Member], statements: int) -> tuple[RefreshResult, ...]:
    """What the members did, for callers; one line each, in dependency order."""
    return tuple(_result(member, statements) for member in members if member.requested or _noteworthy(member))


def result(session: Session, members: Sequence[Member], relid: int, statements: int) -> RefreshResult:
    """The result of the one asked for, with its ancestors as members.

    Raises:
        RefreshError: it failed, an ancestor failed, or a gate is closed.
    """
    wanted = next(member for member in members if member.row.relid == relid)
    if wanted.error is not None:
        raise _public(wanted, wanted.error)
    if wanted.skipped is not None:
        raise RefreshError(f"Not refreshed: {wanted.skipped}", object_name=wanted.row.name, hint=_hint(wanted))
    others = tuple(_result(member, statements) for member in members if member is not wanted and _noteworthy(member))
    found = _result(wanted, statements)
    return RefreshResult(**{**{name: getattr(found, name) for name in RefreshResult.__slots__}, "members": others})


def _public(member: Member, error: PgTrickleError) -> PgTrickleError:
    """Errors of the server inside a refresh are refresh errors; ours keep their class."""
    if not isinstance(error, StatementFailed):
        return error
    public = RefreshError(
        f"The refresh failed: {error.message}",
        object_name=member.row.name,
        detail=error.detail,
        hint=error.hint or "The stream table keeps its content; see the defining query and its sources.",
    )
    public.sqlstate = error.sqlstate
    public.__cause__ = error
    return public


def _hint(member: Member) -> str | None:
    for verdict in member.trail:
        hint = getattr(verdict.decision, "hint", None)
        if hint:
            return hint
    return None


def _noteworthy(member: Member) -> bool:
    return member.error is not None or member.skipped is not None or member.moved


def _result(member: Member, statements: int) -> RefreshResult:
    row, plan = member.row, member.plan
    name = row.quoted_name
    if member.error is not None:
        return RefreshResult(name, "FAILED", fallback_reason=member.error.message, statements=statements)
    if member.skipped is not None or plan is None:
        return RefreshResult(name, "SKIPPED", fallback_reason=member.skipped, statements=statements)
    action = plan.action
    return RefreshResult(
        name=name,
        action=action.value if action in (Action.NO_DATA, Action.DIFFERENTIAL) else Action.FULL.value,
        rows_inserted=member.counts.inserted,
        rows_updated=member.counts.updated,
        rows_deleted=member.counts.deleted,
        duration_ms=member.duration_ms,
        fallback_reason=plan.reason,
        snapshot=member.need_locked().now_snapshot,
        refresh_no=member.refresh_no,
        statements=statements,
        notices=_notices(name, plan),
    )


def _notices(name: str, plan: MemberPlan) -> tuple[Notice, ...]:
    """What nobody asked for."""
    if plan.by_cost:
        return (Notice("auto_full", f"{name} was refreshed FULL: {plan.reason}"),)
    if plan.action is Action.RECOMPUTE and plan.reason != ASKED_FOR:
        return (Notice("recompute", f"{name} was recomputed: {plan.reason}"),)
    return ()
