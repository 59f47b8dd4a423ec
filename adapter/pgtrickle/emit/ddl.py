"""The tables that stages own in ``pgtrickle_state``, and the indexes by which refreshes find rows."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Composed

from pgtrickle.emit.fragments import Name, commas, hashed, names, table
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.state import State, as_weighted
from pgtrickle.emit.target import Target, finder, output_target, stored_columns
from pgtrickle.emit.tops import grouping_of
from pgtrickle.ir.operators import Recursion
from pgtrickle.plan import Bindings, Plan, Relation, Stage, Strategy
from pgtrickle.rewrite.recursion import probed_columns

#: Own tables are updated all the time: room for HOT updates, and vacuum before they bloat.
_STORAGE = SQL(
    "ALTER TABLE {} SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05,"
    " autovacuum_analyze_scale_factor = 0.05)"
)
_MAX_INDEX_COLUMNS = 32


def stage_tables(plan: Plan, bindings: Bindings) -> tuple[Composed, ...]:
    """DDL for output, log and state tables of all stages but the stream table itself (lifecycle owns that)."""
    statements: list[Composed] = []
    for stage in plan.stages:
        binding = bindings.stages[stage.number]
        if stage is not plan.root:
            statements += _output(plan, stage, bindings)
        if binding.state is not None and stage.strategy is Strategy.AGGREGATE:
            statements += _state(stage, bindings, binding.state)
    return tuple(statements)


def locator_index(plan: Plan, bindings: Bindings) -> tuple[Composed, ...]:
    """The indexes by which a refresh finds rows of the stream table."""
    return _locators(output_target(plan, plan.root, bindings), plan.root, bindings)


def stage_indexes(plan: Plan, stage: Stage, bindings: Bindings) -> tuple[tuple[Relation, Composed], ...]:
    """The index statements of a stage's tables, each with its table; those of the stream table if it is the root."""
    target, state = output_target(plan, stage, bindings), bindings.stages[stage.number].state
    found = [(target.relation, statement) for statement in _locators(target, stage, bindings)]
    if stage is not plan.root:
        found += [(target.relation, statement) for statement in _join_indexes(plan, stage, target)]
    if state is not None and stage.strategy is Strategy.AGGREGATE:
        found += [(state, statement) for statement in _state_locator(State.of(stage, state), stage, bindings)]
    return tuple(found)


def _state_locator(state: State, stage: Stage, bindings: Bindings) -> tuple[Composed, ...]:
    return _locator(state.target, f"{bindings.stages[stage.number].locator}_state", unique=True)


def is_unique(target: Target, stage: Stage) -> bool:
    """Whether the index by which the stage's rows are found keeps a key from being there twice."""
    return target.plain_index and stage.strategy in (Strategy.AGGREGATE, Strategy.KEYS)


def _locators(target: Target, stage: Stage, bindings: Bindings) -> tuple[Composed, ...]:
    name = bindings.stages[stage.number].locator
    indexes = _locator(target, name, unique=is_unique(target, stage))
    if stage.group is None:
        return indexes
    found = finder(target, stage)
    if found.locator == target.locator:
        return indexes
    return (*indexes, *_locator(found, f"{name}_group", unique=False))


def _output(plan: Plan, stage: Stage, bindings: Bindings) -> list[Composed]:
    binding = bindings.stages[stage.number]
    shown = names(stored_columns(plan, stage))
    rows = Printer(bindings).select(stage.operator)
    columns = [
        SQL("{} AS {}").format(Name(mine.name), Name(stored.name))
        for mine, stored in zip(stage.operator.columns, stored_columns(plan, stage), strict=True)
    ]
    empty = SQL("SELECT {} FROM ({}) AS q").format(commas(columns), rows)
    statements = [SQL("CREATE TABLE {} AS {} WITH NO DATA").format(table(binding.output), empty)]
    statements += _owned(binding.output)
    target = output_target(plan, stage, bindings)
    statements += _locators(target, stage, bindings)
    statements += _join_indexes(plan, stage, target)
    statements += _step_indexes(stage, target)
    if binding.log is not None:
        weighted = SQL("SELECT 0::pg_catalog.int8 AS __n, 0::pg_catalog.int8 AS __w, {} FROM {}").format(
            shown, table(binding.output)
        )
        statements.append(SQL("CREATE TABLE {} AS {} WITH NO DATA").format(table(binding.log), weighted))
        statements += _owned(binding.log)
    return statements


def _join_indexes(plan: Plan, stage: Stage, target: Target) -> list[Composed]:
    """An index on the key for the joins of later stages, where the locator is only a hash."""
    if not target.key or target.plain_index or len(target.key) > _MAX_INDEX_COLUMNS:
        return []
    if not all(column.type.fixed and column.type.sortable for column in target.key):
        return []
    return [SQL("CREATE INDEX ON {} ({})").format(table(target.relation), names(target.key))]


def _step_indexes(stage: Stage, target: Target) -> list[Composed]:
    """Indexes by which the step of a recursion finds the rows that a change beside it concerns."""
    if stage.strategy is not Strategy.RECURSION or not isinstance(stage.operator, Recursion):
        return []
    statements = []
    for column in (target.columns[position] for position in probed_columns(stage.operator)):
        # A long value does not fit into a btree, but its hash does.
        method = SQL("btree") if column.type.fixed and column.type.sortable else SQL("hash")
        if column.type.hashable or (column.type.sortable and column.type.fixed):
            index = SQL("CREATE INDEX ON {} USING {} ({})").format(table(target.relation), method, Name(column.name))
            statements.append(index)
    return statements


def _state(stage: Stage, bindings: Bindings, relation: Relation) -> list[Composed]:
    state = State.of(stage, relation)
    _, grouping = grouping_of(stage.operator)
    rows = as_weighted(Printer(bindings).select(grouping.child), grouping.child.columns)
    statements = [SQL("CREATE TABLE {} AS {} WITH NO DATA").format(table(relation), state.loaded(rows))]
    return [
        *statements,
        *_owned(relation),
        *_state_locator(state, stage, bindings),
    ]


def _owned(relation: Relation) -> list[Composed]:
    # A FOR ALL TABLES publication refuses deletes from tables without an identity.
    return [
        SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(table(relation)),
        _STORAGE.format(table(relation)),
    ]


def _locator(target: Target, index: str, *, unique: bool) -> tuple[Composed, ...]:
    if not target.locator:
        return ()
    name = Name(index)
    if target.plain_index:
        kind = SQL("UNIQUE INDEX") if unique else SQL("INDEX")
        return (SQL("CREATE {} {} ON {} ({})").format(kind, name, table(target.relation), names(target.locator)),)
    expression: Composable = hashed(target.locator)
    return (SQL("CREATE INDEX {} ON {} (({}))").format(name, table(target.relation), expression),)
