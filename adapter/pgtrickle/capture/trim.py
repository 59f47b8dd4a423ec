"""Trimming change buffers and logs to what some consumer still has to read."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composable

from pgtrickle import db
from pgtrickle.capture.buffers import buffer_name, buffer_of
from pgtrickle.capture.install import settle
from pgtrickle.catalog import access, groups, sources
from pgtrickle.catalog.model import Source
from pgtrickle.errors import CatalogError, StatementFailed
from pgtrickle.sql import comma_separated, qualified

#: Autovacuum would come a minute later; until then every refresh would read the dead rows.
_MANY_ROWS = 10_000

#: A change buffer with more than this part of its limit in rows that somebody has yet to read lets go of them: later,
#: capture would stop for all of its consumers.
_TOO_FULL = 0.5
#: ... and is looked at from this part of the limit on.
_FILLING = 0.75

#: Such a buffer is vacuumed in a millisecond, and an empty file tells the runner that nothing has changed.
_SMALL_BYTES = 256 * 1024

_CANCELED = "57014"

_TRIM = SQL("CALL pgtrickle.trim(NULL, %(only_for)s::pg_catalog.int8[])")
_LIVE_BYTES = SQL("SELECT coalesce(pg_catalog.sum(pg_catalog.pg_column_size(b)), 0) FROM {buffer} b")


@dataclass(frozen=True, slots=True)
class TrimResult:
    """What a trim did: rows deleted, stream tables demoted to a recompute, sources whose capture was removed."""

    deleted: int
    demoted: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Size:
    bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class _Named:
    schema_name: str
    table_name: str


@dataclass(frozen=True, slots=True)
class _Id:
    id: int


def trim(conn: db.Connection, only_for: Sequence[int] | None = None) -> TrimResult:
    """Delete change rows that are visible in the frontier of every registered consumer, and consumed log rows.

    One message, in READ COMMITTED transactions of their own, one per buffer; a buffer that somebody else is trimming is
    skipped. Further ones only for buffers that have to shrink or to go. Of a change buffer beyond
    ``installation.buffer_limit_bytes`` the consumer that is furthest behind is let go: its next refresh recomputes.

    Where a time-out that we cannot lift ends it, behind a pooler, each stream table has its turn before that is raised:
    or else the first buffers, which are tried first, would keep all others from being trimmed.

    Args:
        conn: autocommit, not in a transaction.
        only_for: ids of stream tables: only what they read and write; None: everything.
    """
    try:
        return _trim(conn, only_for)
    except StatementFailed as error:
        if error.sqlstate != _CANCELED or only_for is not None:
            raise
        each = [one.id for one in access.rows(conn, "stream_table_ids", _Id)]
        random.shuffle(each)  # no secret
        for stream_table_id in each:
            try:
                _trim(conn, [stream_table_id])
            except StatementFailed as again:
                if again.sqlstate != _CANCELED:
                    raise
        raise


def _trim(conn: db.Connection, only_for: Sequence[int] | None) -> TrimResult:
    asked = {"only_for": None if only_for is None else list(only_for)}
    deleted, demoted, removed = 0, set[int](), []
    while True:
        report = db.fetch_value(conn, _TRIM, asked, alone=True)
        if report["limit"] is None:
            raise CatalogError("pgtrickle.installation is empty", object_name="pgtrickle", hint="Run `pgtrickle init`.")
        known = {source.id: source for source in sources.fetch_all(conn)} if _has_work(report) else {}
        removed += [
            source_id for source_id in report["unread"] if source_id in known and _remove(conn, known[source_id])
        ]
        if report["log_rows"] or report["buffers"]:
            _vacuum_neglected(conn)
        deleted += report["log_rows"] + sum(one["deleted"] for one in report["buffers"])
        buffers = [(known[one["id"]], one) for one in report["buffers"] if one["id"] in known]
        _shrink(conn, buffers, report["limit"])
        full = [source for source, one in buffers if one["bytes"] > _FILLING * report["limit"]]
        behind = set(filter(None, [_demote(conn, source) for source in full]))
        if not behind:
            return TrimResult(deleted, tuple(sorted(demoted)), tuple(removed))
        demoted |= behind


def _has_work(report: Mapping[str, Any]) -> bool:
    """Whether anything is left to be done that the procedure cannot do."""
    return bool(report["unread"]) or any(
        one["deleted"] or one["bytes"] > _FILLING * report["limit"] for one in report["buffers"]
    )


def _remove(conn: db.Connection, source: Source) -> bool:
    return settle(conn, source, policy=db.LockPolicy(give_up_after_s=0))


def _shrink(conn: db.Connection, trimmed: Sequence[tuple[Source, Mapping[str, Any]]], limit: int) -> None:
    """Windows are looked for in the whole file, and capture looks at its size: an emptied one has to shrink."""
    wasteful, unindexed = list[Composable](), list[Source]()
    for source, one in trimmed:
        deleted, file_bytes = one["deleted"], one["bytes"]
        many = deleted >= _MANY_ROWS or (deleted and file_bytes > limit // 2)
        if (many and not one["emptied"]) or (deleted and 0 < file_bytes <= _SMALL_BYTES):
            wasteful.append(buffer_name(source.id))
        if many and one["unindexed"]:
            unindexed.append(source)
    _vacuum(conn, wasteful)
    for source in unindexed:
        settle(conn, source, policy=db.LockPolicy(give_up_after_s=0))


def _vacuum(conn: db.Connection, tables: Sequence[Composable]) -> None:
    """One message for all; pg_class is not read to its end for the sake of the database's oldest transaction."""
    if tables:
        options = SQL("SKIP_LOCKED, SKIP_DATABASE_STATS" if conn.info.server_version >= 160000 else "SKIP_LOCKED")
        db.execute(conn, SQL("VACUUM ({}) {}").format(options, comma_separated(tables)), alone=True)


