"""A refresh that is foreseen: of one stream table, of which the session knows all, with changes like those before.

Whatever it takes is prepared, so that one message locks, compares, counts and applies, and a second one commits. What
is not as it was foreseen, the server tells before it has applied anything, and the refresh goes on as any other one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL, Identifier, Literal

from pgtrickle import db
from pgtrickle.capture import buffer_of
from pgtrickle.catalog import groups, installation
from pgtrickle.catalog.groups import ForeseenRow, LockedRow
from pgtrickle.db import Query
from pgtrickle.errors import PgTrickleError, StatementFailed
from pgtrickle.names import WEIGHT_COLUMN, XID_COLUMN
from pgtrickle.plan import InputKey, Stage
from pgtrickle.refresh import transaction
from pgtrickle.refresh.attempt import limit_of
from pgtrickle.refresh.compiled import Compiled, own_path
from pgtrickle.refresh.cost import SMALL_WINDOW
from pgtrickle.refresh.execute import Applied, checked
from pgtrickle.refresh.member import Counts, Known, Member, Request
from pgtrickle.refresh.plan import Action, MemberPlan, stage_changes, unwatched
from pgtrickle.refresh.session import Prepared, Session

if TYPE_CHECKING:
    from typing_extensions import LiteralString

#: Stream tables for which a session keeps statements prepared, each in up to so many ways: a plan takes a hundred
#: kilobytes.
_MOST = 64
_MOST_WAYS = 4
#: The parameters of our prepared statements, in order.
_PARAMETERS = ("xmax", "xip", "xmin", "until", "refresh_no")
_PLACEHOLDER = re.compile(rf"%%|%\(({'|'.join(_PARAMETERS)})\)s")
_COUNTING_TYPES = "pg_catalog.xid8, pg_catalog.xid8[], pg_catalog.xid8, pg_catalog.xid8"
_NUMBERS = 7
#: There is no such prepared statement. The driver lets go of all that a session has prepared when it has rolled back.
_LOST = "26000"


def begin(session: Session, known: Sequence[Known], request: Request) -> Member | None:
    """Open the transaction of a foreseen refresh and apply what has changed.

    Args:
        session: outside a transaction.
        known: the group, as it is remembered.
        request: what is asked for.

    Returns:
        The member: with a plan, if it has been carried out; with nothing but its frontier locked, if something is not
        as it was foreseen. None if nothing was foreseen: then there is no transaction.

    Raises:
        PgTrickleError: whatever fails; the transaction is open and aborted.
    """
    if len(known) != 1 or (compiled := _may(session, known[0])) is None:
        return None
    one = known[0]
    try:
        prepared, row = _ask(session, one, compiled)
    except StatementFailed as error:
        if error.sqlstate != _LOST:
            raise
        transaction.rollback(session.conn)
        prepared, row = _ask(session, one, compiled)
    transaction.began(session, own_path(one.row.settings))
    member = Member(one.row, requested=True, trail=one.trail, compiled=compiled, known=one)
    member.locked = _locked(one, row)
    if row.same and row.has_log == one.row.has_log and (row.applied is not None or not (row.rows or row.marked)):
        _take(member, prepared, row)
    return member


def _ask(session: Session, one: Known, compiled: Compiled) -> tuple[Prepared, ForeseenRow]:
    """Send the message, with whatever has to be prepared for it."""
    prepared, message = _prepared(session, one, compiled)
    try:
        row = ForeseenRow.of(db.tell(session.conn, message, object_name=one.row.name))
    except PgTrickleError as error:
        session.foreseen.clear()
        if message != prepared.message and isinstance(error, StatementFailed):
            # It is not tried again and again.
            compiled.foreseeable = False
        raise
    session.statements += 1
    return prepared, row


def _may(session: Session, one: Known) -> Compiled | None:
    """The plan, if a refresh of this one can be foreseen."""
    compiled, row = session.compiled.get(one.row.id), one.row
    if compiled is None or not (compiled.is_bound and compiled.foreseeable and compiled.last_was_small):
        return None
    if compiled.plan.mode == "FULL" or unwatched(compiled.plan):
        return None
    if row.requested_mode == "AUTO" and limit_of(Member(replace(row, **one.left), requested=True)) < SMALL_WINDOW:
        return None
    at_home = row.owner == row.session_role and row.settings == own_path(row.settings)
    tables = all(source.source_id is not None and source.kind != "stream_table" for source in row.sources)
    return compiled if at_home and tables and row.sources else None


def _prepared(session: Session, one: Known, compiled: Compiled) -> tuple[Prepared, Sequence[Query]]:
    """What is prepared for it, and the message that begins the refresh."""
    found = session.foreseen.pop(one.row.id, None)
    if found is not None and (found.compiled is not compiled or found.versions != one.versions):
        _discard(session, found)
        found = None
    ways = sorted(compiled.small, key=_listed)[:_MOST_WAYS]
    if found is None or any(way not in found.ways for way in ways):
        while len(session.foreseen) >= _MOST:
            _discard(session, session.foreseen.pop(next(iter(session.foreseen))))
        found, message = _prepare(session, one, compiled, ways, found)
    else:
        message = found.message
    # The last one is the one used last.
    session.foreseen[one.row.id] = found
    return found, message


def _prepare(
    session: Session, one: Known, compiled: Compiled, ways: Sequence[frozenset[InputKey]], found: Prepared | None
) -> tuple[Prepared, list[Query]]:
    """The same with what has to be prepared first; what ``found`` has stays."""
    conn, row = session.conn, one.row
    opening = transaction.opening(conn, [Member(row, requested=True)])
    counting = _name(session) if found is None else found.counting
    named = {} if found is None else dict(found.ways)
    begin_name = _name(session)
    statements: list[Query] = []
    if found is None:
        statements.append(_prepare_as(counting, _COUNTING_TYPES, _counting(one)))
    else:
        statements.append(SQL("DEALLOCATE {}").format(Identifier(found.begin)))
    for way in ways:
        if way not in named:
            steps = tuple((_name(session), stage, text) for stage, text in _steps(conn, compiled, way))
            statements += [
                _prepare_as(name, f"{_COUNTING_TYPES}, pg_catalog.int8", text.as_string(conn))
                for name, _, text in steps
            ]
            named[way] = tuple((name, stage) for name, stage, _ in steps)
    start = groups.begin_foreseen(
        installation.known_version(),
        transaction.settings(conn, own_path(row.settings)),
        row.id,
        one.versions,
        counting,
        {_listed(way): [name for name, _ in steps] for way, steps in named.items()},
        SMALL_WINDOW,
    )
    execute = _text(f"EXECUTE {begin_name}")
    # Where a query is read under the path that it is executed under, it need not be read again.
    message: list[Query] = [
        *opening,
        _prepare_as(begin_name, None, start.as_string(conn)),
        _text(f"SET LOCAL search_path = {row.settings.get('search_path', 'pg_catalog')}"),
        *statements,
        _text(f"SET LOCAL search_path = {db.SAFE_PATH}"),
        execute,
    ]
    usual = (_text(";\n".join(each.as_string(conn) for each in [*opening, execute])),)
    return Prepared(compiled, one.versions, counting, named, begin_name, usual), message


def _name(session: Session) -> str:
    return f"pgtrickle_{next(session.names)}"


def _text(text: str) -> SQL:
    return SQL(cast("LiteralString", text))


def _prepare_as(name: str, types: str | None, text: str) -> SQL:
    given = "" if types is None else f" ({types})"
    return _text(f"PREPARE {name}{given} AS {text}")


def _listed(way: frozenset[InputKey]) -> str:
    """Changed sources as the counting statement lists them."""
    return ",".join(map(str, sorted(key.ident for key in way)))


def _steps(conn: db.Connection, compiled: Compiled, way: frozenset[InputKey]) -> list[tuple[Stage, SQL]]:
    """The stages and statements that such changes may reach, each with parameters by number."""
    found: list[tuple[Stage, SQL]] = []
    changed = set(way)
    for stage in compiled.plan.stages:
        inputs = stage_changes(stage, frozenset(changed))
        for statement in compiled.refresh(conn, stage, inputs, few=True) if inputs else ():
            found.append((stage, _numbered(statement)))
            changed.add(InputKey("stage", stage.number))
    return found


def _numbered(statement: SQL) -> SQL:
    numbers = {f"%({name})s": f"${number}" for number, name in enumerate(_PARAMETERS, start=1)}
    return _text(_PLACEHOLDER.sub(lambda match: numbers.get(match[0], "%"), statement.as_string(None)))


def _counting(one: Known) -> str:
    """The query that looks at the windows: what has changed, how many rows, whether they tell it all.

    It stops where a window is not small.
    """
    windows: list[Query] = []
    for source in sorted(one.row.sources, key=lambda source: source.relid):
        if source.source_id is None:
            continue
        buffer = buffer_of(source.source_id)
        windows.append(
            SQL(
                "SELECT {relid}::text AS relid, pg_catalog.count(*) AS rows, "
                "coalesce(pg_catalog.bool_or(w.{weight} = 0), false) AS marked "
                "FROM (SELECT b.{weight} FROM {buffer} b WHERE b.{xid} >= $1 AND b.{xid} < $4"
                " OR b.{xid} = ANY ($2) AND b.{xid} >= $3 AND b.{xid} < $1 LIMIT {most}) w"
            ).format(
                relid=Literal(str(source.relid)),
                weight=Identifier(WEIGHT_COLUMN),
                xid=Identifier(XID_COLUMN),
                buffer=Identifier(buffer.schema, buffer.name),
                most=Literal(SMALL_WINDOW),
            )
        )
    numbers = sorted({source.source_id for source in one.row.sources if source.source_id is not None})
    return (
        SQL(
            "SELECT pg_catalog.string_agg(c.relid, ',') FILTER (WHERE c.rows > 0),"
            " pg_catalog.sum(c.rows)::pg_catalog.int8, pg_catalog.bool_or(c.marked)"
            " OR EXISTS (SELECT FROM pgtrickle.overflows o WHERE o.source_id = ANY ({numbers}::pg_catalog.int8[]))"
            " FROM ({windows}) AS c"
        )
        .format(numbers=Literal(f"{{{','.join(map(str, numbers))}}}"), windows=SQL(" UNION ALL ").join(windows))
        .as_string(None)
    )


def _discard(session: Session, prepared: Prepared) -> None:
    names = [prepared.counting, prepared.begin, *(name for steps in prepared.ways.values() for name, _ in steps)]
    for name in names:
        # Gone already, if the driver has let go of all.
        with suppress(PgTrickleError):
            db.execute(session.conn, SQL("DEALLOCATE {}").format(Identifier(name)))


def _locked(one: Known, row: ForeseenRow) -> LockedRow:
    version = one.row.definition.get("version")
    return LockedRow(
        id=one.row.id,
        snapshot=row.snapshot,
        refresh_no=row.refresh_no,
        consumed=row.consumed,
        cost=row.cost,
        is_populated=one.row.is_populated,
        recompute_reason=one.row.recompute_reason,
        status=one.row.status,
        demoted=one.row.demoted,
        version=None if version is None else str(version),
        has_log=row.has_log,
        now_snapshot=row.now_snapshot,
        started_at=row.started_at,
        fingerprint=None,
        same=row.same,
        facts=None,
        versions=one.versions if row.same else None,
    )


def _take(member: Member, prepared: Prepared, row: ForeseenRow) -> None:
    """What the server has done becomes what the member did.

    Raises:
        CountMismatch: not all that was expected.
    """
    member.refresh_no, member.duration_ms, member.is_small = row.refresh_no, row.took, True
    if row.applied is None:
        member.plan = MemberPlan(Action.NO_DATA, None, frozenset(), 0)
        return
    changed = frozenset(InputKey("table", int(relid)) for relid in (row.changed or "").split(","))
    member.plan = MemberPlan(Action.DIFFERENTIAL, None, changed, row.rows)
    for place, (_, stage) in enumerate(prepared.ways[changed]):
        counts = checked(member, stage, Applied(*row.applied[place * _NUMBERS : (place + 1) * _NUMBERS]))
        if counts.total:
            member.refresh_no = row.refresh_no + 1
        member.counts = counts if stage is prepared.compiled.plan.root else Counts()
