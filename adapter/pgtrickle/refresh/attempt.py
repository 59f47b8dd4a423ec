"""One attempt at a refresh: everything between BEGIN and COMMIT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pgtrickle import capture
from pgtrickle.capture import Difference, Severity
from pgtrickle.catalog import sources, stream_tables
from pgtrickle.catalog.model import Snapshot
from pgtrickle.db import Query
from pgtrickle.errors import (
    ConnectionFailed,
    InternalError,
    InvalidQuery,
    PgTrickleError,
    RefreshError,
    TransactionConflict,
)
from pgtrickle.gates.retry import is_retryable
from pgtrickle.refresh import transaction
from pgtrickle.refresh.cost import SMALL_WINDOW, CostHistory, full_from
from pgtrickle.refresh.execute import execute_member
from pgtrickle.refresh.group import build_group, exclude_orphans
from pgtrickle.refresh.member import Member, Request
from pgtrickle.refresh.plan import WHOLE, Action, MemberFacts, Window, plan_member
from pgtrickle.refresh.session import Session
from pgtrickle.refresh.statistics import analyze_windows
from pgtrickle.refresh.windows import WindowOf, fetch_windows, told

#: A relation is not there any more: a source, buffer or log was renamed or dropped since the group was read.
GONE = frozenset({"42P01", "3F000"})
#: A column, function, type or table is not there or not what it was: of the definition, or of what is ours.
MISSING = frozenset({"42703", "42883", "42704", "42804", "42P01"})
#: Errors that values lead to: more than one row, division by zero, what cannot be cast, what a function raises.
_ABOUT_VALUES = ("21", "22", "P0001")
#: What does not compute the stages again.
_BY_CHANGES = frozenset({Action.NO_DATA, Action.DIFFERENTIAL})
#: How the reason of a recompute begins where a fault of the engine was found and got over.
INTERNAL = "internal error"


class ChangesRefused(PgTrickleError):
    """The changes of one member could not be applied; try again and recompute it.

    A row that came and went between two refreshes can raise an error that the query as it is now does not raise. And
    where the rows written are not the rows expected, which is a fault of ours, recomputing gives the right answer.

    Attributes:
        stream_table_id: whose.
        reason: for the history.
    """

    def __init__(self, stream_table_id: int, reason: str) -> None:
        super().__init__(reason)
        self.stream_table_id = stream_table_id
        self.reason = reason


class StagesRefused(PgTrickleError):
    """One member could not be computed stage by stage; try again with its query as a whole.

    The server need not evaluate all that a query says: a subquery whose value no row turns out to need may fail, and
    the query does not. In a stage of its own it is evaluated.

    Attributes:
        name: whose.
        reason: for the history.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason, object_name=name)
        self.name = name
        self.reason = reason


class StaleGroup(TransactionConflict):
    """What the group was built from has moved; build it again."""


class NeedsCare(PgTrickleError):
    """A member failed without a savepoint of its own: try again with one for each, so that the others commit."""


class NeedsRepair(PgTrickleError):
    """Capture is not as it was installed; it has to be repaired outside the refresh.

    Attributes:
        stream_table_ids: whose sources.
    """

    def __init__(self, stream_table_ids: tuple[int, ...], message: str) -> None:
        super().__init__(message)
        self.stream_table_ids = stream_table_ids


class NeedsReanalysis(PgTrickleError):
    """Sources are not what a definition was compiled from; the lifecycle has to compile and capture it again.

    Attributes:
        stream_table_ids: which.
    """

    def __init__(self, stream_table_ids: tuple[int, ...], message: str) -> None:
        super().__init__(message)
        self.stream_table_ids = stream_table_ids


