"""Delta rules: one per operator, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pgtrickle.delta.differentiate import Differentiation
from pgtrickle.delta.join import delta_join
from pgtrickle.delta.linear import (
    delta_apply,
    delta_expand,
    delta_pad,
    delta_scan,
    delta_unary,
    delta_union,
    delta_values,
)
from pgtrickle.delta.outer import delta_anti, delta_outer
from pgtrickle.delta.single import delta_project
from pgtrickle.ir.operators import (
    Anti,
    Apply,
    Expand,
    Filter,
    InputKey,
    Join,
    Operator,
    OuterJoin,
    Pad,
    Project,
    Scan,
    UnionAll,
    Values,
)

#: Grouping operators have no rule here: they stand on top of a stage, and `emit` compares their new rows with the
#: stored.
RULES: Mapping[type, Callable[[Any, Differentiation], Operator]] = {
    Scan: delta_scan,
    Values: delta_values,
    Filter: delta_unary,
    Project: delta_project,
    UnionAll: delta_union,
    Expand: delta_expand,
    Apply: delta_apply,
    Pad: delta_pad,
    Join: delta_join,
    OuterJoin: delta_outer,
    Anti: delta_anti,
}


class Fresh:
    """Names for columns that rules add; they only have to differ within one statement and from parsed names."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, hint: str) -> str:
        self._count += 1
        return f"__{hint}_d{self._count}"


def delta(op: Operator, changed: frozenset[InputKey]) -> Operator:
    """The tree of an operator's delta.

    Args:
        op: a tree of linear and bilinear operators.
        changed: the inputs with changes; the delta reads no other changes.

    Returns:
        A weighted relation with the operator's columns; `Empty` if nothing can have changed.
    """
    return Differentiation(changed, RULES, Fresh()).delta(op)
