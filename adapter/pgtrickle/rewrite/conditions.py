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
    renamed: dict[str, str] = {}
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
            renamed.update({column.name: expr.column for column, expr in pairs if expr.column is not None})
        stack.extend(children_of(node))
    found = set(read)
    for name in read:
        while name in renamed and renamed[name] not in found:
            name = renamed[name]
            found.add(name)
    return frozenset(found)