def attempt(session: Session, members: Sequence[Member], request: Request) -> Sequence[Member]:
    """Move the members inside a new transaction, which stays open: the caller commits or rolls back.

    Where their frontiers are locked already, it is open.

    Returns:
        The members: other ones than given if a prelude changed the definition. One that fails or is left alone says
        so in ``error`` or ``skipped``.
    """
    _check_queries(members, request)
    exclude_orphans(members)
    if not any(member.running for member in members):
        return members
    begun = all(member.locked is not None for member in members)
    if not begun:
        transaction.begin(session, members, _windows(members, request), keep=session.memory.serves(request))
    if request.prelude is not None:
        switch = request.prelude()
        members = build_group(session, request)
        for member in members:
            member.switch = switch if member.requested else None
        transaction.lock_again(session, members)
    _check_locked(members)
    running = [member for member in members if member.running]
    _check_shapes(running)
    _check_fingerprints(running)
    exclude_orphans(members)
    if not begun and request.prelude is None and not any(map(_was_refreshed, running)):
        found = {member.row.id: told(member.need_locked().windows) for member in running}
    else:
        # Another definition has other windows, and other costs may let them be counted further.
        found = fetch_windows(session.conn, _windows(members, request))
        session.statements += 1
    _check_overflows(found)
    _move(session, members, request, found)
    if request.prelude is not None:
        _require_moved(members)
    _check_partitions(session, [member for member in running if member.moved])
    return members


def _check_overflows(windows: Mapping[int, Mapping[int, Window]]) -> None:
    overflowed = tuple(key for key, found in windows.items() if any(window.overflowed for window in found.values()))
    if overflowed:
        raise NeedsRepair(overflowed, "a change buffer reached its limit")


def _check_queries(members: Sequence[Member], request: Request) -> None:
    """A query that PostgreSQL refuses may read what was renamed while nobody looked; or it is about to be replaced."""
    refused = [member for member in members if isinstance(member.error, InvalidQuery)]
    for member in refused:
        if request.prelude is not None and member.requested:
            member.error = None
    lost = [one for one in refused if one.error is not None and one.row.id not in request.mended]
    if lost:
        why = "; ".join(dict.fromkeys(one.error.message for one in lost if one.error is not None))
        raise NeedsReanalysis(tuple(one.row.id for one in lost), f"a source was replaced or altered: {why}")


def _require_moved(members: Sequence[Member]) -> None:
    """A new definition must not be committed without its content."""
    for member in members:
        if member.requested and member.error is not None:
            raise member.error
        if member.requested and member.skipped is not None:
            raise RefreshError(f"Not refreshed: {member.skipped}", object_name=member.row.name)
        if member.switch is not None:
            raise InternalError("a new definition was not put in place", object_name=member.row.name)


def _check_locked(members: Sequence[Member]) -> None:
    for member in members:
        row, locked = member.row, member.locked
        if locked is None:
            raise StaleGroup("the stream table was dropped meanwhile", object_name=row.name)
        if member.known is not None and not locked.same:
            raise StaleGroup("something that was remembered of it has changed", object_name=row.name)
        if (row.definition.get("version"), row.has_log) != (_version(locked.version), locked.has_log):
            raise StaleGroup("the definition changed meanwhile", object_name=row.name)
        if locked.demoted:
            # Its changes are trimmed; it has to rejoin before a snapshot that it can recompute on.
            raise StaleGroup("it was demoted meanwhile", object_name=row.name)
        reason = locked.recompute_reason
        if reason is not None and reason.startswith(WHOLE):
            member.incomplete = reason
        else:
            member.recompute_reason = reason


def _version(text: str | None) -> int | None:
    return None if text is None else int(text)


def _check_shapes(running: Sequence[Member]) -> None:
    misshapen = tuple(member.row.id for member in running if member.misshapen)
    reasons = {member.recompute_reason for member in running if member.restored and member.recompute_reason}
    if reasons:
        raise NeedsReanalysis(misshapen, "; ".join(reasons))
    if misshapen:
        raise NeedsReanalysis(misshapen, "another version of the engine built its state")
    forgotten = tuple(member.row.id for member in running if member.forgets)
    if forgotten:
        raise NeedsReanalysis(forgotten, "the catalog does not know any more what it reads")


def _check_fingerprints(running: Sequence[Member]) -> None:
    changed: dict[int, str] = {}
    damaged: list[Member] = []
    for member in running:
        differences = _differences(member)
        if any(difference.severity is Severity.REPAIR for difference in differences):
            damaged.append(member)
        worst = max((difference.severity for difference in differences), default=Severity.HARMLESS)
        texts = "; ".join(str(difference) for difference in differences if difference.severity is worst)
        if worst is Severity.BROKEN:
            member.error = RefreshError(
                texts,
                object_name=member.row.name,
                hint="Restore the source, or give the stream table another query; it keeps its content until then.",
            )
        elif worst is Severity.REANALYSE:
            changed[member.row.id] = texts
        elif worst is Severity.RECOMPUTE:
            member.recompute_reason = member.recompute_reason or texts
    if damaged:
        raise NeedsRepair(tuple(member.row.id for member in damaged), "capture is not as it was installed")
    if changed:
        raise NeedsReanalysis(tuple(changed), "; ".join(dict.fromkeys(changed.values())))


