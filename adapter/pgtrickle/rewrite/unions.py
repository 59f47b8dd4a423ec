"""A union of unions is one union; duplicates that are removed outside need not be removed inside."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pgtrickle.ir.operators import Aggregate, Operator, UnionAll, rebuild
from pgtrickle.rewrite.uses import uses_of


def unions(root: Operator) -> Operator:
    """The same rows with fewer unions and groupings; types have to be known. Shared nodes stay shared.

    ``(a UNION b) UNION c`` is one grouping over three branches: which of equal rows the inner UNION keeps decides
    nothing, because the outer one may keep any of them. What several operators read is left alone: it is kept once.
    """
    return _Flattening(uses_of(root)).of(root)


class _Flattening:
    def __init__(self, uses: Counter[int]) -> None:
        self._uses = uses
        self._done: dict[int, tuple[Operator, Operator]] = {}

    def of(self, op: Operator) -> Operator:
        if id(op) not in self._done:
            self._done[id(op)] = (op, self._new(op))
        return self._done[id(op)][1]

    def _new(self, op: Operator) -> Operator:
        if isinstance(op, Aggregate) and removes_duplicates(op) and isinstance(op.child, UnionAll):
            return replace(op, child=self._union(op.child, distinct=True))
        if isinstance(op, UnionAll):
            return self._union(op, distinct=False)
        return rebuild(op, self.of)

    def _union(self, op: UnionAll, *, distinct: bool) -> UnionAll:
        return replace(op, children=tuple(row for child in op.children for row in self._branches(child, op, distinct)))

    def _branches(self, child: Operator, above: UnionAll, distinct: bool) -> tuple[Operator, ...]:
        """The branches that stand for one branch: its own, if it is a union of the same types."""
        if self._uses[id(child)] > 1 or not _same_types(child, above):
            return (self.of(child),)
        if isinstance(child, UnionAll):
            return tuple(row for each in child.children for row in self._branches(each, above, distinct))
        if distinct and isinstance(child, Aggregate) and removes_duplicates(child):
            return self._branches(child.child, above, distinct)
        return (self.of(child),)


def removes_duplicates(op: Aggregate) -> bool:
    """Whether it is a grouping by all columns of its child, in their order, and nothing else: a DISTINCT."""
    return not op.calls and not op.scalar and op.keys == tuple(column.name for column in op.child.columns)


def _same_types(left: Operator, right: Operator) -> bool:
    """Unlike types would be converted in another order."""
    return [column.type for column in left.columns] == [column.type for column in right.columns]
