"""Move conditions of an inner join that concern one input only below the join."""

from __future__ import annotations

from pgtrickle.ir.expr import Expr
from pgtrickle.ir.operators import Filter, Join, Operator, rebuild


def push(op: Operator) -> Operator:
    """The same rows, with filters as early as inner joins allow. The delta of each input is then filtered first."""
    pushed = rebuild(op, push)
    return _join(pushed) if isinstance(pushed, Join) else pushed


def _join(op: Join) -> Join:
    inputs = list(op.inputs)
    kept: list[Expr] = []
    for condition in op.conditions:
        owner = _owner(inputs, condition)
        if owner is None:
            kept.append(condition)
        else:
            inputs[owner] = _filtered(inputs[owner], condition)
    return Join(tuple(inputs), tuple(kept))


def _owner(inputs: list[Operator], condition: Expr) -> int | None:
    refs = condition.refs
    for position, child in enumerate(inputs):
        if refs and refs <= {column.name for column in child.columns}:
            return position
    return None


def _filtered(child: Operator, condition: Expr) -> Filter:
    if isinstance(child, Filter):
        return Filter(child.child, (*child.conditions, condition))
    return Filter(child, (condition,))
