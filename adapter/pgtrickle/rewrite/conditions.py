"""What the planner has to know the distribution of."""

from __future__ import annotations

from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Attach,
    Filter,
    Join,
    Operator,
    OuterJoin,
    Project,
    Window,
    children_of,
)


def conditional_columns(op: Operator) -> frozenset[str]:
    """The columns by which rows are joined, filtered and grouped, under the names they have there and further down."""
    read: set[str] = set()
    shown: dict[str, frozenset[str]] = {}
    stack: list[Operator] = [op]
    while stack:
        node = stack.pop()
        if isinstance(node, Filter | Join | OuterJoin | Anti | Attach):
            read.update(*(condition.refs for condition in node.conditions))
        if isinstance(node, Aggregate | Window):
            read.update(node.keys)
        if isinstance(node, Attach):
            read.update(*node.pairs)
        if isinstance(node, Project):
            pairs = zip(node.columns, node.exprs, strict=True)
            shown.update({column.name: expr.refs for column, expr in pairs})
        stack.extend(children_of(node))
    found: set[str] = set()
    while read:
        name = read.pop()
        found.add(name)
        read |= shown.get(name, frozenset()) - found
    return frozenset(found)
