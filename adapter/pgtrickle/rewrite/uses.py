"""How many operators of a tree read each of its nodes."""

from __future__ import annotations

from collections import Counter

from pgtrickle.ir.operators import Operator, children_of


def uses_of(root: Operator) -> Counter[int]:
    """The number of users of every node, by its id; what is below a shared node is counted once."""
    uses: Counter[int] = Counter()
    waiting = [root]
    while waiting:
        op = waiting.pop()
        uses[id(op)] += 1
        if uses[id(op)] == 1:
            waiting.extend(children_of(op))
    return uses
