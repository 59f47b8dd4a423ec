"""``pgtrickle.sources``, ``source_tables`` and ``dependencies``: what is read, and what is captured for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import Dependency, Source
from pgtrickle.errors import InternalError


@dataclass(frozen=True, slots=True)
class _SourceRow:
    id: int
    relid: int
    schema_name: str
    table_name: str
    capture: str
    trigger_level: str
    columns: list[int]
    generation: int
    partition_constraint: str | None
    epoch: int

    def source(self) -> Source:
        fields = {name: getattr(self, name) for name in Source.__slots__}
        return Source(**{**fields, "columns": tuple(self.columns)})


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


def filled(conn: db.Connection) -> frozenset[int]:
    """Ids of the sources whose change buffers may have rows."""
    return frozenset(row["id"] for row in access.rows(conn, "fetch_filled_buffers", dict))


def fetch_of(conn: db.Connection, stream_table_ids: Sequence[int]) -> tuple[Source, ...]:
    """The captured sources that any of these stream tables reads, by OID."""
    return tuple(row.source() for row in access.rows(conn, "fetch_sources_of", _SourceRow, ids=list(stream_table_ids)))


@dataclass(frozen=True, slots=True)
class Needs:
    """What the consumers of a source need together. ``rows`` is False if a mark per statement is enough."""

    columns: list[int]
    rows: bool
    consumers: int


def upsert(conn: db.Connection, relid: int, schema_name: str, table_name: str) -> Source:
    """Register a source, or note its present name; locks its row until the end of the transaction."""
    access.run(conn, "upsert_source", relid=relid, schema_name=schema_name, table_name=table_name)
    row = access.row(conn, "lock_source", _SourceRow, relid=relid)
    if row is None:
        raise InternalError("a source vanished while it was locked", object_name=f"{schema_name}.{table_name}")
    return row.source()


def lock(conn: db.Connection, source_id: int, *, skip_locked: bool = False) -> Source | None:
    """Lock the row of a source; None if it is gone, or locked and to be skipped."""
    row = access.row(conn, "lock_source_or_skip" if skip_locked else "lock_source_by_id", _SourceRow, id=source_id)
    return None if row is None else row.source()


def needs(conn: db.Connection, source_id: int) -> Needs:
    """What all registered consumers need of a source."""
    found = access.row(conn, "source_needs", Needs, id=source_id)
    return found or Needs([], False, 0)


def record_capture(conn: db.Connection, source: Source) -> None:
    """Store what is captured now (all but id, OID and name)."""
    db.execute(conn, recording_capture(conn, source))


def recording_capture(conn: db.Connection, source: Source) -> SQL:
    """The statement of `record_capture`."""
    values = asdict(source)
    return access.bound(
        conn,
        "update_source",
        **{
            name: values[name]
            for name in ("id", "capture", "trigger_level", "generation", "partition_constraint", "epoch")
        },
        columns=list(source.columns),
    )


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table that carries our triggers for a source; ``triggers``: their names -> their xmin and their function's."""

    relid: int
    place: str
    attached: str
    triggers: Mapping[str, str]


def tables(conn: db.Connection, source_id: int) -> tuple[SourceTable, ...]:
    """The tables that carry our triggers for a source, as recorded."""
    return access.rows(conn, "fetch_source_tables", SourceTable, id=source_id)


def record_tables(conn: db.Connection, source_id: int, found: Sequence[SourceTable]) -> None:
    """Record these tables instead of the old ones."""
    access.run(conn, "delete_source_tables", id=source_id, keep=[table.relid for table in found])
    access.run(conn, "upsert_source_tables", id=source_id, tables=access.jsonb([asdict(table) for table in found]))


def recording_tables(
    conn: db.Connection, source_id: int, found: Sequence[SourceTable], triggers: SQL, functions: Sequence[str]
) -> list[SQL]:
    """The statements that record these tables instead of the old ones, with the triggers that are on them then.

    Args:
        conn: for the rules of their literals.
        source_id: of the source.
        found: the tables; what they say of triggers does not count.
        triggers: the query that finds all triggers of ``functions``.
        functions: names of the source's trigger functions.
    """
    tables = access.jsonb([asdict(table) for table in found])
    holes = {"triggers": triggers}
    return [
        access.bound(conn, "delete_source_tables", id=source_id, keep=[table.relid for table in found]),
        access.bound(
            conn,
            "upsert_source_tables_with_present_triggers",
            holes,
            id=source_id,
            tables=tables,
            names=list(functions),
        ),
    ]


def deleting(conn: db.Connection, source_id: int) -> SQL:
    """The statement that forgets a source that has no consumers."""
    return access.bound(conn, "delete_source", id=source_id)


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


def delete_dependency(conn: db.Connection, stream_table_id: int, kind: str, relid: int) -> None:
    """Forget one thing that a stream table reads."""
    access.run(conn, "delete_dependency", stream_table_id=stream_table_id, kind=kind, relid=relid)


def narrow_dependency(conn: db.Connection, dependency: Dependency) -> None:
    """Replace columns and rows of a recorded dependency by what this one says."""
    access.run(
        conn,
        "set_dependency",
        stream_table_id=dependency.stream_table_id,
        kind=dependency.kind,
        relid=dependency.relid,
        columns=list(dependency.columns),
        rows=dependency.rows,
    )


def overflowed(conn: db.Connection, source_id: int) -> bool:
    """Whether the change buffer of a source has reached its limit, and capture has stopped."""
    return access.value(conn, "overflowed", id=source_id)


def ending_overflow(conn: db.Connection, source_id: int) -> SQL:
    """The statement that lets capture begin again, with an empty change buffer; writers have to be locked out."""
    return access.bound(conn, "end_overflow", id=source_id)


def consumers(conn: db.Connection, source_id: int) -> tuple[int, ...]:
    """Ids of the stream tables that read a source."""
    return tuple(row["id"] for row in access.rows(conn, "fetch_consumers", dict, id=source_id))
