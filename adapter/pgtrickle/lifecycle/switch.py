"""What a new definition does to the table itself: its columns and indexes, while its readers are kept out.

Everything is computed before. What only takes away, columns and indexes, comes after the rows are written, and takes a
moment. New columns have to come before: from there on readers wait until the rows are written and committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg.sql import SQL, Identifier

from pgtrickle import db
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import sources, stream_tables
from pgtrickle.catalog.model import StreamTable
from pgtrickle.errors import DependentsExist
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.columns import ColumnChanges, TableColumn, compare_columns
from pgtrickle.lifecycle.connect import build_locator, drop_locator
from pgtrickle.lifecycle.target import QUERIES, present_relation
from pgtrickle.plan import Bindings, Plan
from pgtrickle.refresh import Switch, transaction

#: What constraints say of rows that are not there any more may keep a table from being altered until it is looked at.
_SETTLE = SQL("SET CONSTRAINTS ALL IMMEDIATE")


class _Undo(Exception):
    """Ends a trial."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a stream table has, and what its new definition needs.

    Attributes:
        stream_table: as registered.
        exact: what has to be done to its columns for the query's order.
        loose: and without.
        keeps: the indexes by which refreshes find rows are what they have to be.
        strict: an index that goes would refuse rows of the new query.
    """

    stream_table: StreamTable
    exact: ColumnChanges
    loose: ColumnChanges
    keeps: bool
    strict: bool

    @property
    def is_ready(self) -> bool:
        """Nothing has to be done to it."""
        return self.keeps and self.exact.none


def compare(
    conn: db.Connection, stream_table: StreamTable, analysis: Analysis, *, has_locators: bool, same_query: bool
) -> Table:
    """Compare; inside a transaction.

    Args:
        conn: the engine's.
        stream_table: as registered.
        analysis: of the new definition.
        has_locators: the indexes by which refreshes find rows would be the same with the same columns.
        same_query: it has the same rows as before.
    """
    old = storage.fetch_columns(conn, stream_table.relid)
    with db.transaction(conn):
        new = storage.query_columns(conn, analysis.plan.canonical, analysis.settings)
    exact = compare_columns(old, new)
    root = analysis.plan.root
    located = {*(root.key or (column.name for column in root.columns)), *(root.group or ())}
    keeps = has_locators and not exact.add and not exact.alter and located.isdisjoint(one.name for one in exact.drop)
    asked = {"relid": stream_table.relid, "columns": [column.attnum for column in exact.drop]}
    strict = db.fetch_value(conn, QUERIES["is_constrained"], asked)
    if not keeps and not same_query:
        strict = strict or db.fetch_value(conn, QUERIES["has_unique_locator"], asked)
    return Table(stream_table, exact, compare_columns(old, new, keep_order=False), keeps, strict)


def prepare(
    conn: db.Connection,
    table: Table,
    plan: Plan,
    bindings: Bindings,
    *,
    policy: db.LockPolicy,
    make_way: Callable[[], None],
    tell: Callable[[ColumnChanges, str | None], None],
) -> Switch | None:
    """Do what keeps no reader out, and say what is left.

    Args:
        conn: inside the transaction that will write the rows, before anything is computed.
        table: what has to be done.
        plan: of the new definition.
        bindings: its names.
        policy: how to wait for readers.
        make_way: deletes rows that the new key cannot tell apart.
        tell: is told what was done to the columns, and the names of those that are not where the query has them.

    Raises:
        DependentsExist: something uses a column that would go.
        LockTimeout: somebody reads it all the time.
    """
    stream_table = table.stream_table
    if table.is_ready:
        make_way()
        return None
    _rehearse(conn, table, policy)
    if table.exact.add or table.exact.alter or table.strict:

        def before() -> None:
            _lock(conn, stream_table, policy)
            drop_locator(conn, stream_table.relid)
            tell(*_change_columns(conn, stream_table, table.exact, table.loose))
            make_way()

        # An index is built faster than it is kept while most rows change.
        return Switch(before, lambda: build_locator(conn, plan, bindings))
    replaced: list[Identifier] = []
    if not table.keeps:
        replaced = _rename_locators(conn, stream_table)
        make_way()
        build_locator(conn, plan, bindings)
    else:
        make_way()

    def after() -> None:
        db.execute(conn, _SETTLE)
        _lock(conn, stream_table, policy)
        if replaced:
            db.execute(conn, SQL("DROP INDEX {}").format(SQL(", ").join(replaced)))
        tell(*_change_columns(conn, stream_table, table.exact, table.loose))

    return Switch(None, after)


def _lock(conn: db.Connection, stream_table: StreamTable, policy: db.LockPolicy) -> None:
    relation = present_relation(conn, stream_table.relid)
    name = (relation.schema, relation.name)
    db.keep_out(conn, name, stream_table.relid, policy=policy, object_name=stream_table.name)
    db.execute(conn, transaction.lock_timeout(conn, transaction.LOCK_TIMEOUT_MS))


def _rehearse(conn: db.Connection, table: Table, policy: db.LockPolicy) -> None:
    """Find out what would be found out when everything is computed: who reads the table, and what uses its columns."""
    exact = table.exact
    try:
        with db.transaction(conn):
            _lock(conn, table.stream_table, policy)
            try:
                # What may be dropped may get another type, which would write all rows anew.
                with db.transaction(conn):
                    _apply(conn, table.stream_table, ColumnChanges(drop=(*exact.drop, *exact.alter)))
            except DependentsExist:
                _change_columns(conn, table.stream_table, exact, table.loose)
            raise _Undo
    except _Undo:
        return


def _rename_locators(conn: db.Connection, stream_table: StreamTable) -> list[Identifier]:
    """Give the names of the indexes free, which lets readers pass; what they are called now."""
    relation = present_relation(conn, stream_table.relid)
    renamed = []
    for number, row in enumerate(db.fetch_all(conn, QUERIES["locators"], dict, {"relid": stream_table.relid})):
        name = f"pgtrickle_replaced_{stream_table.id}_{number}"
        statement = SQL("ALTER INDEX {} RENAME TO {}")
        db.execute(conn, statement.format(Identifier(relation.schema, row["name"]), Identifier(name)))
        renamed.append(Identifier(relation.schema, name))
    return renamed


def _change_columns(
    conn: db.Connection, stream_table: StreamTable, exact: ColumnChanges, loose: ColumnChanges
) -> tuple[ColumnChanges, str | None]:
    """Change the columns; what was done, and names of columns that stay where they are against the query's order."""
    if exact.none:
        return exact, None
    try:
        with db.transaction(conn):
            _apply(conn, stream_table, exact)
        return exact, None
    except DependentsExist:
        if loose == exact:
            raise
        # Something uses a column that only moves: leave it where it is.
        _apply(conn, stream_table, loose)
        kept = {column.name for column in exact.drop} - {column.name for column in loose.drop}
        return loose, ", ".join(sorted(kept))


