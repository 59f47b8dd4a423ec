"""Compiling a defining query for a stream table, and registering what it reads."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from psycopg.pq import TransactionStatus

from pgtrickle import analyze, capture, db, emit
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import sources, stages
from pgtrickle.catalog.model import Dependency, StageTables
from pgtrickle.errors import UnsupportedQuery
from pgtrickle.lifecycle.target import QUERIES
from pgtrickle.plan import Bindings, Plan, Relation
from pgtrickle.refresh.bindings import stage_bindings
from pgtrickle.refresh.compiled import COMPILE_LOCK_TIMEOUT_MS, checker, pin, shape
from pgtrickle.results import Notice

#: How long a compilation may take between two statements, milliseconds: as long as idle transactions have at all.
_COMPILE_STOPPED_MS = 600_000
#: Kinds of dependencies that are registered with a definition.
_WATCHED = ("view", "function", "type", "operator", "collation", "ts_config", "ts_dict")


def compile_definition(
    conn: db.Connection, query: str, mode: str, *, settings: Mapping[str, str] | None = None, check: bool = True
) -> Analysis:
    """Compile a query; where rows of a source cannot be captured, AUTO runs FULL.

    Args:
        conn: outside a transaction, or inside one that may be rolled back.
        query: the defining query.
        mode: ``AUTO``, ``DIFFERENTIAL`` or ``FULL``.
        settings: session settings to compile under; None: the session's own.
        check: see ``analyze.compile_query``.

    Raises:
        InvalidQuery, UnsupportedQuery: see ``analyze.compile_query``.
    """
    analysis = _compile(conn, query, mode, settings, check)
    if analysis.plan.mode == "FULL":
        return analysis
    for need in analysis.plan.sources:
        reason = capture.restrictions(conn, need.relid) if need.kind == "table" and need.rows else None
        if reason is None:
            continue
        if mode == "DIFFERENTIAL":
            raise UnsupportedQuery(
                f"The changes of a source cannot be captured: {reason}", clause="FROM", hint="Use refresh_mode='AUTO'."
            )
        full = _compile(conn, query, "FULL", settings, check)
        return replace(full, plan=replace(full.plan, full_reason=reason))
    return analysis


def _compile(conn: db.Connection, query: str, mode: str, settings: Mapping[str, str] | None, check: bool) -> Analysis:
    def work() -> Analysis:
        if settings is not None:
            pin(conn, settings)
        return analyze.compile_query(conn, query, mode=mode, check=check)

    if conn.info.transaction_status != TransactionStatus.IDLE:
        with db.transaction(conn):
            return work()
    # Analysing a query locks what it reads, as reading would, and takes its time between two statements.
    policy = db.LockPolicy(lock_timeout_ms=COMPILE_LOCK_TIMEOUT_MS, stopped_after_ms=_COMPILE_STOPPED_MS)
    return db.under_lock_timeout(conn, work, policy=policy)


def new_version() -> int:
    """A version that no definition ever had: after a restore a stream table may have its number and its past again."""
    return secrets.randbelow(10**15)


def definition_facts(conn: db.Connection, analysis: Analysis, version: int) -> dict[str, Any]:
    """What ``stream_tables.definition`` holds."""
    return {
        "checked": checker(conn),
        "version": version,
        "shape": shape(analysis.plan),
        "locator": _locator(conn, analysis.plan),
        "columns": [column.name for column in analysis.plan.root.columns],
        "unwatched": analysis.plan.unwatched,
    }


def _locator(conn: db.Connection, plan: Plan) -> str:
    """A digest of the indexes that refreshes find rows by: the same ones need not be built again."""
    bindings = Bindings(stages=stage_bindings(plan, 0, Relation("s", "t")))
    texts = [statement.as_string(conn) for statement in emit.locator_index(plan, bindings)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def register_stages(conn: db.Connection, stream_table_id: int, plan: Plan, bindings: Bindings) -> None:
    """Record which tables the stages own."""
    rows = []
    for stage in plan.stages:
        binding = bindings.stages[stage.number]
        root = stage is plan.root
        rows.append(
            StageTables(
                stream_table_id=stream_table_id,
                stage_no=stage.number,
                strategy=stage.strategy.value,
                output_table=None if root else binding.output.name,
                state_table=binding.state.name if binding.state else None,
                log_table=None if root or binding.log is None else binding.log.name,
            )
        )
    stages.replace(conn, stream_table_id, rows)


def register_objects(conn: db.Connection, stream_table_id: int, analysis: Analysis) -> None:
    """Record what the query uses besides tables: views, functions, types ...; the fingerprint watches them."""
    sources.delete_dependencies(conn, stream_table_id, list(_WATCHED))
    for relid in sorted(analysis.views):
        _register(conn, stream_table_id, "view", relid)
    for kind, oid in analysis.objects:
        _register(conn, stream_table_id, kind, oid)


def _register(conn: db.Connection, stream_table_id: int, kind: str, oid: int) -> None:
    found = db.fetch_one(conn, QUERIES[f"describe_{kind}"], dict, {"oid": oid})
    if found is not None:
        sources.upsert_dependency(
            conn, Dependency(stream_table_id, 0, kind, oid, found["schema_name"], found["object_name"])
        )


def notices_of(analysis: Analysis, mode: str) -> list[Notice]:
    """The implicit acts of a definition."""
    found = [Notice(code, text) for code, text in analysis.plan.notices]
    told = {notice.code for notice in found}
    if mode == "AUTO" and analysis.plan.mode == "FULL" and "auto_full" not in told:
        found.append(Notice("auto_full", f"AUTO runs FULL: {analysis.plan.full_reason}"))
    return found
