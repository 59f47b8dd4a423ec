"""Differentiation: from an operator tree to the tree of its delta.

The theory is that of DBSP (Budiu et al., "DBSP: Automatic Incremental View Maintenance", VLDB 2023). All trees read
tables as they are *now*; the past is never rebuilt. Where a rule needs the old state it is written as new minus delta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from pgtrickle.errors import InternalError
from pgtrickle.ir.operators import Change, Consolidate, Empty, InputKey, Join, Operator, UnionAll, children_of

#: So many weighted rows for one changed row of each input are joined on as they are: three inputs, or four.
_MOST = 100


@dataclass(slots=True)
class Differentiation:
    """One differentiation: which inputs changed, and the deltas found so far (a shared node has one delta).

    Attributes:
        changed: inputs with changes in the window; all others contribute nothing.
        rules: rule by operator type.
        fresh: makes a column name that is new in the tree.
        mirror: the differentiation of what is subtracted, where that is another one; see `against`.
    """

    changed: frozenset[InputKey]
    rules: Mapping[type, Callable[[Any, Differentiation], Operator]]
    fresh: Callable[[str], str]
    mirror: Differentiation | None = field(default=None, repr=False)
    _known: dict[int, tuple[Operator, Operator]] = field(default_factory=dict)
    _spread: dict[int, tuple[Operator, int]] = field(default_factory=dict, repr=False)

    def delta(self, op: Operator) -> Operator:
        """The weighted rows by which this operator's output changes."""
        if id(op) not in self._known:
            rule = self.rules.get(type(op))
            if rule is None:
                raise InternalError(f"the operator {type(op).__name__} has no delta rule")
            # The node is kept beside its delta, so that its id stays its own.
            self._known[id(op)] = (op, rule(op, self))
        return self._known[id(op)][1]

    def against(self, op: Operator) -> Operator:
        """The delta of an operator of which fewer rows mean more rows above: the right side of an anti join."""
        return (self.mirror or self).delta(op)

    def bounded(self, op: Operator) -> Operator:
        """The same weighted rows, consolidated where one changed row of every input may have led to a great many.

        What is written as new minus delta has three rows for a changed one where one would do. Joined with another of
        that kind it has nine: without this, the rows grew with the power of the number of inputs that changed.
        """
        return Consolidate(op) if self._spread_of(op) > _MOST else op

    def _spread_of(self, op: Operator) -> int:
        """The number of weighted rows that one changed row in each of the inputs may lead to."""
        if id(op) not in self._spread:
            self._spread[id(op)] = (op, self._spread_new(op))
        return self._spread[id(op)][1]

    def _spread_new(self, op: Operator) -> int:
        if not op.weighted:
            return 1
        if isinstance(op, Change | Consolidate):
            return 2  # the row before and the row now
        below = [self._spread_of(child) for child in children_of(op)]
        if isinstance(op, Join):
            return prod(below)
        return sum(below) if isinstance(op, UnionAll) else max(below, default=1)

    def is_unchanged(self, op: Operator) -> bool:
        """Whether the operator's output cannot have changed."""
        return isinstance(self.delta(op), Empty)
