"""Puts an explanation together: of a stream table, or of a query alone."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle import db, gates
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import groups
from pgtrickle.catalog.groups import GroupRow
from pgtrickle.errors import InternalError
from pgtrickle.explain.advice import advice_of
from pgtrickle.explain.model import CostExplanation, Explanation, SourceExplanation, StageExplanation
from pgtrickle.explain.names import input_name, relation_name
from pgtrickle.explain.operators import operators_of, stage_tree
from pgtrickle.explain.statements import deltas_of, stages_reached, statement_of
from pgtrickle.explain.tables import tables_of
from pgtrickle.gates import GateFacts
from pgtrickle.lifecycle import resolve_stream_table
from pgtrickle.lifecycle.connect import imagined_bindings
from pgtrickle.lifecycle.definition import compile_definition, notices_of
from pgtrickle.names import CHANGES_SCHEMA
from pgtrickle.plan import Bindings, InputKey, Plan, Relation, SourceNeed, Stage
from pgtrickle.recursion import deep
from pgtrickle.refresh.bindings import bindings_of
from pgtrickle.refresh.cost import CostHistory, full_from


def explain_query(conn: db.Connection, query: str, mode: str) -> Explanation:
    """Explain a query without creating anything.

    Raises:
        InvalidQuery, UnsupportedQuery: as a creation would.
    """
    analysis = compile_definition(conn, query, mode)
    bindings = _imagined(conn, analysis.plan)
    return _explain(conn, analysis, bindings, mode)


def explain_stream_table(conn: db.Connection, name: str) -> Explanation:
    """Explain a registered stream table, and what its gates say now.

    Raises:
        StreamTableNotFound: no such stream table.
    """
    found = resolve_stream_table(conn, name)
    row = next((row for row in groups.fetch(conn, [found.relid]) if row.id == found.id), None)
    if row is None:
        raise InternalError("the stream table has no frontier", object_name=found.name)
    analysis = compile_definition(conn, found.canonical_query, found.requested_mode, settings=found.settings)
    explanation = _explain(conn, analysis, bindings_of(row, analysis.plan), found.requested_mode)
    return replace(explanation, name=row.quoted_name, cost=_cost(row), gates=_gates(row))


def _imagined(conn: db.Connection, plan: Plan) -> Bindings:
    """Names for a plan of which nothing exists but the sources: change buffers are called after these."""
    bindings = imagined_bindings(conn, plan, 0, Relation("public", "stream_table"))
    tables = {
        relid: replace(table, buffer=table.buffer and Relation(CHANGES_SCHEMA, f"changes_of_{table.relation.name}"))
        for relid, table in bindings.tables.items()
    }
    streams = {
        relid: replace(stream, log=Relation(CHANGES_SCHEMA, f"changes_of_{stream.relation.name}"))
        for relid, stream in bindings.stream_tables.items()
    }
    return replace(bindings, tables=tables, stream_tables=streams)


@deep()
def _explain(conn: db.Connection, analysis: Analysis, bindings: Bindings, mode: str) -> Explanation:
    plan = analysis.plan
    return Explanation(
        name=None,
        requested_mode=mode,
        mode=plan.mode,
        full_reason=plan.full_reason,
        canonical=plan.canonical,
        columns=tuple((column.name, column.type.name) for column in plan.root.columns),
        sources=tuple(_source(plan, need, bindings) for need in plan.sources),
        rewrites=plan.rewrites,
        stages=tuple(_stage(conn, plan, stage, bindings) for stage in plan.stages),
        deltas=deltas_of(conn, plan, bindings),
        tables=tables_of(conn, plan, bindings),
        advice=advice_of(conn, plan, bindings),
        notices=tuple(notices_of(analysis, mode)),
    )


def _source(plan: Plan, need: SourceNeed, bindings: Bindings) -> SourceExplanation:
    key = InputKey(need.kind, need.relid)
    stream, table = bindings.stream_tables.get(need.relid), bindings.tables.get(need.relid)
    changes = stream.log if stream is not None else table.buffer if table is not None else None
    return SourceExplanation(
        name=input_name(bindings, key),
        kind=need.kind,
        columns=tuple(need.columns.values()),
        rows=need.rows and need.capturable,
        changes=None if changes is None else relation_name(changes),
        stages=tuple(stage.number for stage, _ in stages_reached(plan, frozenset({key}))),
    )


def _stage(conn: db.Connection, plan: Plan, stage: Stage, bindings: Bindings) -> StageExplanation:
    def name_of(key: InputKey) -> str:
        return input_name(bindings, key)

    statement = statement_of(conn, plan, stage, bindings, stage.inputs) if plan.mode == "DIFFERENTIAL" else None
    return StageExplanation(
        number=stage.number,
        strategy=stage.strategy.value,
        reason=stage.reason,
        inputs=tuple(sorted(map(name_of, stage.inputs))),
        output=relation_name(bindings.stages[stage.number].output),
        columns=tuple(column.name for column in stage.columns),
        key=stage.key,
        operators=operators_of(stage, name_of),
        tree=stage_tree(stage, name_of),
        delta_sql=None if statement is None else statement.sql,
    )


def _cost(row: GroupRow) -> CostExplanation:
    history = CostHistory.of(row.cost)
    rows = int(sum(max(source.rows, 0) for source in row.sources))
    fraction = row.options.get("max_delta_fraction")
    return CostExplanation(
        full_ms=history.full_ms,
        change_ms=history.change_ms,
        small_ms=history.small_ms,
        source_rows=rows,
        full_from=full_from(history, rows, fraction),
    )


def _gates(row: GroupRow) -> tuple[tuple[str, str, str], ...]:
    facts = GateFacts(
        name=row.name,
        now=row.now,
        manual=False,
        pulled=True,
        status=row.status,
        populated=row.is_populated,
        retry_at=row.retry_at,
        last_error=(row.last_error or {}).get("message"),
    )
    return tuple((one.gate, one.decision.word, one.decision.reason) for one in gates.decide(facts))