def _vacuum_neglected(conn: db.Connection) -> None:
    """Where autovacuum is off, logs, state and stream tables would grow with every refresh."""
    found = access.rows(conn, "fetch_neglected", _Named)
    _vacuum(conn, [qualified(one.schema_name, one.table_name) for one in found])


def _size(conn: db.Connection, source: Source) -> _Size | None:
    buffer = buffer_of(source.id)
    return access.row(conn, "buffer_size", _Size, buffer=f"{buffer.schema}.{buffer.name}")


def _demote(conn: db.Connection, source: Source) -> int | None:
    """Let go of the consumer that is furthest behind if the buffer is too large; not in the middle of its refresh.

    Earlier, before capture stops for all, of those that will not catch up by themselves.
    """
    size = _size(conn, source)
    if size is None or size.bytes <= _FILLING * size.limit_bytes:
        return None
    live = db.fetch_value(conn, _LIVE_BYTES.format(buffer=buffer_name(source.id)))
    if live <= _TOO_FULL * size.limit_bytes:
        return None
    return access.value(conn, "demote_furthest_behind", id=source.id, full=size.bytes > size.limit_bytes)


def let_go(conn: db.Connection, stream_table_id: int) -> None:
    """Keep no more changes for a stream table: its next refresh recomputes. Waits for one that is under way."""

    def work() -> None:
        groups.touch(conn, [stream_table_id])
        access.run(conn, "let_go", id=stream_table_id)

    db.under_lock_timeout(conn, work)


def rejoin(conn: db.Connection, stream_table_ids: Sequence[int]) -> tuple[int, ...]:
    """Make demoted stream tables hold back trimming again; those that were demoted.

    Has to commit before the snapshot of their recomputing refresh is taken, so call it before every refresh that
    finds ``stream_tables.demoted``. The recompute itself is asked for by ``recompute_reason`` as always.
    """
    found = access.rows(conn, "rejoin", _Id, ids=list(stream_table_ids))
    return tuple(row.id for row in found)
