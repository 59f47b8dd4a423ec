"""A refresh must not change its own sources: checked by the server before COMMIT, explained afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pgtrickle import db
from pgtrickle.capture import buffer_of
from pgtrickle.catalog import groups, sources
from pgtrickle.catalog.groups import GroupSource
from pgtrickle.errors import PgTrickleError, SelfWrite
from pgtrickle.refresh import culprits
from pgtrickle.refresh.member import Member


def written(members: Sequence[Member]) -> Mapping[str, str]:
    """The change buffers that this very transaction must not have written to in the end, by OID of the source."""
    if not any(member.counts.total for member in members):
        return {}
    buffers = ((source.relid, buffer_of(source_id)) for source_id, source in _sources(members).items())
    return {str(relid): f"{buffer.schema}.{buffer.name}" for relid, buffer in buffers}


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
    return SelfWrite(
        f"The refresh itself changed its source {tables}.",
        object_name=names,
        detail=f"Caused by {', '.join(_culprits(conn, moved))}.",
        hint="Nothing that a refresh calls or sets off may write to its sources: drop that, or the dependency.",
    )


def _culprits(conn: db.Connection, moved: Sequence[Member]) -> tuple[str, ...]:
    found = culprits.fetch(conn, [member.row.relid for member in moved])
    if found:
        return found
    called = [
        dependency.relid
        for member in moved
        for dependency in sources.dependencies(conn, member.row.id)
        if dependency.kind == "function"
    ]
    return culprits.writers(conn, called) or ("a function that the query, an index, a domain or a policy calls",)


def _sources(members: Sequence[Member]) -> dict[int, GroupSource]:
    return {
        source.source_id: source for member in members for source in member.row.sources if source.source_id is not None
    }
