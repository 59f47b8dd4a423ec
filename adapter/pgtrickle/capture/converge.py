"""Bringing the capture of one source to what its registered consumers need: install, widen, narrow, repair, remove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composed, Identifier

from pgtrickle import db
from pgtrickle.capture import functions, relations, triggers
from pgtrickle.capture.buffers import alter_buffer, buffer_of, create_buffer, drop_buffer, index_buffer
from pgtrickle.capture.functions import Shape
from pgtrickle.capture.relations import QUERIES, BufferColumn, Family, InstalledTrigger, Level, Table
from pgtrickle.capture.triggers import Trigger
from pgtrickle.catalog import groups, installation, sources
from pgtrickle.catalog.model import Source
from pgtrickle.catalog.sources import SourceTable
from pgtrickle.errors import CatalogError, StatementFailed, TransactionConflict
from pgtrickle.names import CHANGES_SCHEMA, TABLEOID, change_column
from pgtrickle.sql import comma_separated, qualified

#: The largest change buffer that is indexed while its writers wait, bytes; takes some 20 ms.
INDEXED_AT_ONCE_BYTES = 4 * 1024 * 1024

_UNDEFINED_TABLE = "42P01"


@dataclass(frozen=True, slots=True)
class _Target:
    """What should exist for one source."""

    family: Family
    shape: Shape
    bodies: Mapping[str, str]
    triggers: tuple[Trigger, ...]
    has_index: bool


@dataclass(frozen=True, slots=True)
class _Actual:
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


def _target(conn: db.Connection, source: Source, found: Family) -> _Target:
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
    return _Target(
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
class _Body:
    name: str
    body: str


@dataclass(frozen=True, slots=True)
class _Buffer:
    has_index: bool
    bytes: int


def _actual(conn: db.Connection, source: Source, found: Family) -> _Actual:
    relation = buffer_of(source.id)
    name = f"{relation.schema}.{relation.name}"
    buffer = db.fetch_one(conn, QUERIES["buffer"], _Buffer, {"buffer": name, "index": f"{name}_x"})
    recorded = {table.relid: table for table in sources.tables(conn, source.id)}
    added = [table for table in found.own if table.relid not in recorded] if recorded else []
    return _Actual(
        has_buffer=buffer is not None,
        has_index=buffer is not None and buffer.has_index,
        buffer_bytes=0 if buffer is None else buffer.bytes,
        buffer_columns=db.fetch_all(conn, QUERIES["buffer_columns"], BufferColumn, {"buffer": name}),
        bodies={body.name: body.body for body in _bodies(conn, source)},
        triggers=_triggers(conn, source),
        recorded=recorded,
        added_with_rows=tuple(table for table in added if not relations.never_filled(conn, table)),
        overflowed=sources.overflowed(conn, source.id),
    )


def _triggers(conn: db.Connection, source: Source) -> tuple[InstalledTrigger, ...]:
    names = {"names": functions.all_functions(source.id)}
    return db.fetch_all(conn, QUERIES["installed_triggers"], InstalledTrigger, names)


def _intact(trigger: Trigger, actual: Mapping[tuple[int, str], InstalledTrigger], recorded: SourceTable | None) -> bool:
    """Whether a trigger is there as we left it: nobody disabled it, not even for a moment."""
    found = actual.get((trigger.table.relid, trigger.name))
    return (
        found is not None
        and found.function == trigger.function
        # Before anything is recorded it is one of those that were made table by table.
        and (found.xmin == recorded.triggers.get(trigger.name) if recorded is not None else found.is_whole)
    )


def _missed(source: Source, target: _Target, actual: _Actual) -> str | None:
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


def _holds(source: Source, actual: _Actual) -> bool:
    """Whether the change buffer is there with what is captured."""
    return actual.has_buffer and {change_column(number) for number in source.columns} <= {
        column.name for column in actual.buffer_columns
    }


def _changed(table: Table, actual: _Actual) -> str | None:
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


def _gap(source: Source, target: _Target, actual: _Actual) -> Gap:
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


def look(conn: db.Connection, source: Source) -> tuple[_Target, _Actual, Gap]:
    found = relations.family(conn, source.relid)
    target = _target(conn, source, found)
    actual = _actual(conn, source, found)
    return target, actual, _gap(source, target, actual)


def _lock(conn: db.Connection, found: Family) -> None:
    """Keep writers out, by OID, before anything that they use changes; where we may only after CREATE TRIGGER does."""
    lockable = [SQL("ONLY {}").format(table.identifier) for table in found.tables if table.may_lock]
    if not lockable:
        return
    try:
        db.lock_together(conn, SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(comma_separated(lockable)))
    except StatementFailed as error:
        if error.sqlstate != _UNDEFINED_TABLE:
            raise
        raise TransactionConflict(error.message, detail="A partition or child was dropped meanwhile.") from error


def _drop_triggers(conn: db.Connection, source: Source, gap: Gap) -> bool:
    """Drop triggers that no longer belong; True if their functions had to go with all triggers."""
    if all(trigger.is_owned for trigger in gap.drop):
        for trigger in gap.drop:
            table = qualified(trigger.schema_name, trigger.table_name)
            db.execute(conn, SQL("DROP TRIGGER {} ON {}").format(Identifier(trigger.name), table))
        return False
    # The table is not ours, but the function is. Nothing but our own triggers can hang on it.
    drop_functions(conn, source.id)
    return True


def drop_functions(conn: db.Connection, source_id: int) -> None:
    """Drop the functions of a source with their triggers; takes ACCESS EXCLUSIVE on the source's tables."""
    for name in functions.all_functions(source_id):
        db.execute(conn, SQL("DROP FUNCTION IF EXISTS {}() CASCADE").format(qualified(CHANGES_SCHEMA, name)))


