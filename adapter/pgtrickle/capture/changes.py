"""What change buffers hold for a refresh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.sql import SQL, Composed, Literal

from pgtrickle import db
from pgtrickle.capture.buffers import buffer_name
from pgtrickle.catalog.model import Frontier, Snapshot, Source
from pgtrickle.errors import InternalError

_WINDOW = SQL(
    "SELECT {source_id} AS source_id, {relid} AS relid, pg_catalog.count(*) FILTER (WHERE __w <> 0) AS rows,"
    " coalesce(pg_catalog.bool_or(__w = 0), false) AS marked"
    " FROM {buffer} WHERE __x >= %(xmax)s::xid8 OR __x = ANY (%(xip)s::xid8[])"
)
_OWN = SQL(
    "SELECT {source_id} AS source_id WHERE EXISTS"
    " (SELECT FROM {buffer} WHERE __x = pg_catalog.pg_current_xact_id_if_assigned())"
)


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """The window of one source: number of change rows, and whether a mark demands a recompute."""

    source_id: int
    relid: int
    rows: int
    marked: bool


@dataclass(frozen=True, slots=True)
class _Found:
    source_id: int


def window_params(snapshot: Snapshot) -> dict[str, object]:
    """The parameters ``xmax`` and ``xip`` that every window predicate of a statement needs."""
    return {"xmax": snapshot.xmax, "xip": list(snapshot.xip)}


def _for_each(template: SQL, sources: Sequence[Source]) -> Composed:
    return SQL(" UNION ALL ").join(
        template.format(source_id=Literal(source.id), relid=Literal(source.relid), buffer=buffer_name(source.id))
        for source in sources
    )


def changes(conn: db.Connection, frontier: Frontier, sources: Sequence[Source]) -> tuple[SourceChanges, ...]:
    """Count the windows of several sources in one statement, in the order given.

    Args:
        conn: inside the refresh's transaction.
        frontier: with a snapshot.
        sources: the captured sources of the stream table.
    """
    if frontier.snapshot is None:
        raise InternalError("no window before the first load", object_name=str(frontier.stream_table_id))
    if not sources:
        return ()
    found = db.fetch_all(conn, _for_each(_WINDOW, sources), SourceChanges, window_params(frontier.snapshot))
    by_source = {window.source_id: window for window in found}
    return tuple(by_source[source.id] for source in sources)


def own_writes(conn: db.Connection, sources: Sequence[Source]) -> tuple[Source, ...]:
    """Those of the sources whose change buffer has rows of the current transaction. One statement, at its end."""
    if not sources:
        return ()
    found = {row.source_id for row in db.fetch_all(conn, _for_each(_OWN, sources), _Found)}
    return tuple(source for source in sources if source.id in found)
