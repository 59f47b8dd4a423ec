"""Differentiation: from an operator tree to the tree of its delta.

The theory is that of DBSP (Budiu et al., "DBSP: Automatic Incremental View Maintenance", VLDB 2023). All trees read
tables as they are *now*; the past is never rebuilt. Where a rule needs the old state it is written as new minus delta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgtrickle.errors import InternalError
from pgtrickle.ir.operators import Empty, InputKey, Operator


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

    def is_unchanged(self, op: Operator) -> bool:
        """Whether the operator's output cannot have changed."""
        return isinstance(self.delta(op), Empty)
