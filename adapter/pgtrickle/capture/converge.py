"""Bringing the capture of one source to what its registered consumers need: install, widen, narrow, repair, remove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgtrickle import db
from pgtrickle.capture import functions, relations, seal
from pgtrickle.capture.buffers import create_buffer, drop_buffer
from pgtrickle.capture.gap import Actual, Gap, Target, bodies_of, filled_meanwhile, installed, look
from pgtrickle.capture.moved import lock, to_lock
from pgtrickle.capture.relations import QUERIES, InstalledTrigger, Table
from pgtrickle.capture.triggers import Trigger
from pgtrickle.catalog import groups, installation, sources
from pgtrickle.catalog.model import Source
from pgtrickle.catalog.sources import SourceTable
from pgtrickle.errors import LockTimeout, StatementFailed, TransactionConflict
from pgtrickle.names import CHANGES_SCHEMA
from pgtrickle.sql import qualified

#: Milliseconds.
_SHORT_WAIT_MS = 20


def _drop_triggers(conn: db.Connection, source: Source, gap: Gap) -> bool:
    """Drop triggers that no longer belong; True if their functions had to go with all triggers."""
    if all(trigger.is_owned for trigger in gap.drop):
        before = db.fetch_value(conn, SQL("SELECT pg_catalog.current_setting('lock_timeout')"))
        # Others wait for what is locked already.
        db.execute(conn, SQL("SET LOCAL lock_timeout = {}").format(Literal(_SHORT_WAIT_MS)))
        for trigger in gap.drop:
            _drop_trigger(conn, trigger)
        db.execute(conn, SQL("SET LOCAL lock_timeout = {}").format(Literal(before)))
        return False
    # The table is not ours, but the function is. Nothing but our own triggers can hang on it.
    db.lock_together(conn, None, _dropping_functions(source.id))
    return True


def _drop_trigger(conn: db.Connection, trigger: InstalledTrigger) -> None:
    """Drop it, or at least let it fire no more, which readers of the table do not keep us from; `narrow` comes back."""
    table, name = qualified(trigger.schema_name, trigger.table_name), Identifier(trigger.name)
    try:
        with db.transaction(conn):
            db.execute(conn, SQL("DROP TRIGGER {} ON {}").format(name, table))
    except LockTimeout as locked:
        try:
            db.execute(conn, SQL("ALTER TABLE ONLY {} DISABLE TRIGGER {}").format(table, name))
        except StatementFailed:
            # While it is being detached CONCURRENTLY it cannot be altered.
            raise locked from None


def _dropping_functions(source_id: int) -> list[Composable]:
    """Drop the functions of a source with their triggers; takes ACCESS EXCLUSIVE on the source's tables."""
    return [
        SQL("DROP FUNCTION IF EXISTS {}() CASCADE").format(qualified(CHANGES_SCHEMA, name))
        for name in functions.all_functions(source_id)
    ]


def _apply(conn: db.Connection, source: Source, target: Target, gap: Gap, locked: Set[int]) -> None:
    if gap.drop and _drop_triggers(conn, source, gap):
        gap = replace(gap, create=target.triggers, functions=tuple(target.bodies))
    db.lock_together(conn, None, _statements(conn, source, target, gap, locked))


def _statements(conn: db.Connection, source: Source, target: Target, gap: Gap, locked: Set[int]) -> list[Composable]:
    """What closes a gap, besides dropping triggers."""
    statements: list[Composable] = []
    for name in gap.functions:
        statements += [functions.create_function(name, target.bodies[name]), functions.revoke_function(name)]
    # Where LOCK TABLE is not allowed, making a trigger again is what takes the lock.
    unlocked = [
        trigger
        for trigger in target.triggers
        if trigger.table.relid in locked and not trigger.table.may_lock and trigger not in gap.create
    ]
    for trigger in (*gap.create, *unlocked):
        statements += trigger.create()
    if gap.create_buffer:
        statements += create_buffer(source.id)
    statements += [*gap.alter_buffer, *gap.index_buffer]
    if gap.functions or gap.create_buffer:
        statements.append(installation.handing_over(conn))
    if gap.overflowed:
        statements.append(sources.ending_overflow(conn, source.id))
    return statements


def _record(
    conn: db.Connection, source: Source, target: Target, missed: str | None, sure: Mapping[tuple[int, str], str]
) -> Source:
    """Note what is there now. ``sure``: what is to be noted of triggers that others may have changed meanwhile."""
    by_table: dict[int, dict[str, str]] = {}
    for trigger in installed(conn, source):
        by_table.setdefault(trigger.relid, {})[trigger.name] = sure.get((trigger.relid, trigger.name), trigger.xmin)
    tables = [
        SourceTable(table.relid, table.place, table.attached, by_table.get(table.relid, {}))
        for table in target.family.tables
    ]
    sources.record_tables(conn, source.id, tables)
    recorded = _recorded(source, target, missed)
    if recorded != source:
        sources.record_capture(conn, recorded)
    return recorded


