"""``pgtrickle.sources``, ``source_tables`` and ``dependencies``: what is read, and what is captured for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import Dependency, Source


@dataclass(frozen=True, slots=True)
class _SourceRow:
    id: int
    relid: int
    schema_name: str
    table_name: str
    capture: str
    trigger_level: str
    columns: list[int]

    def source(self) -> Source:
        return Source(
            self.id, self.relid, self.schema_name, self.table_name, self.capture, self.trigger_level, tuple(self.columns)
        )


@dataclass(frozen=True, slots=True)
class _DependencyRow:
    stream_table_id: int
    position: int
    kind: str
    relid: int
    schema_name: str
    object_name: str
    source_id: int | None
    source_stream_table_id: int | None
    columns: list[int]
    rows: bool

    def dependency(self) -> Dependency:
        fields = {name: getattr(self, name) for name in Dependency.__slots__}
        return Dependency(**{**fields, "columns": tuple(self.columns)})


def fetch_all(conn: db.Connection) -> tuple[Source, ...]:
    """Every captured source, by OID."""
    return tuple(row.source() for row in access.rows(conn, "fetch_sources", _SourceRow))


def fetch_by_relid(conn: db.Connection, relid: int) -> Source | None:
    """The source that this relation is."""
    row = access.row(conn, "fetch_source_by_relid", _SourceRow, relid=relid)
    return None if row is None else row.source()


def fetch_of(conn: db.Connection, stream_table_ids: Sequence[int]) -> tuple[Source, ...]:
    """The captured sources that any of these stream tables reads, by OID."""
    return tuple(
        row.source() for row in access.rows(conn, "fetch_sources_of", _SourceRow, ids=list(stream_table_ids))
    )


def dependencies(conn: db.Connection, stream_table_id: int | None = None) -> tuple[Dependency, ...]:
    """What one stream table reads, or what all of them read."""
    found = access.rows(conn, "fetch_dependencies", _DependencyRow, id=stream_table_id)
    return tuple(row.dependency() for row in found)


def dependents(conn: db.Connection, stream_table_id: int) -> tuple[int, ...]:
    """Ids of the stream tables that read this stream table directly."""
    return tuple(row["id"] for row in access.rows(conn, "fetch_dependents", dict, id=stream_table_id))


def upsert_dependency(conn: db.Connection, dependency: Dependency) -> None:
    """Record what a stream table reads; for what it reads already columns are added, rows switched on, never off.

    `capture.install` does this for captured sources; others (views, functions, types, uncaptured tables, stream
    tables) are recorded by the lifecycle with this function. The position is ours to choose.
    """
    values = {**asdict(dependency), "columns": list(dependency.columns)}
    del values["position"]
    access.run(conn, "upsert_dependency", **values)


def delete_dependencies(conn: db.Connection, stream_table_id: int, kinds: Sequence[str]) -> None:
    """Forget what a stream table reads of these kinds. For ``table`` use `capture.release` instead."""
    access.run(conn, "delete_dependencies", id=stream_table_id, kinds=list(kinds))
