"""Giving a stream table another plan: new columns, stages and content appear in one transaction, the OID stays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.sql import SQL, Identifier

from pgtrickle import analyze, capture, db, refresh
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import groups, sources, stream_tables
from pgtrickle.catalog.model import StreamTable
from pgtrickle.errors import DependencyCycle, PgTrickleError
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.columns import ColumnChanges
from pgtrickle.lifecycle.connect import (
    build_stages,
    connect_sources,
    has_locators,
    imagined_bindings,
    make_way,
)
from pgtrickle.lifecycle.definition import definition_facts, new_version, register_objects
from pgtrickle.lifecycle.drop import drop_idle_logs
from pgtrickle.lifecycle.switch import compare, prepare
from pgtrickle.lifecycle.target import present_relation
from pgtrickle.plan import Plan, Relation, SourceNeed
from pgtrickle.refresh import Member, Request, Session, Switch, transaction
from pgtrickle.refresh.compiled import Compiled, pin
from pgtrickle.refresh.member import Counts
from pgtrickle.results import Notice

_log = logging.getLogger(__name__)

_PATIENCE_S = 120.0
#: Of the locks that keep readers out: those who come after us wait this long at most, then we try again, milliseconds.
_READERS_WAIT_MS = 200


@dataclass(slots=True)
class Redefinition:
    """What was done, filled while it is done."""

    actions: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    notices: list[Notice] = field(default_factory=list)


def redefine(
    session: Session,
    stream_table: StreamTable,
    analysis: Analysis,
    *,
    changes: Mapping[str, Any],
    reason: str,
    policy: db.LockPolicy,
    refresh_group: Callable[[Session, Request], tuple[Member, ...]],
    load: bool = True,
) -> Redefinition:
    """Replace the plan of a stream table.

    Sources are captured first, in short transactions. Then one transaction changes stages and registration, computes
    the content, changes columns and indexes (`switch`) and writes the difference: readers see the old or the new, and a
    failure leaves the old.

    Args:
        session: the engine's.
        stream_table: as registered.
        analysis: of the new query, or of the old one again.
        changes: columns of ``pgtrickle.stream_tables`` to be set besides those that follow from ``analysis``.
        reason: for the history.
        policy: how to wait for locks on sources, and for readers of the stream table.
        refresh_group: how to refresh: an ancestor may have to be compiled again, too.
        load: False for a stream table that was never loaded.

    Raises:
        DependencyCycle: it would read itself.
        DependentsExist: views or stream tables use a column that would go.
    """
    conn, done = session.conn, Redefinition(actions=["query"] if "query" in changes else [])
    refuse_cycle(conn, stream_table, analysis.plan.sources)
    parents = [one.source_stream_table_id for one in sources.dependencies(conn, stream_table.id)]
    version = new_version()
    done.notices += connect_sources(session, stream_table.id, analysis.plan.sources, policy)
    done.actions.append("capture")
    compiled = Compiled(version, analysis.plan)

    def prelude() -> Switch | None:
        session.compiled[stream_table.id] = compiled
        return _replace(session, stream_table, analysis, version, changes, reason, policy, done)

    try:
        if load:
            request = Request(relids=(stream_table.relid,), prelude=prelude, patience_s=_PATIENCE_S, override=True)
            _report(session, stream_table, refresh_group(session, request), done)
        else:
            with db.transaction(conn, object_name=stream_table.name):
                groups.touch(conn, [stream_table.id])
                switch = prelude()
                for work in (switch.before, switch.after) if switch is not None else ():
                    if work is not None:
                        work()
    except BaseException:
        session.compiled.pop(stream_table.id, None)
        _forget_new_sources(session, stream_table, policy)
        raise
    capture.release(conn, stream_table.id, keep=analysis.plan.sources, policy=policy)
    drop_idle_logs(conn, [parent for parent in parents if parent is not None])
    return done


def _report(session: Session, stream_table: StreamTable, members: tuple[Member, ...], done: Redefinition) -> None:
    found = refresh.result(session, members, stream_table.relid, 0)
    done.counts = Counts(found.rows_deleted, found.rows_updated, found.rows_inserted)
    done.actions.append("recompute")
    done.notices.append(Notice("recompute", f"{stream_table.name} was recomputed: its definition changed."))


def _replace(
    session: Session,
    stream_table: StreamTable,
    analysis: Analysis,
    version: int,
    changes: Mapping[str, Any],
    reason: str,
    policy: db.LockPolicy,
    done: Redefinition,
) -> Switch | None:
    """Inside the transaction that also recomputes; what is left to be done when everything is computed."""
    conn, plan = session.conn, analysis.plan
    relation = present_relation(conn, stream_table.relid)
    # An attempt before this one may have told something else.
    _tell(done, stream_table, ColumnChanges(), None)
    # A trim locks this row before it deletes from a log, so it comes before our locks on logs too.
    stream_tables.update(conn, stream_table.id, recompute_reason=reason)
    db.execute(conn, transaction.lock_timeout(conn, _READERS_WAIT_MS))
    _put_back(conn, stream_table, relation)
    db.execute(conn, transaction.lock_timeout(conn, transaction.LOCK_TIMEOUT_MS))
    facts = definition_facts(conn, analysis, version)
    same = facts["locator"] == stream_table.definition.get("locator")
    table = compare(
        conn,
        stream_table,
        analysis,
        has_locators=same and has_locators(conn, stream_table.relid, plan, stream_table.id),
        same_query=plan.canonical == stream_table.canonical_query and analysis.settings == stream_table.settings,
    )
    storage.drop_stage_tables(conn, stream_table.id)
    bindings = imagined_bindings(conn, plan, stream_table.id, relation)
    build_stages(conn, stream_table.id, plan, bindings, analysis.settings)
    register_objects(conn, stream_table.id, analysis)
    switch = prepare(
        conn,
        table,
        plan,
        bindings,
        policy=policy,
        make_way=lambda: empty_if_needed(conn, stream_table, plan),
        tell=lambda columns, moved: _tell(done, stream_table, columns, moved),
    )
    stream_tables.update(
        conn,
        stream_table.id,
        **{
            "canonical_query": plan.canonical,
            "effective_mode": plan.mode,
            "mode_reason": plan.full_reason,
            "settings": analysis.settings,
            "definition": facts,
            "recompute_reason": reason,
            "schema_name": relation.schema,
            "table_name": relation.name,
            "fingerprint": None,
            **changes,
        },
    )
    return switch


def _tell(done: Redefinition, stream_table: StreamTable, columns: ColumnChanges, moved: str | None) -> None:
    done.actions[:] = [action for action in done.actions if not action.endswith("_column")]
    done.notices[:] = [one for one in done.notices if one.code != "column_order"]
    if moved:
        text = f"New columns of {stream_table.name} were appended, out of the query's order: other objects use {moved}."
        done.notices.append(Notice("column_order", text))
    done.actions += [
        action
        for action, changed in (
            ("drop_column", columns.drop),
            ("alter_column", columns.alter),
            ("add_column", columns.add),
        )
        if changed
    ]


def empty_if_needed(conn: db.Connection, stream_table: StreamTable, plan: Plan) -> None:
    """Empty a stream table whose rows the plan's key cannot tell apart, in the transaction that fills it again."""
    if make_way(conn, stream_table.relid, plan):
        # What was emptied is in no output log.
        request_dependents(conn, stream_table, "was built again")


