"""What the capture of one source is, what it should be, and the gap between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.sql import Composed

from pgtrickle import db
from pgtrickle.capture import functions, relations, triggers
from pgtrickle.capture.buffers import alter_buffer, buffer_of, index_buffer
from pgtrickle.capture.functions import Shape
from pgtrickle.capture.relations import QUERIES, BufferColumn, Family, InstalledTrigger, Level, Table
from pgtrickle.capture.triggers import Trigger
from pgtrickle.catalog import installation, sources
from pgtrickle.catalog.model import Source
from pgtrickle.catalog.sources import SourceTable
from pgtrickle.errors import CatalogError
from pgtrickle.names import TABLEOID, change_column

#: The largest change buffer that is indexed while its writers wait, bytes; takes some 20 ms.
INDEXED_AT_ONCE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What should exist for one source."""

    family: Family
    shape: Shape
    bodies: Mapping[str, str]
    triggers: tuple[Trigger, ...]
    has_index: bool


@dataclass(frozen=True, slots=True)
class Actual:
    """What does exist."""

    has_buffer: bool
    has_index: bool
    buffer_bytes: int
    buffer_columns: tuple[BufferColumn, ...]
    bodies: Mapping[str, str]
    triggers: tuple[InstalledTrigger, ...]
    recorded: Mapping[int, SourceTable]
    added_with_rows: tuple[Table, ...]
    overflowed: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """What has to be done. ``missed`` says why changes may have been lost before, or is None."""

    create_buffer: bool
    alter_buffer: tuple[Composed, ...]
    index_buffer: tuple[Composed, ...]
    functions: tuple[str, ...]
    create: tuple[Trigger, ...]
    drop: tuple[InstalledTrigger, ...]
    missed: str | None
    overflowed: bool

    @property
    def is_empty(self) -> bool:
        buffer = self.create_buffer or self.alter_buffer or self.index_buffer
        return not (buffer or self.functions or self.create or self.drop or self.overflowed)


def _target(conn: db.Connection, source: Source, found: Family) -> Target:
    needs = sources.needs(conn, source.id)
    settings = installation.fetch(conn)
    if settings is None:
        raise CatalogError("pgtrickle.installation is empty", object_name="pgtrickle", hint="Run `pgtrickle init`.")
    rows = needs.rows
    columns = relations.columns(conn, source.relid, needs.columns) if rows else ()
    level = found.level(rows=rows, tableoid=rows and TABLEOID in needs.columns)
    root = found.root
    partition = (
        db.fetch_value(conn, QUERIES["partition_constraint"], {"relid": source.relid})
        if root is not None and root.is_partition
        else None
    )
    parents = _parents(found, level)
    shape = Shape(
        source_id=source.id,
        relid=source.relid,
        columns=columns,
        rows=rows,
        level=level,
        partition=partition,
        limit_bytes=settings.buffer_limit_bytes,
        truncate_rows=settings.truncate_rows,
        epoch=source.epoch,
        key=relations.key_columns(conn, source.relid) if rows and level == "statement" else (),
        parents=tuple(table.relid for table in parents),
        known=tuple(table.relid for table in found.own),
        links=sum(table.links for table in parents),
        routes=found.is_partitioned,
        alone=len(found.own) == 1,
        moves=level == "statement" and any(table.moved_by is not None for table in found.tables),
        may_ask=partition is None
        or not db.fetch_value(conn, QUERIES["foreign_partition_key"], {"relid": source.relid}),
    )
    return Target(
        family=found,
        shape=shape,
        bodies=functions.bodies(shape, has_ancestors=bool(found.ancestors)),
        triggers=triggers.wanted(source.id, found, level),
        # One consumer reads all that trimming leaves; several read different parts of a longer buffer.
        has_index=rows and needs.consumers > 1,
    )


def _parents(found: Family, level: Level) -> tuple[Table, ...]:
    """The tables whose statements may meet another one below them, before capture has met it.

    Triggers that fire by row are on tables that capture has met. The functions of a partition without partitions
    see its own rows only.
    """
    root = found.root
    if level != "statement" or (root is not None and root.is_partition and not found.is_partitioned):
        return ()
    return tuple(table for table in found.own if table.kind == "p" or not found.is_partitioned)


@dataclass(frozen=True, slots=True)
class Body:
    """A function of ours as it is."""

    name: str
    body: str


@dataclass(frozen=True, slots=True)
class _Buffer:
    has_index: bool
    bytes: int


def _actual(conn: db.Connection, source: Source, found: Family) -> Actual:
    relation = buffer_of(source.id)
    name = f"{relation.schema}.{relation.name}"
    buffer = db.fetch_one(conn, QUERIES["buffer"], _Buffer, {"buffer": name, "index": f"{name}_x"})
    recorded = {table.relid: table for table in sources.tables(conn, source.id)}
    added = [table for table in found.own if table.relid not in recorded] if recorded else []
    return Actual(
        has_buffer=buffer is not None,
        has_index=buffer is not None and buffer.has_index,
        buffer_bytes=0 if buffer is None else buffer.bytes,
        buffer_columns=db.fetch_all(conn, QUERIES["buffer_columns"], BufferColumn, {"buffer": name}),
        bodies={body.name: body.body for body in bodies_of(conn, source)},
        triggers=installed(conn, source),
        recorded=recorded,
        added_with_rows=tuple(table for table in added if not relations.never_filled(conn, table)),
        overflowed=sources.overflowed(conn, source.id),
    )


