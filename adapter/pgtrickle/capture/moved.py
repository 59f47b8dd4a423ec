"""What came, went or was away in the family of a source: as long as nothing else happened, nothing else is locked.

Nobody has to wait for an hour-long transaction that wrote to another partition, and the stream tables of the whole
family go on. It is enough: who wrote to a table that came or went, through whichever table above it, holds a lock on it
and is waited for. What others have written was captured in the columns of now, by functions that know less of the
family: a statement that reaches a table that its function does not know leaves a mark.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composable

from pgtrickle import db
from pgtrickle.capture.gap import Actual, Gap, Target
from pgtrickle.capture.relations import QUERIES, Table
from pgtrickle.catalog.model import Source
from pgtrickle.errors import StatementFailed, TransactionConflict
from pgtrickle.sql import comma_separated

_UNDEFINED_TABLE = "42P01"


def to_lock(conn: db.Connection, source: Source, target: Target, actual: Actual, gap: Gap) -> tuple[Table, ...]:
    """The tables of the family from which writers have to be kept away while the gap is closed."""
    relids = _moved(conn, source, target, actual, gap)
    return tuple(table for table in target.family.tables if relids is None or table.relid in relids)


def _moved(conn: db.Connection, source: Source, target: Target, actual: Actual, gap: Gap) -> frozenset[int] | None:
    """OIDs of the tables that came, went or were away; None if more than that has happened."""
    if not actual.recorded or gap.overflowed or _is_reshaped(source, target, gap):
        return None
    present = {table.relid: table for table in target.family.tables}
    away = {
        relid
        for relid, table in present.items()
        if relid in actual.recorded and actual.recorded[relid].attached != table.attached
    }
    relids = frozenset(away | (actual.recorded.keys() ^ present.keys()))
    if not relids and gap.functions:
        return None
    above = {table.relid for table in target.family.ancestors}
    above |= {relid for relid, table in actual.recorded.items() if table.place == "ancestor"}
    shed = {trigger.relid for trigger in gap.drop}
    touched = {trigger.table.relid for trigger in gap.create} | (shed & present.keys())
    # Where a trigger is not ours to drop, its function goes with all triggers.
    if source.relid in relids or relids & above or touched - relids or not all(one.is_owned for one in gap.drop):
        return None
    # What went without any trigger of ours may be written to by anybody.
    unknown = list(relids - present.keys() - shed)
    return None if unknown and db.fetch_value(conn, QUERIES["any_exists"], {"relids": unknown}) else relids


def _is_reshaped(source: Source, target: Target, gap: Gap) -> bool:
    """Whether changes are to be captured in another way than those that writers are just committing."""
    shape = target.shape
    wanted = (
        "rows" if shape.rows else "mark",
        shape.level,
        tuple(column.number for column in shape.columns),
        shape.partition,
    )
    recorded = (source.capture, source.trigger_level, source.columns, source.partition_constraint)
    return bool(wanted != recorded or gap.create_buffer or gap.alter_buffer or gap.index_buffer)


def lock(conn: db.Connection, tables: Sequence[Table], then: Sequence[Composable] = ()) -> None:
    """Keep writers out, by OID, before anything that they use changes; where we may only after CREATE TRIGGER does.

    ``then`` goes in the same message.

    Raises:
        LockTimeout: not now.
        TransactionConflict: a table is gone.
    """
    lockable = [SQL("ONLY {}").format(table.identifier) for table in tables if table.may_lock]
    locking = SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(comma_separated(lockable)) if lockable else None
    try:
        db.lock_together(conn, locking, then)
    except StatementFailed as error:
        if error.sqlstate != _UNDEFINED_TABLE:
            raise
        raise TransactionConflict(error.message, detail="A partition or child was dropped meanwhile.") from error