def _recorded(source: Source, target: Target, missed: str | None) -> Source:
    return replace(
        source,
        capture="rows" if target.shape.rows else "mark",
        trigger_level=target.shape.level,
        columns=tuple(column.number for column in target.shape.columns),
        generation=source.generation + (1 if missed else 0),
        partition_constraint=target.shape.partition,
    )


def converge(conn: db.Connection, source: Source) -> Source:
    """Make the capture of a source what its consumers need; inside a transaction under a low lock_timeout.

    Takes no lock on the source if nothing has to change. The caller holds the lock on the source's row.

    Returns:
        The source as it is recorded now; a higher ``generation`` says that changes may have been missed before.
    """
    db.execute(conn, SQL("SET LOCAL search_path = pg_catalog, pg_temp"))
    sealed = seal.expression(conn, source)
    expected = db.fetch_value(conn, sealed)
    target, actual, gap = look(conn, source)
    if target.family.root is None:
        return source
    if gap.is_empty:
        known = actual.recorded or not target.triggers
        return source if gap.missed is None and known else _record(conn, source, target, gap.missed, {})
    relations.require_privileges(conn, target.family)
    if gap.overflowed:
        # Nobody may be reading what is about to be emptied; to be waited for before writers wait for us.
        groups.touch(conn, sources.consumers(conn, source.id))
    if gap.overflowed or not actual.recorded:
        source = replace(source, epoch=source.epoch + 1)
        sources.record_capture(conn, source)
        target, actual, gap = look(conn, source)
    tables = to_lock(conn, source, target, actual, gap)
    if _may_be_at_once(target, actual, gap, tables):
        empty = [table for table in _added(target, actual) if table not in actual.added_with_rows]
        return _at_once(conn, source, target, gap, tables, seal.unbroken(conn, sealed, expected, empty))
    lock(conn, tables)
    locked = frozenset(table.relid for table in tables)
    # What was read before the lock may be out of date.
    target, actual, gap = look(conn, source)
    if not locked.issuperset(table.relid for table in to_lock(conn, source, target, actual, gap)):
        raise TransactionConflict("Partitions or children came or went meanwhile.")
    _apply(conn, source, target, gap, locked)
    missed = gap.missed or filled_meanwhile(conn, target, actual)
    return _record(conn, source, target, missed, _unlocked(conn, source, actual, gap, locked))


def _added(target: Target, actual: Actual) -> list[Table]:
    return [table for table in target.family.own if table.relid not in actual.recorded] if actual.recorded else []


def _may_be_at_once(target: Target, actual: Actual, gap: Gap, tables: Sequence[Table]) -> bool:
    """Whether nothing has to be found out behind the lock: all is locked, or at least nothing new is not."""
    whole = len(tables) == len(target.family.tables)
    return whole and not gap.drop and all(table.may_lock for table in _added(target, actual))


def _at_once(
    conn: db.Connection, source: Source, target: Target, gap: Gap, tables: Sequence[Table], unbroken: Composed
) -> Source:
    """Lock, see that all is as it was, change and record in one message."""
    recorded = _recorded(source, target, gap.missed)
    places = [SourceTable(table.relid, table.place, table.attached, {}) for table in target.family.tables]
    names = functions.all_functions(source.id)
    statements: list[Composable] = [
        unbroken,
        *_statements(conn, source, target, gap, frozenset(table.relid for table in tables)),
        *sources.recording_tables(conn, source.id, places, QUERIES["installed_triggers"], names),
    ]
    if recorded != source:
        statements.append(sources.recording_capture(conn, recorded))
    lock(conn, tables, statements)
    return recorded


def _unlocked(
    conn: db.Connection, source: Source, actual: Actual, gap: Gap, locked: Set[int]
) -> Mapping[tuple[int, str], str]:
    """What is to be noted of triggers on tables that nobody has locked: what was seen when they were found intact.

    Only the function may be ours to have made anew since.
    """
    anew = {
        (trigger.relid, trigger.name): trigger.xmin.split(":")[1]
        for trigger in installed(conn, source)
        if trigger.function in gap.functions
    }
    return {
        key: f"{trigger.xmin.split(':')[0]}:{anew[key]}" if key in anew else trigger.xmin
        for key, trigger in {(one.relid, one.name): one for one in actual.triggers}.items()
        if trigger.relid not in locked
    }


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
    _apply(conn, source, replace(target, triggers=()), replace(gap, create=(), drop=()), frozenset())
    return target.triggers


def retire(conn: db.Connection, source: Source) -> None:
    """Let the functions of a source without consumers do nothing, at once and without a lock on the source."""
    for body in bodies_of(conn, source):
        db.execute(conn, functions.create_function(body.name, functions.RETIRED))


def remove(conn: db.Connection, source: Source) -> None:
    """Drop triggers, functions and change buffer of a source without consumers, and forget it."""
    gone = [*_dropping_functions(source.id), drop_buffer(source.id), sources.deleting(conn, source.id)]
    db.lock_together(conn, None, gone)
