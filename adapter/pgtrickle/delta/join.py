"""Delta rule for inner joins of any number of inputs."""

from __future__ import annotations

from dataclasses import dataclass

from pgtrickle.delta.differentiate import Differentiation
from pgtrickle.ir.expr import Expr, col
from pgtrickle.ir.keys import derive_key
from pgtrickle.ir.operators import Anti, Empty, Fence, Filter, Join, Negate, Operator, Project, UnionAll
from pgtrickle.ir.schema import Column


def delta_join(op: Join, d: Differentiation) -> Operator:
    """Δ(L ⋈ R) = ΔL ⋈ R + L ⋈ ΔR − ΔL ⋈ ΔR, with R and L as they are now.

    The inputs are taken one after the other in the order of their connections, so an n-way join has at most 3n
    terms, not 2^n, and no step is a cross product unless the query is one. What restricts an input without having
    changed comes right after it.
    """
    deltas = [d.delta(child) for child in op.inputs]
    changed = [i for i, delta in enumerate(deltas) if not isinstance(delta, Empty)]
    if not changed:
        return Empty(op.columns)
    groups = _connected_order(op, changed)
    last = max(place for place, group in enumerate(groups) if group.position in changed)
    prefix = _begun(groups[0], deltas[groups[0].position], op.conditions)
    for group in groups[1 : last + 1]:
        if group.position in changed:
            prefix = _step(prefix, group, deltas[group.position], op.conditions, d)
        else:
            prefix = _joined(prefix, group.child, op.conditions)
    rest = tuple(group.child for group in groups[last + 1 :])
    left = tuple(c for c in op.conditions if c not in prefix.used)
    return _ordered(Join((prefix.delta, *rest), left) if rest else prefix.delta, op.columns)


@dataclass(frozen=True, slots=True)
class _Group:
    """An input of a join by its position, and what restricts it without having changed."""

    position: int
    child: Operator
    filters: tuple[Operator, ...] = ()

    def narrowed(self, delta: Operator, conditions: tuple[Expr, ...]) -> tuple[Operator, tuple[Expr, ...]]:
        """The delta of the input without rows that what restricts it leaves out; the conditions used."""
        if not self.filters:
            return delta, ()
        inner = _over((delta, *self.filters), conditions)
        return Join((delta, *self.filters), inner), inner


