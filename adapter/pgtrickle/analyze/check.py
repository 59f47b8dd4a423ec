"""Prepare every statement that a plan can send, before the plan is accepted. Nothing survives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from psycopg.sql import SQL, Composable, Composed

from pgtrickle import db, emit
from pgtrickle.analyze.typing import analyse
from pgtrickle.emit.fragments import Name, commas, names, table, verbatim
from pgtrickle.ir.operators import InputKey, Operator, children_of
from pgtrickle.ir.schema import Column, Type
from pgtrickle.names import change_column
from pgtrickle.plan import (
    Bindings,
    Plan,
    Relation,
    SourceNeed,
    StageBinding,
    Strategy,
    StreamTableBinding,
    TableBinding,
)

#: Up to this many inputs every subset of changed ones is prepared; beyond, the single ones and all together.
_ALL_SUBSETS = 4
_PARAMETERS = {b"%(xmax)s": b"'1'", b"%(xip)s": b"'{}'", b"%(refresh_no)s": b"1::bigint"}


def check_statements(conn: db.Connection, plan: Plan, sources: Bindings) -> None:
    """Analyse all statements of a plan on the server.

    Args:
        conn: inside a transaction that will be rolled back.
        plan: the plan.
        sources: where its sources are.

    Raises:
        StatementFailed: the server refuses one of them.
    """
    bindings = _scratch(conn, plan, sources)
    for statement in (*emit.stage_tables(plan, bindings), *emit.locator_index(plan, bindings)):
        with db.wrapped():
            conn.execute(statement, {})
    planned = any(is_one_sided(column.type) for stage in plan.stages for column in all_columns(stage.operator))
    _check_staged(conn, plan, bindings)
    for statement in _statements(plan, bindings):
        filled = _filled(conn, statement, plan)
        analyse(conn, filled)
        if planned:
            with db.wrapped():
                conn.execute(SQL("EXPLAIN {}").format(filled), {})


def _check_staged(conn: db.Connection, plan: Plan, bindings: Bindings) -> None:
    """The statements that recompute by way of temporary tables; these are made, but empty."""
    for stage in plan.stages:
        for step in emit.stage_staged(plan, stage, bindings):
            filled = _filled(conn, step.statement, plan)
            if step.creates:
                db.execute(conn, SQL("{} WITH NO DATA").format(filled), {})
            else:
                analyse(conn, filled)


def is_one_sided(kind: Type) -> bool:
    """Whether a type can be hashed or sorted only: then the server says no sooner than when it plans a statement."""
    return kind.equals is not None and kind.hashable is not kind.sortable


def all_columns(op: Operator) -> Iterator[Column]:
    """The columns of all operators of a tree, some of them more than once."""
    yield from op.columns
    for child in children_of(op):
        yield from all_columns(child)


def _statements(plan: Plan, bindings: Bindings) -> Iterator[Composable]:
    for stage in plan.stages:
        yield from emit.stage_load(plan, stage, bindings)
        yield from emit.stage_recompute(plan, stage, bindings)
        for changed in subsets(stage.inputs):
            statement = emit.stage_refresh(plan, stage, bindings, changed)
            if statement is not None:
                yield statement
    yield emit.verify_query(plan, bindings)


def subsets(inputs: frozenset[InputKey]) -> Iterator[frozenset[InputKey]]:
    """The sets of changed inputs for which a statement is prepared."""
    ordered = sorted(inputs, key=lambda key: (key.kind, key.ident))
    sizes = range(1, len(ordered) + 1) if len(ordered) <= _ALL_SUBSETS else (1, len(ordered))
    for size in sizes:
        for chosen in combinations(ordered, size):
            yield frozenset(chosen)


def _filled(conn: db.Connection, statement: Composable, plan: Plan) -> Composable:
    text = statement.as_bytes(conn)
    consumed = {b"%%(consumed_%d)s" % need.relid: b"0::bigint" for need in plan.sources}
    for name, value in (_PARAMETERS | consumed).items():
        text = text.replace(name, value)
    return verbatim_bytes(text)


def verbatim_bytes(text: bytes) -> SQL:
    """A finished statement as SQL."""
    return SQL(text.decode())  # pyright: ignore[reportArgumentType]


def _scratch(conn: db.Connection, plan: Plan, sources: Bindings) -> Bindings:
    """Temporary stand-ins for buffers, logs and the stream table; stages get theirs from `emit.stage_tables`."""
    tables: dict[int, TableBinding] = {}
    streams: dict[int, StreamTableBinding] = {}
    for need in plan.sources:
        changes = Relation("pg_temp", f"pgtrickle_changes_{need.relid}")
        relation = sources.tables[need.relid].relation
        db.execute(conn, _changes_table(need, relation, changes), {})
        if need.kind == "table":
            tables[need.relid] = TableBinding(relation, changes)
        else:
            streams[need.relid] = StreamTableBinding(relation, changes)
    root = Relation("pg_temp", "pgtrickle_root")
    query = SQL("SELECT * FROM ({}) AS q ({})").format(verbatim(plan.reference), names(plan.root.columns))
    with db.wrapped():
        conn.execute(SQL("CREATE TABLE {} AS {} WITH NO DATA").format(table(root), query), {})
    stages = {}
    for stage in plan.stages:
        own = Relation("pg_temp", f"pgtrickle_stage_{stage.number}")
        state = Relation("pg_temp", f"{own.name}_state") if stage.strategy is Strategy.AGGREGATE else None
        log = Relation("pg_temp", f"{own.name}_log") if stage is not plan.root else None
        output = own if stage is not plan.root else root
        stages[stage.number] = StageBinding(output, log, state, locator=f"pgtrickle_locator_{stage.number}")
    return Bindings(tables, streams, stages)


def _changes_table(need: SourceNeed, relation: Relation, changes: Relation) -> Composed:
    columns = [SQL("NULL::pg_catalog.xid8 AS __x, 0::pg_catalog.int8 AS __n, 0::pg_catalog.int2 AS __w")]
    shown: list[Composable] = [
        *columns,
        *(SQL("t.{} AS {}").format(Name(name), Name(change_column(number))) for number, name in need.columns.items()),
    ]
    return SQL("CREATE TABLE {} AS SELECT {} FROM {} AS t WITH NO DATA").format(
        table(changes), commas(shown), table(relation)
    )
