"""What change buffers hold for a whole group, in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.sql import SQL, Identifier, Literal

from pgtrickle import db
from pgtrickle.capture import buffer_of
from pgtrickle.catalog.model import Snapshot
from pgtrickle.db import Query
from pgtrickle.names import WEIGHT_COLUMN, XID_COLUMN
from pgtrickle.refresh.plan import Window


@dataclass(frozen=True, slots=True)
class WindowOf:
    """A window to be looked at: whose, of which source, from which frontier, and up to how many rows it is counted."""

    stream_table_id: int
    relid: int
    source_id: int
    frontier: Snapshot
    cap: int | None


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    relid: int
    rows: int
    marked: bool


def fetch_windows(conn: db.Connection, wanted: Sequence[WindowOf]) -> dict[int, dict[int, Window]]:
    """Count windows; stream table id -> relid of the source -> window.

    Args:
        conn: inside the refresh's transaction.
        wanted: any number, also none.
    """
    found: dict[int, dict[int, Window]] = {}
    if not wanted:
        return found
    for row in db.fetch_all(conn, SQL("\nUNION ALL ").join(map(_window, wanted)), _Row):
        found.setdefault(row.id, {})[row.relid] = Window(row.rows, row.marked)
    return found


def _window(wanted: WindowOf) -> Query:
    # The xmax arm is a range of the index, the others are single values: no function is called per row.
    buffer = buffer_of(wanted.source_id)
    xids = SQL("({xid} >= {xmax}::xid8 OR {xid} = ANY ({xip}::xid8[]))").format(
        xid=Identifier(XID_COLUMN), xmax=Literal(wanted.frontier.xmax), xip=Literal(list(wanted.frontier.xip))
    )
    limit = SQL("") if wanted.cap is None else SQL(" LIMIT {}").format(Literal(wanted.cap))
    return SQL(
        "SELECT {id}::bigint AS id, {relid}::bigint AS relid, pg_catalog.count(*) AS rows, "
        "coalesce(pg_catalog.bool_or(w.{weight} = 0), false) AS marked "
        "FROM (SELECT b.{weight} FROM {buffer} b WHERE {xids}{limit}) w"
    ).format(
        id=Literal(wanted.stream_table_id),
        relid=Literal(wanted.relid),
        weight=Identifier(WEIGHT_COLUMN),
        buffer=Identifier(buffer.schema, buffer.name),
        xids=xids,
        limit=limit,
    )


def fetch_own_writes(conn: db.Connection, sources: Mapping[int, int]) -> frozenset[int]:
    """The sources that this very transaction has changed; to be asked when everything is written.

    Args:
        conn: inside the refresh's transaction.
        sources: source id -> OID of the table.
    """
    if not sources:
        return frozenset()
    probe = SQL(
        "SELECT {relid}::bigint AS relid FROM (SELECT 1) one "
        "WHERE EXISTS (SELECT FROM {buffer} b WHERE b.{xid} = pg_catalog.pg_current_xact_id_if_assigned())"
    )
    probes = [
        probe.format(relid=Literal(relid), buffer=Identifier(buffer.schema, buffer.name), xid=Identifier(XID_COLUMN))
        for relid, buffer in ((relid, buffer_of(source_id)) for source_id, relid in sorted(sources.items()))
    ]
    return frozenset(row["relid"] for row in db.fetch_all(conn, SQL("\nUNION ALL ").join(probes), dict))