def _apply(conn: db.Connection, source: Source, target: _Target, gap: Gap) -> None:
    create, bodies = gap.create, gap.functions
    if gap.drop and _drop_triggers(conn, source, gap):
        create, bodies = target.triggers, tuple(target.bodies)
    for name in bodies:
        db.execute(conn, functions.create_function(name, target.bodies[name]))
        db.execute(conn, functions.revoke_function(name))
    # Where LOCK TABLE is not allowed, making a trigger again is what takes the lock.
    unlocked = [trigger for trigger in target.triggers if not trigger.table.may_lock and trigger not in create]
    for trigger in (*create, *unlocked):
        for statement in trigger.create():
            db.execute(conn, statement, object_name=trigger.table.name)
    for statement in create_buffer(source.id) if gap.create_buffer else ():
        db.execute(conn, statement)
    for statement in (*gap.alter_buffer, *gap.index_buffer):
        db.execute(conn, statement)
    if bodies or gap.create_buffer:
        installation.hand_over(conn)
    if gap.overflowed:
        sources.end_overflow(conn, source.id)


def _record(conn: db.Connection, source: Source, target: _Target, missed: str | None) -> Source:
    by_table: dict[int, dict[str, str]] = {}
    for trigger in _triggers(conn, source):
        by_table.setdefault(trigger.relid, {})[trigger.name] = trigger.xmin
    tables = [
        SourceTable(table.relid, table.place, table.attached, by_table.get(table.relid, {}))
        for table in target.family.tables
    ]
    sources.record_tables(conn, source.id, tables)
    recorded = replace(
        source,
        capture="rows" if target.shape.rows else "mark",
        trigger_level=target.shape.level,
        columns=tuple(column.number for column in target.shape.columns),
        generation=source.generation + (1 if missed else 0),
        partition_constraint=target.shape.partition,
    )
    if recorded != source:
        sources.record_capture(conn, recorded)
    return recorded


def converge(conn: db.Connection, source: Source) -> Source:
    """Make the capture of a source what its consumers need; inside a transaction under a low lock_timeout.

    Takes no lock on the source if nothing has to change. The caller holds the lock on the source's row.

    Returns:
        The source as it is recorded now; a higher ``generation`` says that changes may have been missed before.
    """
    db.execute(conn, SQL("SET LOCAL search_path = pg_catalog, pg_temp"))
    target, actual, gap = look(conn, source)
    if target.family.root is None:
        return source
    if gap.is_empty:
        known = actual.recorded or not target.triggers
        return source if gap.missed is None and known else _record(conn, source, target, gap.missed)
    relations.require_privileges(conn, target.family)
    if gap.overflowed:
        # Nobody may be reading what is about to be emptied; to be waited for before writers wait for us.
        groups.touch(conn, sources.consumers(conn, source.id))
    _lock(conn, target.family)
    # What was read before the lock may be out of date.
    target, _, gap = look(conn, source)
    _apply(conn, source, target, gap)
    return _record(conn, source, target, gap.missed)


def prepare(conn: db.Connection, source: Source) -> tuple[Trigger, ...]:
    """Make change buffer and functions of a source that has no triggers yet: nobody uses them, so nobody has to wait.

    Returns:
        The triggers that it needs; empty if some are recorded already.
    """
    db.execute(conn, SQL("SET LOCAL search_path = pg_catalog, pg_temp"))
    if sources.lock(conn, source.id) is None:
        return ()
    target, actual, gap = look(conn, source)
    if actual.recorded or actual.triggers or target.family.root is None:
        return ()
    relations.require_privileges(conn, target.family)
    _apply(conn, source, replace(target, triggers=()), replace(gap, create=(), drop=()))
    return target.triggers


def retire(conn: db.Connection, source: Source) -> None:
    """Let the functions of a source without consumers do nothing, at once and without a lock on the source."""
    for body in _bodies(conn, source):
        db.execute(conn, functions.create_function(body.name, functions.RETIRED))


def _bodies(conn: db.Connection, source: Source) -> tuple[_Body, ...]:
    return db.fetch_all(conn, QUERIES["function_bodies"], _Body, {"names": functions.all_functions(source.id)})


def remove(conn: db.Connection, source: Source) -> None:
    """Drop triggers, functions and change buffer of a source without consumers, and forget it."""
    drop_functions(conn, source.id)
    db.execute(conn, drop_buffer(source.id))
    sources.delete(conn, source.id)
