"""How a query is, or would be, maintained: for people."""

from __future__ import annotations

from pgtrickle import db, emit, gates
from pgtrickle.analyze import Analysis
from pgtrickle.catalog import groups
from pgtrickle.catalog.groups import GroupRow
from pgtrickle.errors import InternalError
from pgtrickle.gates import GateFacts
from pgtrickle.ir.describe import nodes_of, tree_lines
from pgtrickle.lifecycle.connect import imagined_bindings
from pgtrickle.lifecycle.definition import compile_definition, notices_of
from pgtrickle.lifecycle.target import resolve_stream_table
from pgtrickle.plan import Bindings, InputKey, Plan, Relation, Stage
from pgtrickle.refresh.bindings import bindings_of
from pgtrickle.results import Explanation, Notice, StageExplanation


def describe(conn: db.Connection, query: str, mode: str) -> Explanation:
    """Explain a query without creating anything.

    Raises:
        InvalidQuery, UnsupportedQuery: as a creation would.
    """
    analysis = compile_definition(conn, query, mode)
    bindings = imagined_bindings(conn, analysis.plan, 0, Relation("public", "stream_table"))
    return _explain(conn, None, analysis, bindings, tuple(notices_of(analysis, mode)), ())


def explain(conn: db.Connection, name: str) -> Explanation:
    """Explain a registered stream table, and what its gates say now.

    Raises:
        StreamTableNotFound: no such stream table.
    """
    found = resolve_stream_table(conn, name)
    row = next((row for row in groups.fetch(conn, [found.relid]) if row.id == found.id), None)
    if row is None:
        raise InternalError("the stream table has no frontier", object_name=found.name)
    analysis = compile_definition(conn, found.canonical_query, found.requested_mode, settings=found.settings)
    notices = tuple(notices_of(analysis, found.requested_mode))
    return _explain(conn, row.quoted_name, analysis, bindings_of(row, analysis.plan), notices, _gates(row))


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


def _explain(
    conn: db.Connection,
    name: str | None,
    analysis: Analysis,
    bindings: Bindings,
    notices: tuple[Notice, ...],
    trail: tuple[tuple[str, str, str], ...],
) -> Explanation:
    plan = analysis.plan
    return Explanation(
        name=name,
        mode=plan.mode,
        full_reason=plan.full_reason,
        canonical=plan.canonical,
        columns=tuple((column.name, column.type.name) for column in plan.root.columns),
        sources=tuple(
            f"{_name(bindings, need.kind, need.relid)} ({', '.join(need.columns.values())})" for need in plan.sources
        ),
        stages=tuple(_stage(conn, plan, stage, bindings) for stage in plan.stages),
        notices=notices,
        gates=trail,
    )


def _stage(conn: db.Connection, plan: Plan, stage: Stage, bindings: Bindings) -> StageExplanation:
    statement = emit.stage_refresh(plan, stage, bindings, stage.inputs) if plan.mode == "DIFFERENTIAL" else None
    return StageExplanation(
        number=stage.number,
        strategy=stage.strategy.value,
        reason=stage.reason,
        inputs=tuple(sorted(_input(bindings, key) for key in stage.inputs)),
        tree="\n".join(tree_lines(nodes_of(stage.operator, lambda key: _input(bindings, key)))),
        delta_sql=None if statement is None else statement.as_string(conn),
    )


def _input(bindings: Bindings, key: InputKey) -> str:
    return f"stage {key.ident}" if key.kind == "stage" else _name(bindings, key.kind, key.ident)


def _name(bindings: Bindings, kind: str, relid: int) -> str:
    found = bindings.stream_tables.get(relid) if kind == "stream_table" else bindings.tables.get(relid)
    return str(relid) if found is None else f"{found.relation.schema}.{found.relation.name}"
