"""By which columns refreshes look up rows of the sources: the equalities of joins, the keys that are computed again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pgtrickle.delta.aggregates import rule_for
from pgtrickle.delta.aggregates.rule import KeptValue
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Apply,
    Expand,
    Filter,
    InputKey,
    Join,
    Operator,
    OuterJoin,
    Project,
    Scan,
    UnionAll,
    Window,
    children_of,
)
from pgtrickle.plan import Plan, Stage, Strategy
from pgtrickle.rewrite.record import nodes_of


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows of a source are found by these columns; an index that begins with any of them does it."""

    source: InputKey
    columns: tuple[str, ...]
    reason: str


def lookups_of(plan: Plan) -> tuple[Lookup, ...]:
    """Every look-up of a base table or stream table that the delta statements of a plan make."""
    found = dict.fromkeys(lookup for stage in plan.stages for lookup in _of_stage(stage))
    return tuple(lookup for lookup in found if lookup.source.kind != "stage")


def _of_stage(stage: Stage) -> Iterator[Lookup]:
    if stage.strategy is Strategy.ALL:
        return
    for node in nodes_of(stage.operator):
        if isinstance(node, Join | OuterJoin | Anti):
            yield from _of_join(node)
    node = stage.operator
    while isinstance(node, Project | Filter):
        node = node.child
    if stage.strategy is Strategy.KEYS and isinstance(node, Aggregate | Window):
        yield from _looked_up(node.child, node.keys, "affected groups are computed again")
    if stage.strategy is Strategy.AGGREGATE and isinstance(node, Aggregate) and _keeps_values(node):
        yield from _looked_up(node.child, node.keys, "a group is looked at again when the row that decided it leaves")


def _keeps_values(op: Aggregate) -> bool:
    """Whether a group may have to be looked at again: where a value is kept, not a total."""
    rules = [(call, rule_for(call, op.child.columns)) for call in op.calls]
    return any(isinstance(kept, KeptValue) for call, rule in rules if rule for kept in rule.state(call))


def _of_join(op: Join | OuterJoin | Anti) -> Iterator[Lookup]:
    children = children_of(op)
    for child in children:
        own = {column.name for column in child.columns}
        columns: list[str] = []
        for condition in op.conditions:
            for mine, theirs in (condition.sides, condition.sides[::-1]) if condition.sides else ():
                if mine.column in own and theirs.refs and not theirs.refs & own:
                    columns.append(mine.column or "")
        if columns:
            yield from _looked_up(child, columns, "joined to what changed")


def _looked_up(op: Operator, names: Iterable[str], reason: str) -> Iterator[Lookup]:
    found: dict[InputKey, dict[str, None]] = {}
    for name in names:
        for scan, attribute in _origins(op, name):
            found.setdefault(scan.input, {})[attribute] = None
    for source, columns in found.items():
        yield Lookup(source, tuple(columns), reason)


def _origins(op: Operator, name: str) -> Iterator[tuple[Scan, str]]:
    """The scans and attributes that a column comes from unchanged, as far as a condition on it can be pushed."""
    match op:
        case Scan():
            names = {column.name: attribute for (_, attribute), column in zip(op.attributes, op.columns, strict=True)}
            yield op, names[name]
        case Project():
            exprs = {column.name: expr.column for column, expr in zip(op.columns, op.exprs, strict=True)}
            inner = exprs[name]
            if inner is not None:
                yield from _origins(op.child, inner)
        case UnionAll():
            position = [column.name for column in op.columns].index(name)
            for child in op.children:
                yield from _origins(child, child.columns[position].name)
        case Filter() | Join() | OuterJoin() | Anti() | Window() | Aggregate() | Apply() | Expand():
            for child in children_of(op):
                if name in {column.name for column in child.columns}:
                    yield from _origins(child, name)
        case _:
            return
