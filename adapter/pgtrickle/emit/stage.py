"""The statements that fill, refresh and recompute a stage."""

from __future__ import annotations

from dataclasses import replace

from psycopg.sql import SQL, Composable, Composed

from pgtrickle.emit.apply import Changes, apply
from pgtrickle.emit.consolidate import consolidate
from pgtrickle.emit.fragments import Name, commas, names, table
from pgtrickle.emit.net import affected_groups, changed_groups, changed_rows, compared, net_changes, stored_rows
from pgtrickle.emit.pick import picked_rows
from pgtrickle.emit.recursion import changed_recursion
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.state import State, as_weighted, state_of
from pgtrickle.emit.target import Target, output_target
from pgtrickle.emit.tops import grouping_of, rebuilt
from pgtrickle.ir.operators import InputKey
from pgtrickle.ir.schema import Column, Equality
from pgtrickle.plan import Bindings, Plan, Stage, Strategy
from pgtrickle.rewrite.stages import subquery_inputs


def stage_load(plan: Plan, stage: Stage, bindings: Bindings) -> tuple[Composed, ...]:
    """Fill an empty stage from its inputs: state first, then the output from it."""
    target = output_target(plan, stage, bindings)
    statements = _state_load(stage, bindings)
    rows = rows_now(stage, bindings)
    insert = SQL("INSERT INTO {} ({}) SELECT {} FROM ({}) AS q").format(
        table(target.relation), names(target.columns), names(stage.operator.columns), rows
    )
    return (*statements, insert)


def stage_refresh(
    plan: Plan, stage: Stage, bindings: Bindings, changed: frozenset[InputKey], *, few: bool = False
) -> Composed | None:
    """One statement that brings the changes of the window into a stage; it returns `emit.apply.COUNTS`.

    Args:
        plan: the plan that the stage belongs to.
        stage: the stage.
        bindings: names in this database.
        changed: the inputs that have changes; others are not read for changes.
        few: these changes are few, so that one plan without values serves for all of them.

    Returns:
        The statement, or None if nothing can have changed.
    """
    printer = Printer(bindings, few=few)
    target = output_target(plan, stage, bindings)
    match stage.strategy:
        case Strategy.ROWS:
            weighted = changed_rows(stage.operator, changed, printer)
        case Strategy.AGGREGATE:
            found = changed_groups(stage, target, bindings, changed, printer)
            return found and apply(printer, target, found, bindings.stages[stage.number])
        case Strategy.KEYS if changed & subquery_inputs(stage.operator):
            weighted = _difference(stage, target, bindings)
        case Strategy.KEYS:
            weighted = affected_groups(stage, target, changed, printer)
        case Strategy.PICK:
            weighted = picked_rows(stage, target, changed, printer)
        case Strategy.RECURSION if changed & subquery_inputs(stage.operator):
            weighted = _difference(stage, target, bindings)
        case Strategy.RECURSION:
            weighted = changed_recursion(plan, stage, target, bindings, changed, printer)
        case Strategy.ALL:
            weighted = _difference(stage, target, bindings) if changed & stage.inputs else None
    if weighted is None:
        return None
    net = consolidate(stage.operator.columns, weighted)
    return apply(printer, target, net_changes(stage, target, net), bindings.stages[stage.number])


def stage_recompute(plan: Plan, stage: Stage, bindings: Bindings) -> tuple[Composed, ...]:
    """Compute a stage again and write the differences only; the last statement returns `emit.apply.COUNTS`.

    For roles that may not create temporary tables; `emit.full` does the same faster.
    """
    target = output_target(plan, stage, bindings)
    target = replace(target, columns=loosened(target.columns), key=target.key and loosened(target.key))
    statements: list[Composed] = []
    state = state_of(stage, bindings)
    if state is not None:
        statements.append(SQL("DELETE FROM {}").format(table(state.target.relation)))
        statements += _state_load(stage, bindings)
    # Under neutral names: the query's own may be one of ours.
    columns = target.neutral
    pairs = zip(stage.operator.columns, columns, strict=True)
    shown = commas(SQL("{} AS {}").format(Name(mine.name), Name(neutral.name)) for mine, neutral in pairs)
    new = SQL("SELECT {} FROM ({}) AS q").format(shown, rows_now(stage, bindings))
    net = consolidate(loosened(columns), compared(new, stored_rows(target, columns), columns))
    return (*statements, apply(Printer(bindings), target, Changes(net), bindings.stages[stage.number]))


def loosened(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns told apart by what a user sees, also where values of one scale are all that there should be: what is
    stored may be of the time before a source's column got another scale."""
    return tuple(
        replace(column, type=replace(column.type, equality=Equality.COARSE, scale=None))
        if column.type.is_numeric
        else column
        for column in columns
    )


def _difference(stage: Stage, target: Target, bindings: Bindings) -> Composable:
    columns = stage.operator.columns
    return compared(rows_now(stage, bindings), stored_rows(target, columns), columns)


def rows_now(stage: Stage, bindings: Bindings) -> Composable:
    """The stage's output rows for its inputs as they are now; those of an aggregate from its state as it is now."""
    state = state_of(stage, bindings)
    if state is None:
        return Printer(bindings).select(stage.operator)
    chain, _ = grouping_of(stage.operator)
    printer = Printer(bindings)
    printer.define("totals", SQL("SELECT * FROM {}").format(table(state.target.relation)))
    return printer.statement(printer.select(rebuilt(chain, state.results("totals", ""))))


def state_now(state: State, bindings: Bindings) -> Composable:
    """The state for the stage's inputs as they are now."""
    child = state.grouping.child
    return state.loaded(as_weighted(Printer(bindings).select(child), child.columns))


def _state_load(stage: Stage, bindings: Bindings) -> tuple[Composed, ...]:
    state = state_of(stage, bindings)
    if state is None:
        return ()
    return (SQL("INSERT INTO {} {}").format(table(state.target.relation), state_now(state, bindings)),)