def _over(inputs: tuple[Operator, ...], conditions: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The conditions that read nothing but these inputs."""
    known = {column.name for child in inputs for column in child.columns}
    return tuple(c for c in conditions if c.refs <= known)


def _but(conditions: tuple[Expr, ...], used: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return tuple(c for c in conditions if c not in used)


class _Prefix:
    """The join of the inputs taken so far, of which the first has changed: those that matter for the order, now, what
    restricts these without having changed, its delta, the conditions used."""

    __slots__ = ("delta", "filters", "inputs", "used")

    def __init__(
        self, inputs: tuple[Operator, ...], filters: tuple[Operator, ...], delta: Operator, used: tuple[Expr, ...]
    ) -> None:
        self.inputs = inputs
        self.filters = filters
        self.delta = delta
        self.used = used


def _begun(group: _Group, delta: Operator, conditions: tuple[Expr, ...]) -> _Prefix:
    """The first input, which has changed."""
    narrowed, used = group.narrowed(delta, conditions)
    return _Prefix((group.child,), group.filters, narrowed, used)


def _joined(prefix: _Prefix, child: Operator, conditions: tuple[Expr, ...]) -> _Prefix:
    """One more input, which has not changed."""
    usable = _over((*prefix.inputs, *prefix.filters, child), conditions)
    total = Join((prefix.delta, child), _but(usable, prefix.used))
    return _Prefix((*prefix.inputs, child), prefix.filters, total, usable)


def _step(prefix: _Prefix, group: _Group, delta: Operator, conditions: tuple[Expr, ...], d: Differentiation) -> _Prefix:
    """One more input, which has changed."""
    usable = _over((*prefix.inputs, *prefix.filters, group.child, *group.filters), conditions)
    new = _but(usable, prefix.used)
    narrowed, inner = group.narrowed(delta, conditions)
    kept = _led((prefix.delta, group.child), group.filters, new)
    came = _ordered(_led((narrowed, *prefix.inputs), prefix.filters, _but(usable, inner)), kept.columns)
    both = Negate(Join((prefix.delta, narrowed), _but(new, inner)))
    total = d.bounded(UnionAll((kept, came, both), kept.columns))
    return _Prefix((*prefix.inputs, group.child), (*prefix.filters, *group.filters), total, usable)


def _led(first: tuple[Operator, ...], filters: tuple[Operator, ...], conditions: tuple[Expr, ...]) -> Operator:
    """What a delta leads to, joined with it, and then what restricts it.

    In one go, PostgreSQL would begin with what restricts: it takes looking up the many partners of few rows for cheap.
    """
    inner = _over(first, conditions)
    if not filters or not _are_connected(first, inner):
        return Join((*first, *filters), conditions)
    return Join((Fence(Join(first, inner)), *filters), _but(conditions, inner))


def _connected_order(op: Join, changed: list[int]) -> list[_Group]:
    """The inputs, a changed one first, such that each is connected by a condition to an earlier one if possible.

    Beyond the planner's collapse limits the written order is the join order.
    """
    columns = [{column.name for column in child.columns} for child in op.inputs]
    quiet = [child for i, child in enumerate(op.inputs) if i not in changed] if len(changed) > 1 else []
    groups: list[_Group] = []
    left, seen = list(range(len(op.inputs))), frozenset[str]()
    while left:
        connected = [i for i in left if _connects(op.conditions, seen, columns[i])]
        # Changed inputs first (one begins): what follows the last of them is joined in one go.
        position = min(connected or left, key=lambda i: i not in changed)
        child = op.inputs[position]
        taken = _restricting(child, quiet, op.conditions) if position in changed else []
        quiet = [one for one in quiet if one is not child and not _has(taken, one)]
        left = [i for i in left if i != position and not _has(taken, op.inputs[i])]
        seen = seen.union(columns[position], *({column.name for column in one.columns} for one in taken))
        groups.append(_Group(position, child, tuple(_narrowed(one, op.conditions) for one in taken)))
    return groups


def _restricting(child: Operator, others: list[Operator], conditions: tuple[Expr, ...]) -> list[Operator]:
    """Of these inputs those with a condition of their own, and what leads to them; of none more than one row is met."""
    paths: list[tuple[Operator, ...]] = [(child,)]
    taken: list[Operator] = []
    for path in paths:
        for other in others:
            if not any(other is known[-1] for known in paths) and _meets_one(path[-1], other, conditions):
                paths.append((*path, other))
                if _is_filtered(_narrowed(other, conditions)):
                    taken += [step for step in paths[-1][1:] if not _has(taken, step)]
    return taken


def _has(inputs: list[Operator], one: Operator) -> bool:
    return any(one is other for other in inputs)


def _meets_one(one: Operator, other: Operator, conditions: tuple[Expr, ...]) -> bool:
    """Whether a row of the one meets at most one row of the other, by equalities."""
    mine, key = {column.name for column in one.columns}, derive_key(other)
    met = {
        b.column
        for condition in conditions
        if condition.equality is not None
        for a, b in (condition.equality, condition.equality[::-1])
        if a.refs and a.refs <= mine
    }
    return bool(key) and key <= met


def _narrowed(op: Operator, conditions: tuple[Expr, ...]) -> Operator:
    """The same without rows that meet no branch of an OR that stands above the join of several inputs."""
    columns = {column.name for column in op.columns}
    implied = (condition.implied(columns) for condition in conditions if not condition.refs <= columns)
    known = tuple(condition for condition in implied if condition is not None)
    return Filter(op, known) if known else op


def _is_filtered(op: Operator) -> bool:
    while isinstance(op, Project):
        op = op.child
    return isinstance(op, Filter | Anti)


def _connects(conditions: tuple[Expr, ...], seen: frozenset[str], columns: set[str]) -> bool:
    return any(c.refs & seen and c.refs & columns and c.refs <= seen | columns for c in conditions)


def _are_connected(inputs: tuple[Operator, ...], conditions: tuple[Expr, ...]) -> bool:
    columns = [{column.name for column in child.columns} for child in inputs]
    seen = frozenset(columns.pop(0))
    while columns:
        found = next((mine for mine in columns if _connects(conditions, seen, mine)), None)
        if found is None:
            return False
        columns.remove(found)
        seen |= found
    return True


def _ordered(op: Operator, columns: tuple[Column, ...]) -> Operator:
    if tuple(c.name for c in op.columns) == tuple(c.name for c in columns):
        return op
    return Project(op, columns, tuple(col(column.name) for column in columns))
