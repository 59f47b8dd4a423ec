"""What change buffers hold for a whole group, in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def fetch_windows(conn: db.Connection, wanted: Sequence[WindowOf]) -> dict[int, dict[int, Window]]:
    """Count windows; stream table id -> relid of the source -> window.

    Args:
        conn: inside the refresh's transaction.
        wanted: any number, also none.
    """
    found: dict[int, dict[int, Window]] = {}
    if wanted:
        for row in db.fetch_all(conn, SQL("\nUNION ALL ").join(map(_window, wanted)), dict):
            found.setdefault(row["id"], {})[row["relid"]] = Window(row["rows"], row["marked"], row["overflowed"])
    return found


def asked(window: WindowOf) -> dict[str, Any]:
    """A window as `groups.begin` is asked for it, which knows the frontier itself."""
    buffer = buffer_of(window.source_id)
    return {
        "id": window.stream_table_id,
        "relid": window.relid,
        "source_id": window.source_id,
        "buffer": f"{buffer.schema}.{buffer.name}",
        "cap": window.cap,
    }


def told(windows: Mapping[str, tuple[int, bool, bool]] | None) -> dict[int, Window]:
    """The windows of one stream table as they were counted then, by relid of the source."""
    return {int(relid): Window(*window) for relid, window in (windows or {}).items()}


def _window(wanted: WindowOf) -> Query:
    # The xmax arm is a range of the index, the others are single values: no function is called per row.
    buffer = buffer_of(wanted.source_id)
    xids = SQL("({xid} >= {xmax}::xid8 OR {xid} = ANY ({xip}::xid8[]))").format(
        xid=Identifier(XID_COLUMN), xmax=Literal(wanted.frontier.xmax), xip=Literal(list(wanted.frontier.xip))
    )
    limit = SQL("") if wanted.cap is None else SQL(" LIMIT {}").format(Literal(wanted.cap))
    return SQL(
        "SELECT {id}::bigint AS id, {relid}::bigint AS relid, pg_catalog.count(*) AS rows, "
        "coalesce(pg_catalog.bool_or(w.{weight} = 0), false) AS marked, "
        "EXISTS (SELECT FROM pgtrickle.overflows o WHERE o.source_id = {source_id}) AS overflowed "
        "FROM (SELECT b.{weight} FROM {buffer} b WHERE {xids}{limit}) w"
    ).format(
        id=Literal(wanted.stream_table_id),
        source_id=Literal(wanted.source_id),
        relid=Literal(wanted.relid),
        weight=Identifier(WEIGHT_COLUMN),
        buffer=Identifier(buffer.schema, buffer.name),
        xids=xids,
        limit=limit,
    )
