"""Comparing a definition with what is there, and doing the least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.sql import SQL, Identifier

from pgtrickle import db, refresh
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import stream_tables
from pgtrickle.catalog.model import StreamTable
from pgtrickle.errors import InternalError, StreamTableExists
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.connect import tell
from pgtrickle.lifecycle.create import LOAD_PATIENCE_S, create
from pgtrickle.lifecycle.definition import compile_definition, notices_of
from pgtrickle.lifecycle.history import record_definition
from pgtrickle.lifecycle.mend import refresh_group
from pgtrickle.lifecycle.options import Configuration
from pgtrickle.lifecycle.redefine import Redefinition, redefine
from pgtrickle.lifecycle.target import QUERIES, present_relation, quoted_name, resolve, resolve_stream_table
from pgtrickle.refresh import Request, Session
from pgtrickle.refresh.compiled import Compiled, shape
from pgtrickle.refresh.member import Counts
from pgtrickle.results import Notice, ReplaceResult

#: Settings that only matter while names are looked up, which the canonical query has behind it.
_NOT_COMPARED = frozenset({"search_path"})


def create_or_replace(
    session: Session, name: str, query: str, configuration: Configuration, *, full_refresh: bool = False
) -> ReplaceResult:
    """Create, or compare and do the least; an unchanged definition writes nothing.

    Raises:
        StreamTableExists: the name is taken by an ordinary relation.
    """
    target = resolve(session.conn, name)
    if target.relid is not None and target.stream_table is None:
        raise StreamTableExists(
            f"The name is taken by a {target.kind}.",
            object_name=target.quoted,
            hint="Rename or drop it first, or choose another name.",
        )
    if target.stream_table is None or target.vanished:
        made = create(session, name, query, configuration)
        return ReplaceResult(
            made.name, made.relid, made.actions, made.effective_mode, made.mode_reason, made.rows, made.notices
        )
    return _replace(session, target.stream_table, query, configuration, full_refresh=full_refresh)


def alter(session: Session, name: str, query: str | None, configuration: Configuration) -> ReplaceResult:
    """Change what is given.

    Raises:
        StreamTableNotFound: no such stream table.
    """
    found = resolve_stream_table(session.conn, name)
    return _replace(session, found, query, configuration, full_refresh=False)


def _replace(
    session: Session, old: StreamTable, query: str | None, configuration: Configuration, *, full_refresh: bool
) -> ReplaceResult:
    mode = configuration.mode or old.requested_mode
    changes = configuration_changes(old, configuration)
    done = Redefinition()
    told: list[Notice] = []
    if query is not None or mode != old.requested_mode:
        # The caller's own names are looked up along the caller's search_path; a mode alone changes no name.
        settings = None if query is not None else old.settings
        text = old.canonical_query if query is None else query
        analysis = compile_definition(session.conn, text, mode, settings=settings, check=False)
        # A creator that died left INITIALIZING behind: nobody knows how far it came, so everything is done again.
        unfinished = old.status == "INITIALIZING"
        if unfinished or definition_differs(old, analysis):
            analysis = compile_definition(session.conn, text, mode, settings=settings)
        differs = unfinished or definition_differs(old, analysis)
        if mode != old.requested_mode:
            changes["requested_mode"] = mode
        if unfinished and not configuration.initialize:
            changes["status"] = "ACTIVE"
        if differs:
            told += notices_of(analysis, mode)
            done = _redefine(session, old, query, analysis, changes, configuration)
            changes = {}
        elif query is not None:
            session.compiled.setdefault(old.id, Compiled(old.definition.get("version"), analysis.plan))
    if changes:
        stream_tables.update(session.conn, old.id, **changes)
        done.actions.insert(0, "configuration")
    if "indexes" in configuration.kept:
        _change_indexes(session.conn, old, configuration.kept["indexes"], done)
    if full_refresh and "recompute" not in done.actions:
        _recompute(session, old, configuration, done)
    _change_status(session, old, configuration, done)
    return _report(session, old, done, [*told, *done.notices])


def configuration_changes(old: StreamTable, configuration: Configuration) -> dict[str, Any]:
    """The columns of the registration that the configuration changes, with their new values."""
    changes: dict[str, Any] = {}
    if configuration.schedule is not None and configuration.schedule != old.schedule:
        changes["schedule"] = configuration.schedule
        changes["schedule_seconds"] = configuration.schedule_seconds
    options = {**old.options, **configuration.kept}
    if options != dict(old.options):
        changes["options"] = options
    return changes


def definition_differs(old: StreamTable, analysis: Analysis) -> bool:
    """Whether the definition is another one: text, settings that its functions read, or shape of the plan."""
    settings = {key: value for key, value in analysis.settings.items() if key not in _NOT_COMPARED}
    recorded = {key: value for key, value in old.settings.items() if key not in _NOT_COMPARED}
    return (
        analysis.plan.canonical != old.canonical_query
        or settings != recorded
        or shape(analysis.plan) != old.definition.get("shape")
    )


def _redefine(
    session: Session,
    old: StreamTable,
    query: str | None,
    analysis: Analysis,
    changes: Mapping[str, Any],
    configuration: Configuration,
) -> Redefinition:
    columns = [column.name for column in analysis.plan.root.columns]
    storage.check_index_columns(configuration.kept.get("indexes", ()), columns)
    given = dict(changes) if query is None else {"query": query, **changes}
    done = redefine(
        session,
        old,
        analysis,
        changes=given,
        reason="the defining query changed" if query is not None else "the refresh mode changed",
        policy=configuration.policy,
        refresh_group=lambda session, request: refresh_group(session, request, configuration.policy),
        load=old.is_populated or configuration.initialize,
    )
    if old.status == "SUSPENDED":
        stream_tables.update(session.conn, old.id, status="SUSPENDED")
    return done


def _change_indexes(
    conn: db.Connection, old: StreamTable, indexes: Sequence[Mapping[str, Any]], done: Redefinition
) -> None:
    """Create the indexes that are new and drop those that were configured before and are not any more."""
    relation = present_relation(conn, old.relid)
    present = {row["name"] for row in db.fetch_all(conn, QUERIES["user_indexes"], dict, {"relid": old.relid})}
    wanted = {storage.index_name(relation, index): index for index in indexes}
    before = {storage.index_name(relation, index) for index in old.options.get("indexes", ())}
    gone = sorted((before - set(wanted)) & present)
    missing = [index for name, index in wanted.items() if name not in present]
    for name in gone:
        db.ddl(conn, SQL("DROP INDEX {}").format(Identifier(relation.schema, name)), object_name=old.name)
    for index in missing:
        db.execute(conn, storage.create_index(relation, index), object_name=old.name)
    if gone or missing:
        done.actions.append("indexes")


def _recompute(session: Session, old: StreamTable, configuration: Configuration, done: Redefinition) -> None:
    request = Request(relids=(old.relid,), full=True, patience_s=LOAD_PATIENCE_S)
    members = refresh_group(session, request, configuration.policy)
    found = refresh.result(session, members, old.relid, 0)
    done.counts = done.counts.plus(Counts(found.rows_deleted, found.rows_updated, found.rows_inserted))
    done.actions.append("recompute")


def _change_status(session: Session, old: StreamTable, configuration: Configuration, done: Redefinition) -> None:
    wanted = configuration.status
    present = stream_tables.fetch(session.conn, old.id)
    if wanted is None or present is None:
        return
    if wanted == "SUSPENDED" and present.status != "SUSPENDED":
        stream_tables.update(session.conn, old.id, status="SUSPENDED", status_reason="suspended by request")
        done.actions.append("suspend")
    if wanted == "ACTIVE" and present.status in ("SUSPENDED", "ERROR"):
        stream_tables.update(
            session.conn,
            old.id,
            status="ACTIVE",
            status_reason=None,
            consecutive_errors=0,
            last_error=None,
            retry_at=None,
        )
        done.actions.append("resume")


def _report(session: Session, old: StreamTable, done: Redefinition, notices: Sequence[Notice]) -> ReplaceResult:
    found = stream_tables.fetch(session.conn, old.id)
    if found is None:
        raise InternalError("the stream table vanished while it was altered", object_name=old.name)
    if done.actions:
        record_definition(session, found, ", ".join(done.actions))
    return ReplaceResult(
        name=quoted_name(session.conn, found),
        relid=found.relid,
        actions=tuple(done.actions) or ("none",),
        effective_mode=found.effective_mode,
        mode_reason=found.mode_reason,
        rows_changed=done.counts.total,
        notices=tuple(tell(session.conn, old.id, notices)) if notices else (),
    )