def bodies_of(conn: db.Connection, source: Source) -> tuple[Body, ...]:
    """The functions that a source has."""
    return db.fetch_all(conn, QUERIES["function_bodies"], Body, {"names": functions.all_functions(source.id)})


def installed(conn: db.Connection, source: Source) -> tuple[InstalledTrigger, ...]:
    """The triggers that run functions of a source."""
    names = {"names": functions.all_functions(source.id)}
    return db.fetch_all(conn, QUERIES["installed_triggers"], InstalledTrigger, names)


def filled_meanwhile(conn: db.Connection, target: Target, actual: Actual) -> str | None:
    """Why changes may have gone by in a table that could not be locked before it had its triggers."""
    for table in target.family.own if actual.recorded else ():
        if table.relid not in actual.recorded and not table.may_lock and not relations.never_filled(conn, table):
            return f"{table.name} was added and written to"
    return None


def _intact(trigger: Trigger, actual: Mapping[tuple[int, str], InstalledTrigger], recorded: SourceTable | None) -> bool:
    """Whether a trigger is there as we left it: nobody disabled it, not even for a moment."""
    found = actual.get((trigger.table.relid, trigger.name))
    return (
        found is not None
        and found.function == trigger.function
        # Before anything is recorded it is one of those that were made table by table.
        and (found.xmin == recorded.triggers.get(trigger.name) if recorded is not None else found.is_whole)
    )


def _missed(source: Source, target: Target, actual: Actual) -> str | None:
    """Why changes may have gone by uncaptured since the last look."""
    if not actual.recorded:
        return None
    if not _holds(source, actual):
        return "the change buffer was dropped or altered"
    if actual.added_with_rows:
        return f"{actual.added_with_rows[0].name} was added with rows in it"
    if source.partition_constraint != target.shape.partition:
        return "its partition constraint changed"
    if (source.trigger_level == "row") != (target.shape.level == "row"):
        return "logical replication writes to it now, or no longer does"
    changed = next(filter(None, (_changed(table, actual) for table in target.family.tables)), None)
    if changed is not None:
        return changed
    own = {table.relid for table in target.family.own}
    gone = [relid for relid, table in actual.recorded.items() if table.place == "own" and relid not in own]
    return f"a partition or child (OID {gone[0]}) was removed" if gone else None


def _holds(source: Source, actual: Actual) -> bool:
    """Whether the change buffer is there with what is captured."""
    return actual.has_buffer and {change_column(number) for number in source.columns} <= {
        column.name for column in actual.buffer_columns
    }


def _changed(table: Table, actual: Actual) -> str | None:
    """What happened to one table of the family and to our triggers on it."""
    known = actual.recorded.get(table.relid)
    if known is None:
        return None
    if known.attached != table.attached:
        return f"{table.name} was attached or detached, or was away for a while"
    present = {trigger.name: trigger.xmin for trigger in actual.triggers if trigger.relid == table.relid}
    for name, xmin in known.triggers.items():
        if present.get(name) != xmin:
            return f"the trigger {name} on {table.name} or its function was changed, disabled or dropped"
    return None


def _gap(source: Source, target: Target, actual: Actual) -> Gap:
    existing = {(trigger.relid, trigger.name): trigger for trigger in actual.triggers}
    broken = [
        trigger
        for trigger in target.triggers
        if not _intact(trigger, existing, actual.recorded.get(trigger.table.relid))
        or (actual.recorded and trigger.table.relid not in actual.recorded)
    ]
    names = {(trigger.table.relid, trigger.name) for trigger in target.triggers}
    # Somebody may have altered the function and left its body as it is.
    altered = {trigger.function for trigger in broken if (trigger.table.relid, trigger.name) in existing}
    # Writers wait while an index is built: on a long buffer it has to wait for a trim.
    index = target.has_index != actual.has_index and actual.buffer_bytes <= INDEXED_AT_ONCE_BYTES
    return Gap(
        create_buffer=not actual.has_buffer,
        index_buffer=(index_buffer(source.id, wanted=target.has_index),) if index else (),
        alter_buffer=alter_buffer(source.id, actual.buffer_columns, target.shape.columns),
        functions=tuple(
            name for name, body in target.bodies.items() if actual.bodies.get(name) != body or name in altered
        ),
        create=tuple(broken),
        drop=tuple(trigger for key, trigger in existing.items() if key not in names),
        missed="its change buffer reached the limit" if actual.overflowed else _missed(source, target, actual),
        overflowed=actual.overflowed,
    )


def look(conn: db.Connection, source: Source) -> tuple[Target, Actual, Gap]:
    """All three; what is read without locks may be out of date."""
    found = relations.family(conn, source.relid)
    target = _target(conn, source, found)
    actual = _actual(conn, source, found)
    return target, actual, _gap(source, target, actual)
