"""A refresh must not change its own sources: checked by the server before COMMIT, explained afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Identifier, Literal

from pgtrickle import db
from pgtrickle.capture import buffer_of
from pgtrickle.catalog import groups
from pgtrickle.catalog.groups import GroupSource
from pgtrickle.db import Query
from pgtrickle.errors import InternalError, PgTrickleError, SelfWrite
from pgtrickle.names import XID_COLUMN
from pgtrickle.refresh import culprits
from pgtrickle.refresh.member import Member

#: The server counts what a session inserts, if it is told to. Only where it has counted something (it may have been
#: an earlier transaction, or undone) the buffer is read.
_PROBE = SQL(
    "SELECT {relid}::bigint WHERE CASE WHEN pg_catalog.current_setting('track_counts') = 'on'"
    " AND pg_catalog.pg_stat_get_xact_tuples_inserted({name}::pg_catalog.regclass) = 0 THEN FALSE"
    " ELSE EXISTS (SELECT FROM {buffer} b WHERE b.{xid} = pg_catalog.pg_current_xact_id_if_assigned()) END"
)


def check(members: Sequence[Member]) -> list[Query]:
    """The statements, one at most, that fail if this very transaction has changed a source; when all is written."""
    if not any(member.counts.total for member in members):
        return []
    probes = []
    for source_id, source in sorted(_sources(members).items()):
        buffer = buffer_of(source_id)
        probes.append(
            _PROBE.format(
                relid=Literal(source.relid),
                name=Literal(f"{buffer.schema}.{buffer.name}"),
                buffer=Identifier(buffer.schema, buffer.name),
                xid=Identifier(XID_COLUMN),
            )
        )
    return [groups.refuse_own_writes(probes)] if probes else []


def explained(conn: db.Connection, members: Sequence[Member], error: PgTrickleError) -> PgTrickleError:
    """The error to show: who wrote to which source. Any other error as it is.

    Args:
        conn: not in the refresh's transaction any more, which is aborted.
        members: of the refresh.
        error: what the refresh failed with.
    """
    if error.sqlstate != groups.OWN_WRITES:
        return error
    moved = [member for member in members if member.moved]
    written = set(map(int, (error.detail or "").split(";")[0].split()))
    tables = ", ".join(
        f"{source.schema}.{source.name}" for source in _sources(moved).values() if source.relid in written
    )
    names = ", ".join(member.row.name for member in moved)
    found = culprits.fetch(conn, [member.row.relid for member in moved])
    if not found:
        return InternalError(f"The refresh of {names} wrote to {tables}, and no trigger or foreign key explains it.")
    return SelfWrite(
        f"The refresh itself changed its source {tables}.",
        object_name=names,
        detail=f"Caused by {', '.join(found)}.",
        hint="A trigger or foreign key on a stream table must not write to its sources: drop it or the dependency.",
    )


def _sources(members: Sequence[Member]) -> dict[int, GroupSource]:
    return {
        source.source_id: source for member in members for source in member.row.sources if source.source_id is not None
    }
