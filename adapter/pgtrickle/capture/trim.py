"""Trimming change buffers and logs to what some consumer still has to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.capture.buffers import buffer_name, buffer_of
from pgtrickle.capture.install import settle
from pgtrickle.catalog import access, sources
from pgtrickle.catalog.model import Source
from pgtrickle.names import STATE_SCHEMA
from pgtrickle.sql import qualified

#: Autovacuum would come a minute later; until then every refresh would read the dead rows.
_MANY_ROWS = 10_000

_LIVE_BYTES = SQL("SELECT coalesce(pg_catalog.sum(pg_catalog.pg_column_size(b)), 0) FROM {buffer} b")


@dataclass(frozen=True, slots=True)
class TrimResult:
    """What a trim did: rows deleted, stream tables demoted to a recompute, sources whose capture was removed."""

    deleted: int
    demoted: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Log:
    stream_table_id: int
    schema_name: str
    table_name: str


@dataclass(frozen=True, slots=True)
class _Size:
    bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class _Id:
    id: int


def trim(conn: db.Connection) -> TrimResult:
    """Delete change rows that are visible in the frontier of every registered consumer, and consumed log rows.

    Own READ COMMITTED transactions, one per buffer; a buffer that somebody else is trimming is skipped. Of a change
    buffer beyond ``installation.buffer_limit_bytes`` the consumer that is furthest behind is let go: its next
    refresh recomputes.

    Args:
        conn: autocommit, not in a transaction.
    """
    access.run(conn, "plant_canary")
    deleted, demoted, removed = 0, set[int](), []
    for source in sources.fetch_all(conn):
        if sources.needs(conn, source.id).consumers == 0:
            if settle(conn, source, policy=db.LockPolicy(give_up_after_s=0)):
                removed.append(source.id)
            continue
        deleted += _trim_buffer(conn, source)
        while behind := _demote(conn, source):
            demoted.add(behind)
            deleted += _trim_buffer(conn, source)
    for log in access.rows(conn, "fetch_logs", _Log):
        deleted += _trim_log(conn, log)
    return TrimResult(deleted, tuple(sorted(demoted)), tuple(removed))


def _trim_buffer(conn: db.Connection, source: Source) -> int:
    with db.transaction(conn):
        if sources.lock(conn, source.id, skip_locked=True) is None or _size(conn, source) is None:
            return 0
        deleted = access.run_on(conn, "trim_buffer", buffer_name(source.id), id=source.id)
    size = _size(conn, source)
    if size is not None and (deleted >= _MANY_ROWS or (deleted and size.bytes > size.limit_bytes // 2)):
        # Windows are looked for in the whole file, and capture looks at its size: an emptied one has to shrink.
        db.execute(conn, SQL("VACUUM (SKIP_LOCKED) {}").format(buffer_name(source.id)))
        settle(conn, source, policy=db.LockPolicy(give_up_after_s=0))
    return deleted


def _size(conn: db.Connection, source: Source) -> _Size | None:
    buffer = buffer_of(source.id)
    return access.row(conn, "buffer_size", _Size, buffer=f"{buffer.schema}.{buffer.name}")


def _demote(conn: db.Connection, source: Source) -> int | None:
    """Let go of the consumer that is furthest behind if the buffer is too large; not in the middle of its refresh."""
    size = _size(conn, source)
    if size is None or size.bytes <= size.limit_bytes:
        return None
    live = db.fetch_value(conn, _LIVE_BYTES.format(buffer=buffer_name(source.id)))
    if live <= size.limit_bytes // 2:
        return None
    return access.value(conn, "demote_furthest_behind", id=source.id)


def _trim_log(conn: db.Connection, log: _Log) -> int:
    name = "trim_stage_log" if log.schema_name == STATE_SCHEMA else "trim_output_log"
    with db.transaction(conn):
        if not access.rows(conn, "lock_stream_table_or_skip", _Id, id=log.stream_table_id):
            return 0
        return access.run_on(conn, name, qualified(log.schema_name, log.table_name), id=log.stream_table_id)


def rejoin(conn: db.Connection, stream_table_ids: Sequence[int]) -> tuple[int, ...]:
    """Make demoted stream tables hold back trimming again; those that were demoted.

    Has to commit before the snapshot of their recomputing refresh is taken, so call it before every refresh that
    finds ``stream_tables.demoted``. The recompute itself is asked for by ``recompute_reason`` as always.
    """
    found = access.rows(conn, "rejoin", _Id, ids=list(stream_table_ids))
    return tuple(row.id for row in found)
