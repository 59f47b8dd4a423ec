"""Creating a stream table: register, capture, load, index; a failure leaves nothing behind."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pgtrickle import db, refresh
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import stream_tables
from pgtrickle.catalog.model import NewStreamTable
from pgtrickle.errors import InternalError, PgTrickleError
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.connect import build_indexes, build_stages, connect_sources, imagined_bindings, tell
from pgtrickle.lifecycle.definition import (
    compile_definition,
    definition_facts,
    new_version,
    notices_of,
    register_objects,
)
from pgtrickle.lifecycle.drop import discard
from pgtrickle.lifecycle.history import record_definition
from pgtrickle.lifecycle.mend import refresh_group
from pgtrickle.lifecycle.options import Configuration
from pgtrickle.lifecycle.storage import analyze_tables
from pgtrickle.lifecycle.target import Target, check_free, relid_of, resolve
from pgtrickle.refresh import Request, Session
from pgtrickle.refresh.compiled import Compiled, under
from pgtrickle.results import CreateResult, Notice

_log = logging.getLogger(__name__)

#: Of a refresh that loads: nobody else can be at it, but a source may be locked.
LOAD_PATIENCE_S = 300.0


def create(session: Session, name: str, query: str, configuration: Configuration) -> CreateResult:
    """Create, capture and load a stream table.

    Raises:
        StreamTableExists: the name is taken.
        InvalidQuery, UnsupportedQuery, LockTimeout, PermissionDenied, RefreshError: nothing is left behind.
    """
    target = resolve(session.conn, name)
    check_free(target)
    if target.vanished and target.stream_table is not None:
        discard(session, target.stream_table, configuration.policy)
    mode = configuration.mode or "AUTO"
    analysis = compile_definition(session.conn, query, mode)
    indexes: Sequence[Mapping[str, Any]] = configuration.kept.get("indexes", ())
    storage.check_index_columns(indexes, [column.name for column in analysis.plan.root.columns])
    stream_table_id = _register(session.conn, target, query, mode, analysis, configuration)
    try:
        found = _fill(session, stream_table_id, target, analysis, configuration)
    except BaseException:
        _undo(session, stream_table_id, configuration)
        raise
    rows, notices = found
    found_table = stream_tables.fetch(session.conn, stream_table_id)
    if found_table is None:
        raise InternalError("the stream table vanished while it was created", object_name=target.quoted)
    steps = ("create", "capture", "load", "indexes") if configuration.initialize else ("create", "capture", "indexes")
    record_definition(session, found_table, "created")
    return CreateResult(
        name=target.quoted,
        relid=found_table.relid,
        created=True,
        actions=steps,
        effective_mode=analysis.plan.mode,
        mode_reason=analysis.plan.full_reason,
        rows=rows,
        notices=tuple(tell(session.conn, stream_table_id, [*notices_of(analysis, mode), *notices])),
    )


def _register(
    conn: db.Connection, target: Target, query: str, mode: str, analysis: Analysis, configuration: Configuration
) -> int:
    """Create the tables and the catalog's rows in one transaction; the id."""
    plan, relation = analysis.plan, target.relation
    with db.transaction(conn, object_name=target.quoted):
        with under(conn, analysis.settings):
            for statement in storage.create_table(relation, plan.canonical):
                db.execute(conn, statement)
        relid = relid_of(conn, relation)
        stream_table_id = stream_tables.insert(
            conn,
            NewStreamTable(
                relid=relid,
                schema_name=relation.schema,
                table_name=relation.name,
                query=query,
                canonical_query=plan.canonical,
                requested_mode=mode,
                effective_mode=plan.mode,
                mode_reason=plan.full_reason,
                schedule=configuration.schedule or "calculated",
                schedule_seconds=configuration.schedule_seconds,
                settings=analysis.settings,
                definition=definition_facts(conn, analysis, new_version()),
                options=configuration.kept,
            ),
        )
        bindings = imagined_bindings(conn, plan, stream_table_id, relation)
        build_stages(conn, stream_table_id, plan, bindings, analysis.settings)
        register_objects(conn, stream_table_id, analysis)
    return stream_table_id


def _fill(
    session: Session, stream_table_id: int, target: Target, analysis: Analysis, configuration: Configuration
) -> tuple[int, list[Notice]]:
    conn, plan = session.conn, analysis.plan
    notices = connect_sources(session, stream_table_id, plan.sources, configuration.policy)
    if (configuration.schedule or "calculated") == "calculated":
        text = f"{target.quoted} has no dependents yet: until then 'calculated' means the runner's default schedule."
        notices.append(Notice("calculated_without_dependents", text))
    found = stream_tables.fetch(conn, stream_table_id)
    if found is None:
        raise InternalError("the stream table vanished while it was created", object_name=target.quoted)
    session.compiled[stream_table_id] = Compiled(found.definition.get("version"), plan)
    rows = 0
    if configuration.initialize:
        request = Request(relids=(found.relid,), patience_s=LOAD_PATIENCE_S, override=True)
        members = refresh_group(session, request, configuration.policy)
        rows = refresh.result(session, members, found.relid, 0).rows_inserted
    build_indexes(session, stream_table_id, configuration.kept.get("indexes", ()))
    analyze_tables(conn, stream_table_id, target.relation)
    if configuration.status == "SUSPENDED" or not configuration.initialize:
        stream_tables.update(conn, stream_table_id, status=configuration.status or "ACTIVE")
    return rows, notices


def _undo(session: Session, stream_table_id: int, configuration: Configuration) -> None:
    """Leave nothing behind; the caller raises the error that brought us here."""
    if session.conn.closed:
        return
    try:
        found = stream_tables.fetch(session.conn, stream_table_id)
        if found is not None:
            discard(session, found, configuration.policy)
    except PgTrickleError as error:
        _log.warning("what a failed create left behind has to be dropped by hand: %s", error)
