"""Triggers of families with many tables: made and dropped table by table, so that nobody waits for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composed, Identifier

from pgtrickle import db
from pgtrickle.capture import functions
from pgtrickle.capture.converge import prepare
from pgtrickle.capture.relations import QUERIES, InstalledTrigger
from pgtrickle.capture.triggers import Trigger
from pgtrickle.catalog import sources
from pgtrickle.catalog.model import Source
from pgtrickle.sql import qualified

#: Triggers of so many tables are made or dropped within few milliseconds.
FEW_TABLES = 8


def hang(conn: db.Connection, source: Source, policy: db.LockPolicy | None) -> None:
    """Make the first triggers of a source, one table after the other; nothing where it has triggers already.

    Nothing relies on them before `converge` has found them complete and recorded them, and the load comes after that.

    Args:
        conn: autocommit, not in a transaction.
        source: registered with its consumer; both are committed.
        policy: how long to wait for each lock.
    """
    name = f"{source.schema_name}.{source.table_name}"
    wanted = db.under_lock_timeout(conn, lambda: prepare(conn, source), policy=policy, object_name=name)
    by_table: dict[int, list[Trigger]] = {}
    for trigger in wanted:
        by_table.setdefault(trigger.table.relid, []).append(trigger)
    for relid, several in sorted(by_table.items()):

        def work(several: Sequence[Trigger] = several) -> None:
            if _is_first(conn, source):
                db.execute(conn, _joined([one for trigger in several for one in trigger.create()]))

        db.under_lock_timeout(conn, work, policy=policy, relids=[relid], object_name=several[0].table.name)


def _is_first(conn: db.Connection, source: Source) -> bool:
    """Whether still nobody has recorded triggers of a source; they must not be touched any more then."""
    return sources.lock(conn, source.id) is not None and not sources.tables(conn, source.id)


def shed(conn: db.Connection, source: Source, policy: db.LockPolicy | None) -> None:
    """Drop the triggers of a source without consumers, one table after the other, where we may.

    Args:
        conn: autocommit, not in a transaction.
        source: its functions do nothing any more.
        policy: how long to wait for each lock.

    Raises:
        LockTimeout: a table stayed locked.
    """
    names = {"names": functions.all_functions(source.id)}
    found = db.fetch_all(conn, QUERIES["installed_triggers"], InstalledTrigger, names)
    by_table: dict[int, list[InstalledTrigger]] = {}
    for trigger in found:
        if trigger.is_owned:
            by_table.setdefault(trigger.relid, []).append(trigger)
    if len(by_table) <= FEW_TABLES:
        return
    for relid, several in sorted(by_table.items()):

        def work(several: Sequence[InstalledTrigger] = several) -> None:
            if sources.lock(conn, source.id) is None or sources.needs(conn, source.id).consumers > 0:
                return
            db.execute(conn, _joined([_drop(trigger) for trigger in several]))

        db.under_lock_timeout(conn, work, policy=policy, relids=[relid], object_name=several[0].table_name)


def _drop(trigger: InstalledTrigger) -> Composed:
    table = qualified(trigger.schema_name, trigger.table_name)
    return SQL("DROP TRIGGER IF EXISTS {} ON {}").format(Identifier(trigger.name), table)


def _joined(statements: Sequence[Composed]) -> Composed:
    """One message: a table is locked from the first statement on."""
    return SQL("; ").join(statements)
