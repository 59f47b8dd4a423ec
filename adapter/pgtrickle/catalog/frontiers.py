"""``pgtrickle.frontiers``: how far each stream table is; the row is the refresh's lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import Frontier, Snapshot
from pgtrickle.errors import InternalError


@dataclass(frozen=True, slots=True)
class _Row:
    stream_table_id: int
    snapshot: str | None
    refresh_no: int
    data_timestamp: datetime | None
    consumed: dict[str, int]
    last_refresh_at: datetime | None

    def frontier(self) -> Frontier:
        return Frontier(
            stream_table_id=self.stream_table_id,
            snapshot=None if self.snapshot is None else Snapshot.parse(self.snapshot),
            refresh_no=self.refresh_no,
            data_timestamp=self.data_timestamp,
            consumed={int(relid): number for relid, number in self.consumed.items()},
            last_refresh_at=self.last_refresh_at,
        )


def fetch(conn: db.Connection, stream_table_ids: Sequence[int]) -> tuple[Frontier, ...]:
    """Frontiers without a lock, by id."""
    found = access.rows(conn, "fetch_frontiers", _Row, ids=list(stream_table_ids))
    return tuple(row.frontier() for row in found)


def lock(conn: db.Connection, stream_table_ids: Sequence[int], *, nowait: bool = True) -> tuple[Frontier, ...]:
    """Lock the frontiers FOR UPDATE in id order; the first query of a refresh, after its LOCK TABLE.

    In REPEATABLE READ a frontier that moved after the snapshot was taken raises TransactionConflict, so a window
    is never applied twice: begin again.

    Raises:
        LockTimeout: (nowait) another session is refreshing one of them.
        TransactionConflict: another session has just refreshed one of them.
        InternalError: one of them is not registered.
    """
    name = "lock_frontiers_nowait" if nowait else "lock_frontiers"
    found = access.rows(conn, name, _Row, ids=list(stream_table_ids))
    missing = set(stream_table_ids) - {row.stream_table_id for row in found}
    if missing:
        raise InternalError(f"no frontier for the stream tables {sorted(missing)}")
    return tuple(row.frontier() for row in found)


def advance(
    conn: db.Connection,
    stream_table_id: int,
    *,
    refresh_no: int,
    consumed: Mapping[int, int],
    data_changed: bool,
) -> str:
    """Move a locked frontier to the snapshot of this transaction; that snapshot as text.

    Args:
        conn: inside the refresh's REPEATABLE READ transaction.
        stream_table_id: whose.
        refresh_no: the new number; has to be larger than the old one if the refresh wrote a log.
        consumed: OID of each stream table read -> its refresh number as of this snapshot.
        data_changed: whether ``data_timestamp`` moves too (a NO_DATA refresh moves ``last_refresh_at`` only).
    """
    snapshot = access.value(
        conn,
        "advance_frontier",
        id=stream_table_id,
        refresh_no=refresh_no,
        consumed=Jsonb({str(relid): number for relid, number in consumed.items()}),
        data_changed=data_changed,
    )
    if snapshot is None:
        raise InternalError("the stream table has no frontier", object_name=str(stream_table_id))
    return snapshot


def server_snapshot(conn: db.Connection) -> Snapshot:
    """``pg_current_snapshot()``."""
    text: Any = access.value(conn, "server_snapshot")
    return Snapshot.parse(text)
