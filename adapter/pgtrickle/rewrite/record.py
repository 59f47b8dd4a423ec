"""What the rewrites did to a tree, told by comparing it with the stages that were made of it.

Comparing keeps the rewrites themselves free of book-keeping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pgtrickle.ir.describe import show
from pgtrickle.ir.expr import Expr
from pgtrickle.ir.operators import (
    Aggregate,
    Apply,
    Expand,
    Filter,
    GroupingSets,
    InputKey,
    Join,
    Operator,
    Project,
    Scan,
    UnionAll,
    children_of,
)
from pgtrickle.plan import Rewrite, Stage


def rewrites_between(before: Operator, flat: Operator, stages: tuple[Stage, ...]) -> tuple[Rewrite, ...]:
    """What became of a typed tree.

    Args:
        before: the tree of the whole query.
        flat: the same with its `unions` flattened.
        stages: the stages that it was cut into.
    """
    old = tuple(nodes_of(before))
    new = tuple(node for stage in stages for node in nodes_of(stage.operator))
    steps: tuple[Callable[[], Iterator[Rewrite]], ...] = (
        lambda: _unions(old, tuple(nodes_of(flat))),
        lambda: _grouping_sets(old),
        lambda: _distinct(old, new),
        lambda: _merged(new),
        lambda: _pushed(old, new),
        lambda: _pruned(old, new),
        lambda: _domains(stages),
        lambda: _cut(stages),
    )
    return tuple(rewrite for step in steps for rewrite in step())


def nodes_of(op: Operator) -> Iterator[Operator]:
    """Every node of a tree once, parents first."""
    seen: set[int] = set()
    stack = [op]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(reversed(children_of(node)))


def _unions(old: tuple[Operator, ...], flat: tuple[Operator, ...]) -> Iterator[Rewrite]:
    count, left = (len([node for node in nodes if isinstance(node, UnionAll)]) for nodes in (old, flat))
    if left < count:
        yield Rewrite("unions", f"{count} unions inside each other become {left}")


def _grouping_sets(old: tuple[Operator, ...]) -> Iterator[Rewrite]:
    for node in old:
        if isinstance(node, GroupingSets):
            yield Rewrite(
                "grouping sets", f"{len(node.sets)} grouping sets become a union of {len(node.sets)} groupings"
            )


def _distinct(old: tuple[Operator, ...], new: tuple[Operator, ...]) -> Iterator[Rewrite]:
    before, after = (
        [call for node in nodes if isinstance(node, Aggregate | GroupingSets) for call in node.calls if call.distinct]
        for nodes in (old, new)
    )
    kept = {call.expr for call in after}
    for expr in dict.fromkeys(call.expr for call in before):
        if expr not in kept:
            yield Rewrite("distinct aggregate", f"{show(expr)} is computed over a grouping by its argument")


def _merged(new: tuple[Operator, ...]) -> Iterator[Rewrite]:
    for node in new:
        if isinstance(node, Join) and len(node.inputs) > 2:
            yield Rewrite("join order", f"inner joins become one join of {len(node.inputs)} inputs, ordered per delta")


def _pushed(old: tuple[Operator, ...], new: tuple[Operator, ...]) -> Iterator[Rewrite]:
    filters = _conditions(new, Filter)
    moved = _conditions(old, Join).keys() & filters.keys() - _conditions(new, Join).keys()
    for condition in sorted(moved, key=lambda expr: str(expr.parts)):
        yield Rewrite("push", f"{show(condition)} is checked before the join")


def _conditions(nodes: tuple[Operator, ...], kind: type[Join | Filter]) -> dict[Expr, None]:
    return {condition: None for node in nodes if isinstance(node, kind) for condition in node.conditions}


def _pruned(old: tuple[Operator, ...], new: tuple[Operator, ...]) -> Iterator[Rewrite]:
    kept = _attributes(new)
    for key, (alias, names) in _attributes(old).items():
        left = names - (kept[key][1] if key in kept else frozenset())
        if left:
            yield Rewrite("prune", f"columns of {alias} that nobody reads are left out: {', '.join(sorted(left))}")


def _attributes(nodes: tuple[Operator, ...]) -> dict[InputKey, tuple[str, frozenset[str]]]:
    found: dict[InputKey, tuple[str, frozenset[str]]] = {}
    for node in nodes:
        if isinstance(node, Scan) and node.input.kind != "stage":
            alias, names = found.get(node.input, (node.alias, frozenset[str]()))
            found[node.input] = (alias, names | {name for _, name in node.attributes})
    return found


def _domains(stages: tuple[Stage, ...]) -> Iterator[Rewrite]:
    for stage in stages:
        node = stage.operator
        while isinstance(node, Project | Filter):
            node = node.child
        if isinstance(node, Apply | Expand) and node.keys:
            what = "subqueries" if isinstance(node, Apply) else "the lateral query"
            keys = ", ".join(node.keys)
            yield Rewrite(
                "domain", f"{what} of stage {stage.number}: once per distinct ({keys}), joined back to the rows"
            )


def _cut(stages: tuple[Stage, ...]) -> Iterator[Rewrite]:
    if len(stages) > 1:
        yield Rewrite(
            "stages", f"the query is cut into {len(stages)} stages; all but the last keep their rows in a table"
        )
