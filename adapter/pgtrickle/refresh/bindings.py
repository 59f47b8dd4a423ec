"""Where a plan's inputs and outputs are in this database."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.capture import buffer_of, output_log_of
from pgtrickle.catalog.groups import GroupRow
from pgtrickle.names import STATE_SCHEMA, change_column
from pgtrickle.plan import Bindings, Plan, Relation, StageBinding, Strategy, StreamTableBinding, TableBinding


def bindings_of(row: GroupRow, plan: Plan) -> Bindings:
    """The bindings of a registered stream table with its present names."""
    tables = {
        source.relid: TableBinding(
            Relation(source.schema or "", source.name or ""),
            None if source.source_id is None else buffer_of(source.source_id),
        )
        for source in row.sources
        if source.kind != "stream_table"
    }
    stream_tables = {
        source.relid: StreamTableBinding(
            Relation(source.schema or "", source.name or ""), output_log_of(source.stream_table_id)
        )
        for source in row.sources
        if source.stream_table_id is not None
    }
    target = Relation(row.schema_name or "", row.table_name or "")
    stages = stage_bindings(plan, row.id, target)
    if row.has_log:
        numbers = [row.columns.get(column.name, 0) for column in plan.root.columns]
        stages[plan.root.number] = replace(
            stages[plan.root.number],
            log=output_log_of(row.id),
            log_columns=tuple(change_column(number) for number in numbers),
        )
    return Bindings(tables, stream_tables, stages)


def stage_bindings(plan: Plan, stream_table_id: int, target: Relation) -> dict[int, StageBinding]:
    """The names of all stages; the root writes the stream table itself and, here, no log."""
    return {
        stage.number: StageBinding(
            output=target if stage is plan.root else state_table(stream_table_id, stage.number),
            log=None if stage is plan.root else state_table(stream_table_id, stage.number, "log"),
            state=state_table(stream_table_id, stage.number, "state") if stage.strategy is Strategy.AGGREGATE else None,
            locator=f"pgtrickle_locator_{stream_table_id}_{stage.number}",
        )
        for stage in plan.stages
    }


def state_table(stream_table_id: int, stage_no: int, suffix: str = "") -> Relation:
    """A table of a stage in ``pgtrickle_state``: its output, or its ``state`` or ``log``."""
    tail = f"_{suffix}" if suffix else ""
    return Relation(STATE_SCHEMA, f"s{stream_table_id}_{stage_no}{tail}")
