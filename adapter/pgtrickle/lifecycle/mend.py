"""Refreshes that survive a change of their sources: what was swapped, recreated or altered is compiled again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pgtrickle import db, refresh
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import stream_tables
from pgtrickle.catalog.model import StreamTable
from pgtrickle.errors import (
    ConnectionFailed,
    InvalidQuery,
    LockTimeout,
    PgTrickleError,
    RefreshError,
    StreamTableNotFound,
    TransactionConflict,
    UnsupportedQuery,
)
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.definition import compile_definition
from pgtrickle.lifecycle.follow import followed
from pgtrickle.lifecycle.redefine import Redefinition, empty_if_needed, redefine, request_dependents
from pgtrickle.lifecycle.restore import rebind
from pgtrickle.lifecycle.target import present_relation
from pgtrickle.refresh import Member, NeedsReanalysis, Request, Session
from pgtrickle.refresh.plan import Action, MemberPlan
from pgtrickle.results import VerifyResult

#: In a chain each round finds the next one whose source has just changed.
_ROUNDS = 20


def refresh_group(session: Session, request: Request, policy: db.LockPolicy | None = None) -> tuple[Member, ...]:
    """Refresh as ``refresh.run`` does; definitions whose sources changed are compiled again first.

    Returns:
        The members. One that cannot be mended has an error, its dependents are left alone.
    """
    mended: dict[int, tuple[Redefinition, str]] = {}
    for _ in range(_ROUNDS):
        try:
            members = refresh.run(session, request)
            if any(member.error for member in members) and rebind(session.conn):
                raise StreamTableNotFound(
                    "The database was restored just now.", object_name=", ".join(map(str, request.relids))
                )
            return _with_mended(members, mended)
        except NeedsReanalysis as needed:
            failed = _mend_all(session, needed, policy, mended)
            done = request.mended.union(needed.stream_table_ids)
            request = replace(request, broken={**request.broken, **failed}, mended=done)
    raise RefreshError(
        "The sources kept changing while their stream tables were compiled again.",
        object_name=", ".join(map(str, request.relids)),
        hint="Try again when the changes of definition are over.",
    )


def _with_mended(members: tuple[Member, ...], mended: Mapping[int, tuple[Redefinition, str]]) -> tuple[Member, ...]:
    """What was recomputed while it was mended is part of what this refresh did."""
    for member in members:
        if member.row.id in mended and member.running:
            done, reason = mended[member.row.id]
            member.plan = MemberPlan(Action.RECOMPUTE, reason, frozenset(), 0)
            member.counts = member.counts.plus(done.counts)
    return members


def verify(session: Session, relid: int, *, state: bool = False) -> VerifyResult:
    """``refresh.verify``; where a definition has to be compiled again, nothing is proven (a recompute is due)."""
    try:
        return refresh.verify(session, relid, state=state)
    except NeedsReanalysis as needed:
        found = stream_tables.fetch_by_relid(session.conn, relid)
        name = found.name if found else str(relid)
        return VerifyResult(name, None, reason=f"a recompute is due: {needed.message}")


def repair(session: Session, relid: int, policy: db.LockPolicy | None = None) -> tuple[Member, ...]:
    """Recompute by difference, also what a difference cannot tell apart (rows twice under one key)."""
    found = stream_tables.fetch_by_relid(session.conn, relid)

    def prelude() -> None:
        compiled = session.compiled.get(found.id) if found else None
        if found is None:
            return
        if compiled is not None:
            empty_if_needed(session.conn, found, compiled.plan)
        request_dependents(session.conn, found, "was repaired")

    return refresh_group(session, Request(relids=(relid,), full=True, prelude=prelude), policy)


def repair_by_id(session: Session, stream_table_id: int) -> None:
    """`repair`; nothing if it is gone."""
    found = stream_tables.fetch(session.conn, stream_table_id)
    if found is not None:
        repair(session, found.relid)


def rebuild(session: Session, stream_table_id: int, reason: str) -> None:
    """Compile, capture, build guard, state and content anew; the table keeps its OID.

    Raises:
        RefreshError: the query does not work any more.
    """
    _mend(session, stream_table_id, reason, None)


def put_guard(session: Session, stream_table_id: int) -> None:
    """Give a stream table its guard. Another one than was recorded makes it recompute."""
    found = stream_tables.fetch(session.conn, stream_table_id)
    if found is not None:
        relation = present_relation(session.conn, found.relid)
        db.ddl(session.conn, storage.guard(relation), relids=[found.relid], object_name=found.name)


def _mend_all(
    session: Session,
    needed: NeedsReanalysis,
    policy: db.LockPolicy | None,
    mended: dict[int, tuple[Redefinition, str]],
) -> dict[int, PgTrickleError]:
    """Mend one after the other; id -> why it could not be done."""
    failed: dict[int, PgTrickleError] = {}
    for stream_table_id in needed.stream_table_ids:
        try:
            done = _mend(session, stream_table_id, needed.message, policy)
            if done is not None:
                mended[stream_table_id] = done, needed.message
        except (ConnectionFailed, LockTimeout, TransactionConflict):
            raise
        except PgTrickleError as error:
            failed[stream_table_id] = error
    return failed


def _mend(session: Session, stream_table_id: int, reason: str, policy: db.LockPolicy | None) -> Redefinition | None:
    found = stream_tables.fetch(session.conn, stream_table_id)
    if found is None:
        return None
    try:
        analysis = _compile(session.conn, found)
    except (InvalidQuery, UnsupportedQuery) as error:
        raise RefreshError(
            f"The defining query does not work any more: {error.message}",
            object_name=found.name,
            detail=error.detail,
            hint="Restore the source, or give the stream table another query; it keeps its content until then.",
        ) from error
    return redefine(
        session,
        found,
        analysis,
        changes={},
        reason=reason,
        policy=policy or db.LockPolicy(),
        refresh_group=lambda session, request: refresh_group(session, request, policy),
    )


def _compile(conn: db.Connection, found: StreamTable) -> Analysis:
    """Compile the recorded definition; what was renamed is followed unless its old name is taken."""
    return compile_definition(conn, followed(conn, found), found.requested_mode, settings=found.settings)
