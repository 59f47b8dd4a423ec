"""Which stream tables one refresh moves, and in which order."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import networkx as nx
from psycopg.pq import TransactionStatus

from pgtrickle import db, gates
from pgtrickle.capture import rejoin
from pgtrickle.catalog import groups
from pgtrickle.catalog.groups import GroupRow
from pgtrickle.errors import (
    InternalError,
    LockTimeout,
    PgTrickleError,
    RefreshError,
    StreamTableNotFound,
    TransactionConflict,
)
from pgtrickle.gates import GateFacts, Pass
from pgtrickle.refresh.bindings import bindings_of
from pgtrickle.refresh.compiled import Compiled, compile_member
from pgtrickle.refresh.member import Known, Member, Request
from pgtrickle.refresh.session import Session


def build_group(session: Session, request: Request) -> list[Member]:
    """Read, check and compile the stream tables of a refresh; sources before their dependents.

    Raises:
        StreamTableNotFound: an OID that was asked for is not registered.
    """
    rows = groups.fetch(session.conn, request.relids)
    session.statements += 1
    missing = set(request.relids) - {row.relid for row in rows}
    if missing:
        raise StreamTableNotFound("not registered as a stream table", object_name=", ".join(map(str, sorted(missing))))
    members = [_member(row, request) for row in in_order(rows)]
    demoted = [member.row.id for member in members if member.row.demoted and member.running]
    if demoted:
        # Has to be committed before the snapshot is taken, so that no change falls between.
        rejoin(session.conn, demoted)
    for member in members:
        if member.running:
            _compile(session, member)
    return members


def recall_group(session: Session, request: Request, known: Iterable[Known]) -> list[Member] | None:
    """The same from memory; None if some plan is not at hand any more.

    Whether it still is so, `attempt` finds out.
    """
    members = []
    for one in known:
        passed = timedelta(seconds=time.monotonic() - one.read_at)
        member = _member(replace(one.row, now=one.row.now + passed, **one.left), request)
        member.known = one
        # What it was bound to then has not changed since, or it has, and that will be found out.
        member.compiled = session.compiled.get(one.row.id)
        if member.compiled is None or not member.compiled.is_bound or not member.running:
            session.memory.forget(request.relids)
            return None
        members.append(member)
    return members


def in_order(rows: Iterable[GroupRow]) -> list[GroupRow]:
    """Sources before their dependents, otherwise by id."""
    rows = list(rows)
    if len(rows) == 1:
        return rows
    by_id = {row.id: row for row in rows}
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(sorted(by_id))
    graph.add_edges_from(
        (source.stream_table_id, row.id)
        for row in by_id.values()
        for source in row.sources
        if source.stream_table_id in by_id
    )
    try:
        return [by_id[node] for node in nx.lexicographical_topological_sort(graph)]
    except nx.NetworkXUnfeasible as error:
        raise InternalError("registered stream tables depend on each other in a circle") from error


def _member(row: GroupRow, request: Request) -> Member:
    requested = row.relid in request.relids
    facts = GateFacts(
        name=row.name,
        now=row.now,
        manual=request.manual and requested,
        pulled=True,
        status=row.status,
        populated=row.is_populated,
        retry_at=row.retry_at,
        last_error=(row.last_error or {}).get("message"),
    )
    member = Member(row, requested, gates.decide(facts))
    decision = gates.verdict(member.trail)
    if row.table_name is None:
        member.error = RefreshError(
            "The table is gone: it was dropped without drop_stream_table.",
            object_name=row.name,
            hint="drop_stream_table() forgets it; create it again to have it back.",
        )
    elif row.id in request.broken:
        member.error = request.broken[row.id]
    elif not isinstance(decision, Pass) and not (request.override and requested):
        member.skipped = decision.reason
    return member


def _compile(session: Session, member: Member) -> None:
    row = member.row
    try:
        member.compiled = _cached(session, row)
        if not member.misshapen:
            member.compiled.bind(bindings_of(row, member.compiled.plan))
    except (LockTimeout, TransactionConflict):
        # Somebody rewrites or truncates what it reads: to be tried again, as the refresh itself would be.
        raise
    except PgTrickleError as error:
        error.object_name = error.object_name or row.name
        member.error = error


def _cached(session: Session, row: GroupRow) -> Compiled:
    version = row.definition.get("version")
    found = session.compiled.get(row.id)
    if found is None or found.version != version:
        plan = session.plans.get(row.id, version)
        if found is not None and plan is not None:
            _forget_prepared(session)
        found = compile_member(session.conn, row) if plan is None else Compiled(version, plan)
        if session.conn.info.transaction_status == TransactionStatus.IDLE:
            # In a transaction the version may be one that nobody else will ever see.
            session.plans.put(row.id, version, found.plan)
        session.compiled[row.id] = found
    return found


def _forget_prepared(session: Session) -> None:
    """The same text may mean something else now, and a prepared statement keeps the casts that the server found for it.

    The driver lets go of what it has prepared at every rollback; compiling ends with one.
    """
    with db.wrapped(), session.conn.transaction(force_rollback=True):
        pass


def exclude_orphans(members: Iterable[Member]) -> None:
    """Drop out every member one of whose sources failed or was never loaded; members are in dependency order."""
    by_id = {member.row.id: member for member in members}
    for member in by_id.values():
        for source in member.row.sources:
            parent = by_id.get(source.stream_table_id or 0)
            if parent is None or not member.running:
                continue
            if parent.error is not None:
                member.dragged = True
                member.skipped = f"its source {parent.row.name} failed: {parent.error.message}"
            elif parent.skipped is not None and (parent.dragged or not parent.row.is_populated):
                member.dragged = True
                member.skipped = f"its source {parent.row.name} cannot be used: {parent.skipped}"
