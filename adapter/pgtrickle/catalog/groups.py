"""Catalog access of the refresh transaction: a whole group of stream tables per statement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from psycopg.sql import SQL, Composed, Literal

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.sql import load_queries

if TYPE_CHECKING:
    from typing_extensions import LiteralString

_QUERIES = load_queries("pgtrickle.catalog", "groups.sql")


@dataclass(frozen=True, slots=True)
class GroupSource:
    """One source of a member. ``name`` is None if the relation is gone; ``rows`` is the planner's estimate."""

    kind: str
    relid: int
    source_id: int | None
    stream_table_id: int | None
    schema: str | None
    name: str | None
    relkind: str | None
    rows: float
    above: Sequence[Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One stream table as a refresh sees it before its transaction; see ``fetch_group``."""

    id: int
    relid: int
    schema_name: str | None
    table_name: str | None
    registered_schema: str
    registered_name: str
    owner: str
    canonical_query: str
    settings: Mapping[str, str]
    requested_mode: str
    effective_mode: str
    mode_reason: str | None
    status: str
    status_reason: str | None
    is_populated: bool
    recompute_reason: str | None
    demoted: bool
    consecutive_errors: int
    last_error: Mapping[str, Any] | None
    retry_at: datetime | None
    definition: Mapping[str, Any]
    options: Mapping[str, Any]
    snapshot: str | None
    refresh_no: int
    consumed: Mapping[str, int]
    cost: Mapping[str, Any]
    has_log: bool
    sources: tuple[GroupSource, ...]
    stages: tuple[Mapping[str, Any], ...]
    columns: Mapping[str, int]
    now: datetime
    session_role: str
    quoted_name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(_source(one) for one in self.sources))
        object.__setattr__(self, "stages", tuple(self.stages))

    @property
    def name(self) -> str:
        """``schema.table`` at present, for messages."""
        return f"{self.schema_name or self.registered_schema}.{self.table_name or self.registered_name}"


def _source(fields: Any) -> GroupSource:
    return fields if isinstance(fields, GroupSource) else GroupSource(**fields)


@dataclass(frozen=True, slots=True)
class LockedRow:
    """What may have moved between reading the group and locking its frontiers.

    ``same``: the facts are those recorded; then neither ``fingerprint``, the recorded ones, nor ``facts``, the present
    ones, were sent (but the facts of partitioned sources always are). ``versions``: of all that was read about it, None
    where that cannot be said; as long as they stay, so does everything else that was told. ``windows``: OID of a source
    -> number of change rows, whether there is a mark, and whether capture has overflowed.
    """

    id: int
    snapshot: str | None
    refresh_no: int
    consumed: Mapping[str, int]
    cost: Mapping[str, Any]
    is_populated: bool
    recompute_reason: str | None
    status: str
    demoted: bool
    version: str | None
    has_log: bool
    now_snapshot: str
    started_at: str
    fingerprint: Mapping[str, Any] | None
    same: bool
    facts: Mapping[str, Any] | None
    versions: str | None = None
    windows: Mapping[str, tuple[int, bool, bool]] | None = None


@dataclass(frozen=True, slots=True)
class ForeseenRow:
    """What ``begin_foreseen`` has found and done.

    ``same``: all is as it was known; the rest of the fields is of no interest otherwise. ``changed``: OIDs of the
    sources with changes, as the counting statement lists them. ``marked``: some window has a mark, or capture has
    overflowed. ``applied``: seven counts for each statement executed; None where none was. ``took``: milliseconds for
    those.
    """

    same: bool
    snapshot: str
    refresh_no: int
    consumed: Mapping[str, int]
    cost: Mapping[str, Any]
    has_log: bool
    now_snapshot: str
    started_at: str
    changed: str | None
    rows: int
    marked: bool
    applied: tuple[int, ...] | None
    took: float

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> ForeseenRow:
        """A row as the server writes it."""
        same, snapshot, number, consumed, cost, has_log, now, started, changed, rows, marked, applied, took = texts
        numbers = None if applied is None else tuple(map(int, filter(None, applied[1:-1].split(","))))
        return cls(
            same == "t",
            snapshot or "",
            int(number or 0),
            json.loads(consumed or "{}"),
            json.loads(cost or "{}"),
            has_log == "t",
            now or "",
            started or "",
            changed,
            int(rows or 0),
            marked == "t",
            numbers,
            float(took or 0),
        )


#: Raised by the server at the end of a refresh that wrote to its own sources.
OWN_WRITES = "PT001"

_FETCH = SQL("SELECT * FROM pgtrickle.group_members(%(relids)s::oid[])")
_BEGIN = SQL("SELECT * FROM pgtrickle.begin_group({engine}, {settings}, {ids}, {running}, {known}, {wanted})")
_LOCK = SQL("SELECT * FROM pgtrickle.lock_group({ids}, {running}, NULL, '[]')")
_INCOMPLETE = SQL("UPDATE pgtrickle.stream_tables SET recompute_reason = {reason} WHERE id = {id}")
_FORESEEN = SQL(
    "SELECT * FROM pgtrickle.begin_foreseen({engine}, {settings}, {wanted}, {known}, {counting}, {ways}, {most})"
)
_RECORD = SQL("SELECT pgtrickle.record_group({entries}, {trail})")
_REFUSE = SQL("SELECT pgtrickle.refuse_own_writes({written})")


def fetch(conn: db.Connection, relids: Sequence[int]) -> tuple[GroupRow, ...]:
    """The stream tables with these OIDs and everything they read that is a stream table, by id."""
    return db.fetch_all(conn, _FETCH, GroupRow, {"relids": list(relids)}, prepare=True)


def begin(
    engine: int,
    settings: Mapping[str, str],
    ids: Sequence[int],
    running: Sequence[int],
    known: Sequence[str] | None,
    wanted: Sequence[Mapping[str, Any]],
) -> Composed:
    """The statement that begins a refresh whose sources are locked; rows are ``LockedRow``.

    Args:
        engine: the version of the catalog that this engine knows; any other one is refused.
        settings: of the transaction.
        ids: all members, whose frontiers are locked.
        running: those whose facts are compared with the recorded ones.
        known: what ``LockedRow.versions`` were when the members were read, in their order; empty: not known; None: of
            no interest. Where something else is known by now, nothing else is told.
        wanted: windows to be counted; keys ``id``, ``relid``, ``source_id``, ``buffer``, ``cap``.
    """
    return _BEGIN.format(
        engine=Literal(engine),
        settings=_settings(tuple(settings.items())),
        ids=_ids(ids),
        running=_ids(running),
        known=SQL("NULL") if known is None else _texts(tuple(known)),
        wanted=_json(wanted),
    )


def begin_foreseen(
    engine: int,
    settings: Mapping[str, str],
    wanted: int,
    known: str,
    counting: str,
    ways: Mapping[str, Sequence[str]],
    most: int,
) -> Composed:
    """The statement that begins the refresh of one stream table of which all is known; its row is a ``ForeseenRow``.

    Args:
        engine: as for `begin`.
        settings: of the transaction.
        wanted: id of the stream table.
        known: what ``LockedRow.versions`` was.
        counting: name of the prepared statement that looks at the windows.
        ways: OIDs of the changed sources, as ``counting`` lists them -> names of the prepared statements that apply
            such changes, in order.
        most: these are for windows with fewer rows.
    """
    return _FORESEEN.format(
        engine=Literal(engine),
        settings=_settings(tuple(settings.items())),
        wanted=Literal(wanted),
        known=Literal(known),
        counting=Literal(counting),
        ways=_json(ways),
        most=Literal(most),
    )


def lock(ids: Sequence[int], running: Sequence[int]) -> Composed:
    """The statement that locks the frontiers of a group and reads what may have moved; rows are ``LockedRow``.

    Args:
        ids: all members.
        running: those whose facts are compared with the recorded ones.
    """
    return _LOCK.format(ids=_ids(ids), running=_ids(running))


def refuse_own_writes(written: Mapping[str, str]) -> Composed:
    """The statement that raises ``OWN_WRITES`` if this transaction has written to one of these change buffers.

    Args:
        written: OID of a source -> its change buffer.
    """
    return _REFUSE.format(written=_json(written))


def touch(conn: db.Connection, ids: Sequence[int]) -> None:
    """Wait for refreshes under way, and make those that are about to begin read the catalog again."""
    if ids:
        db.execute(conn, _QUERIES["touch_frontiers"], {"ids": list(ids)})


def finish(
    written: Mapping[str, str],
    members: Sequence[Mapping[str, Any]],
    settled: Sequence[Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
    trail: Sequence[Mapping[str, Any]],
) -> SQL:
    """The statement that ends a refresh, or raises ``OWN_WRITES`` as that of `refuse_own_writes`.

    Args:
        written: change buffers that must not have been written to.
        members: frontiers to move; keys ``id``, ``moved``, ``refresh_no``, ``consumed``, ``cost``.
        settled: members that succeeded, whose errors and recompute requests are forgotten; keys ``id``,
            ``fingerprint`` (None: as it is).
        entries: rows of the history.
        trail: gate decisions; keys ``stream_table_id``, ``gate``, ``position``, ``decision``, ``reason``.
    """
    lists = ", ".join(_json(values).as_string(None) for values in (written, members, settled, entries, trail))
    return SQL(cast("LiteralString", f"SELECT pgtrickle.finish_group({lists})"))


def keep_incomplete(stream_table_id: int, reason: str) -> Composed:
    """The statement that makes the next refresh with changes recompute; behind that of `finish`."""
    return _INCOMPLETE.format(id=Literal(stream_table_id), reason=Literal(reason))


def record(entries: Sequence[Mapping[str, Any]], trail: Sequence[Mapping[str, Any]]) -> Composed:
    """The statement that adds to history and trail."""
    return _RECORD.format(entries=_json(entries), trail=_json(trail))


def fail(
    conn: db.Connection, stream_table_id: int, error: Mapping[str, Any], *, delay: timedelta | None, status: str | None
) -> None:
    """Count a failed refresh.

    Args:
        conn: not in the refresh's transaction.
        stream_table_id: whose.
        error: ``PgTrickleError.as_dict()``.
        delay: time until the next try; None: somebody has to act.
        status: the new status; None: as it is.
    """
    params = {
        "id": stream_table_id,
        "error": access.jsonb(dict(error)),
        "delay": delay,
        "status": status,
        "reason": error.get("message") if status else None,
    }
    db.execute(conn, _QUERIES["fail_member"], params)


# What nearly every refresh sends again takes longer to be printed than to be looked up.


@lru_cache(maxsize=256)
def _settings(settings: tuple[tuple[str, str], ...]) -> SQL:
    return _json(dict(settings))


@lru_cache(maxsize=4096)
def _texts(values: tuple[str, ...]) -> SQL:
    return SQL(cast("LiteralString", SQL("{}::pg_catalog.text[]").format(Literal(list(values))).as_string(None)))


def _ids(values: Sequence[int]) -> SQL:
    # Numbers: to find out what a list may hold takes the driver longer than to write it.
    return SQL(cast("LiteralString", f"'{{{','.join(map(str, values))}}}'::pg_catalog.int8[]"))


def _json(values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> SQL:
    """JSON as a literal; short, because every refresh writes some."""
    text = json.dumps(values, ensure_ascii=False)
    # Whether a backslash stands for itself is a setting of the session's.
    literal = Literal(text).as_string(None) if "\\" in text else "'" + text.replace("'", "''") + "'"
    return SQL(cast("LiteralString", f"{literal}::pg_catalog.jsonb"))