def request_dependents(conn: db.Connection, stream_table: StreamTable, why: str) -> None:
    """Let the dependents of a stream table recompute: its output log does not tell all that happened to its content."""
    for dependent in sources.dependents(conn, stream_table.id):
        stream_tables.request_recompute(conn, dependent, f"{stream_table.name} {why}")


def _put_back(conn: db.Connection, stream_table: StreamTable, relation: Relation) -> None:
    """Undo what others did to the table: its guard, names of its columns, its output log. The rest follows anyway."""
    recorded = (stream_table.fingerprint or {}).get("own")
    if recorded is None:
        return
    present = capture.fingerprint(conn, [stream_table.id])[stream_table.id]
    if capture.content_touched(stream_table.fingerprint, present) is not None:
        for statement in storage.guard(relation):
            db.execute(conn, statement)
        request_dependents(conn, stream_table, "was changed by others than its refreshes")
    before, after = recorded["columns"] or {}, present["own"]["columns"] or {}
    names = {column[0] for column in after.values()}
    for number, column in before.items():
        if number in after and after[number][0] != column[0] and column[0] not in names:
            statement = SQL("ALTER TABLE {} RENAME COLUMN {} TO {}")
            table = Identifier(relation.schema, relation.name)
            db.execute(conn, statement.format(table, Identifier(after[number][0]), Identifier(column[0])))
    if sources.dependents(conn, stream_table.id) and not storage.has_log(conn, stream_table.id):
        for statement in storage.create_log(stream_table.id, storage.fetch_columns(conn, stream_table.relid)):
            db.execute(conn, statement)
        request_dependents(conn, stream_table, "lost its output log")


def refuse_cycle(conn: db.Connection, stream_table: StreamTable, needs: Sequence[SourceNeed]) -> None:
    """Refuse a query that reads the stream table itself or one of its descendants.

    Raises:
        DependencyCycle: with the path.
    """
    wanted = {need.relid for need in needs if need.kind == "stream_table"}

    def visit(stream_table_id: int, path: tuple[str, ...]) -> None:
        found = stream_tables.fetch(conn, stream_table_id)
        if found is None:
            return
        here = (*path, found.name)
        if found.relid in wanted:
            raise DependencyCycle(
                "The stream tables would depend on each other in a circle.",
                object_name=stream_table.name,
                detail=" -> ".join((*here, stream_table.name)),
                hint="Let one of them read the base tables instead.",
            )
        for dependent in sources.dependents(conn, stream_table_id):
            visit(dependent, here)

    visit(stream_table.id, ())


def _forget_new_sources(session: Session, stream_table: StreamTable, policy: db.LockPolicy) -> None:
    """Capture what the definition that stays needs; the caller raises the error that brought us here."""
    conn = session.conn
    if conn.closed:
        return
    try:
        with db.transaction(conn):
            pin(conn, stream_table.settings)
            old = analyze.compile_query(conn, stream_table.canonical_query, mode=stream_table.requested_mode)
        registered = sources.dependencies(conn, stream_table.id)
        capture.release(conn, stream_table.id, keep=old.plan.sources, policy=policy)
        drop_idle_logs(conn, [one.source_stream_table_id for one in registered if one.source_stream_table_id])
    except PgTrickleError as error:
        _log.warning("sources of a definition that failed stay captured until the next one: %s", error)
