"""The statements that a refresh would send, per changed source, as a person would write them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from psycopg.sql import Composable

from pgtrickle import db, emit
from pgtrickle.explain.model import DeltaExplanation, StatementExplanation
from pgtrickle.explain.names import input_name
from pgtrickle.explain.operators import delta_tree
from pgtrickle.parse.pretty import pretty
from pgtrickle.plan import Bindings, InputKey, Plan, Stage
from pgtrickle.refresh.plan import stage_changes

_PLACEHOLDER = re.compile(r"%%|%\((\w+)\)s")
#: The parameters of emitted statements in words; see docs/contributing/architecture.md.
_PARAMETERS: Mapping[str, str] = {
    "xmax": "xmax of the snapshot of the last refresh",
    "xip": "transactions that were in progress in the snapshot of the last refresh",
    "refresh_no": "number of this refresh",
}


def deltas_of(conn: db.Connection, plan: Plan, bindings: Bindings) -> tuple[DeltaExplanation, ...]:
    """The statements for each source alone, and for all together if there are several.

    Args:
        conn: for quoting only.
        plan: the plan; a FULL one has the statement that recomputes, whatever changed.
        bindings: names in this database.
    """
    sources = [InputKey(need.kind, need.relid) for need in plan.sources]
    if plan.mode != "DIFFERENTIAL":
        return (_recompute(conn, plan, bindings, sources),)
    sets = [frozenset({source}) for source in sources]
    if len(sets) > 1:
        sets.append(frozenset(sources))
    return tuple(_delta(conn, plan, bindings, changed) for changed in sets)


def stages_reached(plan: Plan, changed: frozenset[InputKey]) -> tuple[tuple[Stage, frozenset[InputKey]], ...]:
    """The stages that changes can run through, each with the inputs that changed."""
    known = set(changed)
    reached = []
    for stage in plan.stages:
        inputs = stage_changes(stage, frozenset(known))
        if inputs:
            reached.append((stage, inputs))
            known.add(InputKey("stage", stage.number))
    return tuple(reached)


def statement_of(
    conn: db.Connection, plan: Plan, stage: Stage, bindings: Bindings, inputs: frozenset[InputKey]
) -> StatementExplanation | None:
    """The statement that brings changes of these inputs into a stage; None if nothing can have changed."""
    composed = emit.stage_refresh(plan, stage, bindings, inputs)
    if composed is None:
        return None
    tree = delta_tree(stage, inputs, lambda key: input_name(bindings, key))
    return StatementExplanation(stage.number, tree, *_shown(conn, composed, bindings))


def _delta(conn: db.Connection, plan: Plan, bindings: Bindings, changed: frozenset[InputKey]) -> DeltaExplanation:
    found = (statement_of(conn, plan, stage, bindings, inputs) for stage, inputs in stages_reached(plan, changed))
    statements = tuple(statement for statement in found if statement is not None)
    return DeltaExplanation(tuple(sorted(input_name(bindings, key) for key in changed)), statements)


def _recompute(conn: db.Connection, plan: Plan, bindings: Bindings, sources: list[InputKey]) -> DeltaExplanation:
    steps = emit.stage_staged(plan, plan.root, bindings)
    statements = tuple(
        StatementExplanation(plan.root.number, None, *_shown(conn, step.statement, bindings)) for step in steps
    )
    return DeltaExplanation(tuple(sorted(input_name(bindings, key) for key in sources)), statements)


def _shown(conn: db.Connection, statement: Composable, bindings: Bindings) -> tuple[str, tuple[str, ...]]:
    """The statement with numbered parameters, and what these are."""
    numbers: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        if match[1] is None:
            return "%"
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    text = pretty(_PLACEHOLDER.sub(numbered, statement.as_string(conn)))
    return text, tuple(_meaning(name, bindings) for name in numbers)


def _meaning(parameter: str, bindings: Bindings) -> str:
    if parameter in _PARAMETERS:
        return _PARAMETERS[parameter]
    source = InputKey("stream_table", int(parameter.removeprefix("consumed_")))
    return f"refresh of {input_name(bindings, source)} up to which its changes are known"


def ddl_shown(conn: db.Connection, statement: Composable) -> str:
    """A statement without parameters, as a person would write it."""
    return pretty(statement.as_string(conn).replace("%%", "%"))
