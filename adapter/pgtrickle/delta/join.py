"""Delta rule for inner joins of any number of inputs."""

from __future__ import annotations

from pgtrickle.delta.differentiate import Differentiation
from pgtrickle.ir.expr import Expr, col
from pgtrickle.ir.operators import Empty, Join, Negate, Operator, Project, UnionAll
from pgtrickle.ir.schema import Column


def delta_join(op: Join, d: Differentiation) -> Operator:
    """Δ(L ⋈ R) = ΔL ⋈ R + L ⋈ ΔR − ΔL ⋈ ΔR, with R and L as they are now.

    The inputs are taken one after the other in the order of their connections, so an n-way join has at most 3n
    terms, not 2^n, and no step is a cross product unless the query is one.
    """
    deltas = [d.delta(child) for child in op.inputs]
    changed = [i for i, delta in enumerate(deltas) if not isinstance(delta, Empty)]
    if not changed:
        return Empty(op.columns)
    order = _connected_order(op, changed)
    last = max(order.index(i) for i in changed)
    prefix = _Prefix((op.inputs[order[0]],), deltas[order[0]], ())
    for i in order[1 : last + 1]:
        prefix = _step(prefix, op.inputs[i], _of(deltas, i), op.conditions, d)
    rest = tuple(op.inputs[i] for i in order[last + 1 :])
    left = tuple(c for c in op.conditions if c not in prefix.used)
    return _ordered(Join((prefix.delta, *rest), left) if rest else prefix.delta, op.columns)


class _Prefix:
    """The join of the inputs taken so far, of which the first has changed: its inputs now, its delta, the conditions
    used."""

    __slots__ = ("delta", "inputs", "used")

    def __init__(self, inputs: tuple[Operator, ...], delta: Operator, used: tuple[Expr, ...]) -> None:
        self.inputs = inputs
        self.delta = delta
        self.used = used

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for child in self.inputs for column in child.columns)


def _step(
    prefix: _Prefix, child: Operator, delta: Operator | None, conditions: tuple[Expr, ...], d: Differentiation
) -> _Prefix:
    columns = prefix.columns + child.columns
    known = {column.name for column in columns}
    usable = tuple(c for c in conditions if c.refs <= known)
    new = tuple(c for c in usable if c not in prefix.used)
    total: Operator = Join((prefix.delta, child), new)
    if delta is not None:
        came = _ordered(Join((delta, *prefix.inputs), usable), columns)
        total = d.bounded(UnionAll((total, came, Negate(Join((prefix.delta, delta), new))), columns))
    return _Prefix((*prefix.inputs, child), total, usable)


def _connected_order(op: Join, changed: list[int]) -> list[int]:
    """Input positions, a changed one first, such that each is connected by a condition to an earlier one if possible.

    Beyond the planner's collapse limits the written order is the join order.
    """
    columns = [{column.name for column in child.columns} for child in op.inputs]
    order: list[int] = []
    while len(order) < len(op.inputs):
        seen = frozenset[str]().union(*(columns[i] for i in order))
        left = [i for i in range(len(op.inputs)) if i not in order]
        connected = [i for i in left if _connects(op.conditions, seen, columns[i])]
        # Changed inputs first (one begins): what follows the last of them is joined in one go.
        order.append(min(connected or left, key=lambda i: i not in changed))
    return order


def _connects(conditions: tuple[Expr, ...], seen: frozenset[str], columns: set[str]) -> bool:
    return any(c.refs & seen and c.refs & columns and c.refs <= seen | columns for c in conditions)


def _of(deltas: list[Operator], i: int) -> Operator | None:
    return None if isinstance(deltas[i], Empty) else deltas[i]


def _ordered(op: Operator, columns: tuple[Column, ...]) -> Operator:
    if tuple(c.name for c in op.columns) == tuple(c.name for c in columns):
        return op
    return Project(op, columns, tuple(col(column.name) for column in columns))