def _apply(conn: db.Connection, stream_table: StreamTable, changes: ColumnChanges) -> None:
    relation = present_relation(conn, stream_table.relid)
    _refuse_readers(conn, stream_table, changes.drop)
    storage.alter_columns(conn, relation, changes)
    if sources.dependents(conn, stream_table.id):
        present = storage.fetch_columns(conn, stream_table.relid)
        for statement in storage.alter_log(stream_table.id, changes, present):
            db.execute(conn, statement)


def _refuse_readers(conn: db.Connection, stream_table: StreamTable, dropped: Sequence[TableColumn]) -> None:
    """Stream tables that read a dropped column are named before anything is touched."""
    gone = {column.attnum: column.name for column in dropped}
    found = []
    for dependent in sources.dependents(conn, stream_table.id):
        for one in sources.dependencies(conn, dependent):
            used = [gone[number] for number in one.columns if number in gone]
            if one.source_stream_table_id == stream_table.id and used:
                reader = stream_tables.fetch(conn, dependent)
                found.append(f"{reader.name if reader else dependent} reads {', '.join(used)}")
    if found:
        raise DependentsExist(
            "Other stream tables read a column that would be dropped.",
            object_name=stream_table.name,
            detail="; ".join(found),
            hint="Change or drop them first. Nothing was changed.",
        )
