"""What surrounds a stream table: its sources, its stages, its indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.sql import SQL, Identifier

from pgtrickle import capture, db, emit
from pgtrickle.catalog import groups, installation, messages, sources, stream_tables
from pgtrickle.catalog.model import StreamTable
from pgtrickle.errors import InternalError
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.definition import register_stages
from pgtrickle.lifecycle.target import QUERIES, present_relation
from pgtrickle.plan import Bindings, Plan, Relation, SourceNeed, StreamTableBinding, TableBinding
from pgtrickle.refresh import Session
from pgtrickle.refresh.bindings import stage_bindings
from pgtrickle.refresh.compiled import under
from pgtrickle.results import Notice

#: Statements of the compiler are written for parameters, so that their percent signs are doubled.
_EMITTED: Mapping[str, Any] = {}


def connect_sources(
    session: Session, stream_table_id: int, needs: Sequence[SourceNeed], policy: db.LockPolicy
) -> list[Notice]:
    """Capture what a plan needs; from here on no change of a source is lost.

    Stream tables that gain their first dependent get an output log. A refresh of theirs that is under way does not
    know that yet, so it is waited for: the load's snapshot has to come after it.
    """
    conn = session.conn
    parents = [_parent(conn, need.relid) for need in needs if need.kind == "stream_table"]
    for parent in parents:
        _ensure_log(conn, parent, policy)
    installed = capture.install(conn, stream_table_id, needs, policy=policy)
    for parent in parents:
        # Again: as long as the dependency was not registered, the drop of another dependent could take the log away.
        _ensure_log(conn, parent, policy)
    groups.touch(conn, sorted(parent.id for parent in parents))
    return [Notice("capture", warning) for source in installed for warning in source.warnings]


def _parent(conn: db.Connection, relid: int) -> StreamTable:
    found = stream_tables.fetch_by_relid(conn, relid)
    if found is None:
        raise InternalError("a source is taken for a stream table and is none", object_name=str(relid))
    return found


def _ensure_log(conn: db.Connection, parent: StreamTable, policy: db.LockPolicy) -> None:
    statements = storage.create_log(parent.id, storage.fetch_columns(conn, parent.relid))

    def work() -> None:
        # IF NOT EXISTS does not protect two creations at the same time from each other; the row lock does.
        groups.touch(conn, [parent.id])
        if not sources.dependents(conn, parent.id):
            # One that was left behind by a dependent that died has the columns of that time.
            db.execute(conn, storage.drop_log(parent.id))
        for statement in statements:
            db.execute(conn, statement, object_name=parent.name)
        installation.hand_over(conn)

    db.under_lock_timeout(conn, work, policy=policy, object_name=parent.name)


def imagined_bindings(conn: db.Connection, plan: Plan, stream_table_id: int, target: Relation) -> Bindings:
    """Bindings of a plan whose sources may not be captured yet: change buffers have invented names."""
    tables, stream = {}, {}
    for need in plan.sources:
        relation = present_relation(conn, need.relid)
        if need.kind == "stream_table":
            parent = stream_tables.fetch_by_relid(conn, need.relid)
            stream[need.relid] = StreamTableBinding(relation, capture.output_log_of(parent.id if parent else 0))
        else:
            tables[need.relid] = TableBinding(relation, capture.buffer_of(0) if need.capturable else None)
    return Bindings(tables, stream, stage_bindings(plan, stream_table_id, target))


def build_stages(
    conn: db.Connection, stream_table_id: int, plan: Plan, bindings: Bindings, settings: Mapping[str, str]
) -> None:
    """Create and record the tables that the stages own; ``settings`` are those of the definition."""
    with under(conn, settings):
        for statement in emit.stage_tables(plan, bindings):
            db.execute(conn, statement, _EMITTED)
    installation.hand_over(conn)
    register_stages(conn, stream_table_id, plan, bindings)


def build_indexes(session: Session, stream_table_id: int, indexes: Sequence[Mapping[str, Any]]) -> None:
    """The index that refreshes find rows by, then the user's."""
    conn = session.conn
    found = stream_tables.fetch(conn, stream_table_id)
    compiled = session.compiled.get(stream_table_id)
    if found is None or compiled is None:
        raise InternalError("indexes on a stream table that is not compiled", object_name=str(stream_table_id))
    relation = present_relation(conn, found.relid)
    bindings = Bindings(stages=stage_bindings(compiled.plan, stream_table_id, relation))
    for statement in emit.locator_index(compiled.plan, bindings):
        db.execute(conn, statement, _EMITTED, object_name=found.name)
    for index in indexes:
        db.execute(conn, storage.create_index(relation, index), object_name=found.name)


def drop_locator(conn: db.Connection, relid: int) -> None:
    """Drop the indexes that refreshes find rows by, before columns change: not every type can be hashed as another."""
    relation = present_relation(conn, relid)
    for row in db.fetch_all(conn, QUERIES["locators"], dict, {"relid": relid}):
        db.execute(conn, SQL("DROP INDEX {}").format(Identifier(relation.schema, row["name"])))


def has_locators(conn: db.Connection, relid: int, plan: Plan, stream_table_id: int) -> bool:
    """Whether a stream table has the indexes that refreshes find rows by; only by their number."""
    bindings = Bindings(stages=stage_bindings(plan, stream_table_id, present_relation(conn, relid)))
    found = db.fetch_all(conn, QUERIES["locators"], dict, {"relid": relid})
    return len(found) == len(list(emit.locator_index(plan, bindings)))


def build_locator(conn: db.Connection, plan: Plan, bindings: Bindings) -> None:
    """Create the indexes that refreshes find rows by; inside the transaction that changes the definition."""
    for statement in emit.locator_index(plan, bindings):
        db.execute(conn, statement, _EMITTED)


def make_way(conn: db.Connection, relid: int, plan: Plan) -> bool:
    """Empty a stream table whose rows cannot be told apart by the key of its new plan; True if that was so.

    Inside the transaction that fills it again, by DELETE: readers with older snapshots must not see it empty.
    """
    key = plan.root.key
    if key is None:
        return False
    relation = present_relation(conn, relid)
    table, columns = Identifier(relation.schema, relation.name), [Identifier(name) for name in key]
    required = [Identifier(column.name) for column in plan.root.columns if column.name in key and not column.nullable]
    nulls = [SQL("EXISTS (SELECT FROM {} WHERE {} IS NULL)").format(table, column) for column in required]
    grouping = SQL(" GROUP BY {}").format(SQL(", ").join(columns)) if columns else SQL("")
    twice = SQL("EXISTS (SELECT FROM {}{} HAVING pg_catalog.count(*) > 1)").format(table, grouping)
    if not db.fetch_value(conn, SQL("SELECT {}").format(SQL(" OR ").join([twice, *nulls]))):
        return False
    db.execute(conn, SQL("DELETE FROM {}").format(table))
    return True


def tell(conn: db.Connection, stream_table_id: int, notices: Sequence[Notice]) -> list[Notice]:
    """Record notices; those that were not told before."""
    return [notice for notice in notices if messages.record(conn, stream_table_id, notice.code, notice.text)]