def _differences(member: Member) -> tuple[Difference, ...]:
    """What is not as it was recorded; says whether the facts have to be recorded anew."""
    locked = member.need_locked()
    member.present = locked.facts
    if locked.same:
        return ()
    if member.present is None:
        raise InternalError("the facts of a member are neither as recorded nor known", object_name=member.row.name)
    if not locked.is_populated:
        member.outdated = True
        return ()
    # What differs without meaning anything is recorded as well: or else all facts would be compared in every refresh.
    member.outdated = True
    return capture.compare(locked.fingerprint, member.present)


def _move(
    session: Session, members: Sequence[Member], request: Request, windows: Mapping[int, Mapping[int, Window]]
) -> None:
    numbers = {member.row.relid: member.need_locked().refresh_no for member in members}
    several = sum(member.running for member in members) > 1
    analyzed = dict[int, set[int]]()
    for member in members:
        if not member.running:
            continue
        exclude_orphans(members)
        if not member.running:
            continue
        member.plan = plan_member(_facts(member, request, windows.get(member.row.id, {}), numbers))
        _take_whole(member, request)
        member.is_small = _is_small(member, members)
        _run(
            session, member, request, analyze_windows(member, windows.get(member.row.id, {}), analyzed), several=several
        )
        if member.error is None:
            numbers[member.row.relid] = member.refresh_no
            _distrust(session, member, members, request)


def _take_whole(member: Member, request: Request) -> None:
    plan, reason = member.need_plan(), request.whole.get(member.row.quoted_name)
    if reason is not None and plan.action not in _BY_CHANGES:
        member.whole = reason
        member.plan = replace(plan, reason=reason)


def _distrust(session: Session, member: Member, members: Sequence[Member], request: Request) -> None:
    """Where the content was not what we had left there, its log does not tell its dependents all that happened."""
    if not request.recompute.get(member.row.id, "").startswith(INTERNAL) or not member.row.has_log:
        return
    reason = f"{member.row.name} was not what its refreshes had made of it"
    for dependent in sources.dependents(session.conn, member.row.id):
        stream_tables.request_recompute(session.conn, dependent, reason)
    for other in members:
        if any(source.stream_table_id == member.row.id for source in other.row.sources):
            other.recompute_reason = other.recompute_reason or reason


def _is_small(member: Member, members: Sequence[Member]) -> bool:
    """Whether few rows have to be read: change rows of tables, and what its sources have just written."""
    moved = {one.row.relid: one for one in members if one.moved}
    plan, rows = member.need_plan(), member.need_plan().changes
    for key in plan.changed:
        if key.kind == "stream_table":
            # What it wrote in earlier refreshes is not counted by anybody.
            one = moved.get(key.ident)
            if one is None or member.need_locked().consumed.get(str(key.ident), 0) != one.need_locked().refresh_no:
                return False
            rows += one.counts.total
    return rows < SMALL_WINDOW


def _windows(members: Sequence[Member], request: Request) -> list[WindowOf]:
    """The windows of all that take part, from where their frontiers are known to be."""
    return [one for member in members if member.running for one in _windows_of(member, request)]


def _was_refreshed(member: Member) -> bool:
    """Whether somebody else has refreshed it since the group was read."""
    locked = member.need_locked()
    return locked.is_populated != member.row.is_populated or locked.cost != member.row.cost


def _windows_of(member: Member, request: Request) -> list[WindowOf]:
    known = member.locked or member.row
    if known.snapshot is None or not known.is_populated or member.compiled is None:
        return []
    frontier = Snapshot.parse(known.snapshot)
    # Counting may stop early only where the rest, marks too, would not change the decision.
    cap = limit_of(member) if _adaptive(member, request) or member.need_compiled().plan.mode == "FULL" else None
    return [
        WindowOf(member.row.id, source.relid, source.source_id, frontier, cap)
        for source in member.row.sources
        if source.source_id is not None
    ]


def _adaptive(member: Member, request: Request) -> bool:
    return member.row.requested_mode == "AUTO" and not request.prove


def limit_of(member: Member) -> int:
    """From how many changes on it is recomputed, if AUTO was asked for."""
    return full_from(cost_of(member), _source_rows(member), member.row.options.get("max_delta_fraction"))


def _source_rows(member: Member) -> int:
    return int(sum(source.rows for source in member.row.sources))


def cost_of(member: Member) -> CostHistory:
    """What earlier refreshes of it cost."""
    return CostHistory.of((member.locked or member.row).cost)


def _facts(member: Member, request: Request, windows: Mapping[int, Window], numbers: Mapping[int, int]) -> MemberFacts:
    locked, plan = member.need_locked(), member.need_compiled().plan
    moved = set()
    if locked.is_populated and locked.snapshot is None:
        member.recompute_reason = member.recompute_reason or "nothing is known about its last refresh"
    for source in member.row.sources:
        if source.kind == "stream_table":
            number = numbers.get(source.relid, 0)
            member.consumed[source.relid] = number
            known = int(locked.consumed.get(str(source.relid), 0))
            if number > known:
                moved.add(source.relid)
            elif number < known:
                member.recompute_reason = member.recompute_reason or f"{source.name} begins its refreshes anew"
    return MemberFacts(
        plan=plan,
        adaptive=_adaptive(member, request),
        populated=locked.is_populated,
        recompute_reason=member.recompute_reason or request.recompute.get(member.row.id),
        incomplete=member.incomplete,
        forced=request.full and member.requested,
        windows=windows,
        stream_tables=frozenset(moved),
        limit=limit_of(member),
    )


def _refusal(error: PgTrickleError) -> str:
    if isinstance(error, InternalError):
        return f"{INTERNAL}: {error.message} {error.detail or ''}".strip()
    return f"the changes could not be applied: {error.message}"


def _run(session: Session, member: Member, request: Request, first: Sequence[Query], *, several: bool) -> None:
    """Execute one member, after these statements; in a group its failure only undoes its own work.

    Changes that can be applied need no savepoint for that: where they cannot, the refresh begins again anyway.
    """
    plan = member.need_plan()
    careful = request.careful or request.prove or plan.action is not Action.DIFFERENTIAL
    before = transaction.savepoint(session) if several and careful and plan.action is not Action.NO_DATA else None
    try:
        execute_member(session, member, first)
    except (TransactionConflict, ConnectionFailed):
        raise
    except PgTrickleError as error:
        if error.sqlstate in GONE:
            raise
        other = _another_way(member, request, error)
        if other is not None:
            raise other from error
        if error.sqlstate in MISSING and member.row.id not in request.mended and request.prelude is None:
            raise NeedsReanalysis((member.row.id,), error.message) from error
        if before is None:
            if several:
                raise NeedsCare(error.message, object_name=member.row.name) from error
            raise
        transaction.rollback_to_savepoint(session, before)
        error.object_name = error.object_name or member.row.name
        member.error = error
    else:
        if before is not None:
            transaction.release_savepoint(session)


def _another_way(member: Member, request: Request, error: PgTrickleError) -> ChangesRefused | StagesRefused | None:
    """What makes the next attempt do without the changes, or without the stages; None: nothing else can be tried."""
    action, name = member.need_plan().action, member.row.quoted_name
    if request.prove:
        return None
    if action is Action.DIFFERENTIAL:
        return None if is_retryable(error.sqlstate) else ChangesRefused(member.row.id, _refusal(error))
    about_values = (error.sqlstate or "").startswith(_ABOUT_VALUES)
    if not about_values or name in request.whole or member.need_compiled().plan.mode == "FULL":
        return None
    return StagesRefused(name, f"{WHOLE}: {error.message}")


def _check_partitions(session: Session, moved: Sequence[Member]) -> None:
    """No partition may have slipped under the snapshot."""
    facts = {member.row.id: member.present for member in moved if member.present is not None}
    if not any(source.relkind == "p" for member in moved for source in member.row.sources):
        return
    slipped = capture.partitions_changed(session.conn, facts)
    session.statements += 1
    if slipped:
        raise NeedsRepair(tuple(member.row.id for member in moved), slipped[0].text)
