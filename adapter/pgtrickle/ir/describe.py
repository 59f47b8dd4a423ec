"""Operator trees as text, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pgtrickle.ir.expr import Expr
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Apply,
    Change,
    Expand,
    Filter,
    InputKey,
    Join,
    Lookup,
    Named,
    Opaque,
    Operator,
    OuterJoin,
    Pick,
    Project,
    Recursion,
    Restrict,
    Scan,
    SelfReference,
    Weigh,
    Window,
    children_of,
)

#: Longer expressions are cut; the delta SQL has them whole.
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Node:
    """An operator of a tree in words.

    Attributes:
        number: position in the tree, from 0, parents first; the same wherever a shared operator occurs.
        operator: the operator itself.
        title: what it is: ``LeftJoin``, ``Scan public.orders (id, amount)``.
        details: conditions, keys, expressions; may be empty.
        children: numbers of the operators below.
    """

    number: int
    operator: Operator
    title: str
    details: str
    children: tuple[int, ...]


def nodes_of(op: Operator, name_of: Callable[[InputKey], str]) -> tuple[Node, ...]:
    """Every operator of a tree once, parents first, by number.

    Args:
        op: the tree.
        name_of: the name of what a scan reads.
    """
    numbers: dict[int, int] = {}
    order: list[Operator] = []
    stack = [op]
    while stack:
        node = stack.pop()
        if id(node) not in numbers:
            numbers[id(node)] = len(order)
            order.append(node)
            stack.extend(reversed(_shown_children(node)))
    return tuple(
        Node(number, node, title(node, name_of), details(node), tuple(numbers[id(c)] for c in _shown_children(node)))
        for number, node in enumerate(order)
    )


def tree_lines(nodes: tuple[Node, ...], note: Callable[[Node], str] = lambda _: "") -> list[str]:
    """One operator per line, children indented; what occurs again is only named again, with its number.

    Args:
        nodes: of `nodes_of`.
        note: what to add to a line.
    """
    uses = [child for node in nodes for child in node.children]
    shared = {number for number in set(uses) if uses.count(number) > 1}
    return list(_lines(nodes, 0, 0, shared, set(), note))


def _lines(
    nodes: tuple[Node, ...], number: int, depth: int, shared: set[int], seen: set[int], note: Callable[[Node], str]
) -> Iterator[str]:
    node = nodes[number]
    label = f"#{number}" if number in shared else ""
    if number in seen:
        yield "  " * depth + f"{label} again ({node.title.split(' ')[0]})"
        return
    seen.add(number)
    yield "  " * depth + " ".join(filter(None, (label, node.title, node.details, note(node))))
    for child in node.children:
        yield from _lines(nodes, child, depth + 1, shared, seen, note)


def _shown_children(op: Operator) -> tuple[Operator, ...]:
    """A change names its source itself."""
    return () if isinstance(op, Change) else children_of(op)


def _only(scan: Scan) -> str:
    return "ONLY " if scan.only else ""


def title(op: Operator, name_of: Callable[[InputKey], str]) -> str:
    """What an operator is, with the name of what it reads."""
    match op:
        case Scan():
            return f"Scan {_only(op)}{name_of(op.input)} ({', '.join(name for _, name in op.attributes)})"
        case Change():
            return f"Change of {_only(op.scan)}{name_of(op.scan.input)}"
        case OuterJoin():
            return f"{op.kind.value.title()}Join"
        case Anti():
            return "SemiJoin" if op.semi else "AntiJoin"
        case Named():
            return f"Named {op.name}"
        case Recursion():
            return f"Recursion {op.name} ({'UNION' if op.distinct else 'UNION ALL'})"
        case SelfReference():
            return f"SelfReference {op.name}"
        case _:
            return type(op).__name__


def details(op: Operator) -> str:
    """Conditions, keys and expressions of an operator."""
    describe = _DETAILS.get(type(op))
    return " ".join(filter(None, describe(op))) if describe else ""


def _project(op: Project) -> tuple[str]:
    computed = zip(op.columns, op.exprs, strict=True)
    return (_listed("", (c.name if e.column else f"{c.name} = {show(e)}" for c, e in computed)),)


def _calls(op: Aggregate | Window | Apply | Lookup) -> str:
    return _listed("of", (show(call.expr) for call in op.calls))


def _on(op: Join | OuterJoin | Anti | Lookup) -> str:
    return _listed("on", map(show, op.conditions))


#: Operator -> what is worth telling of it.
_DETAILS: Mapping[type, Callable[[Any], tuple[str, ...]]] = {
    Filter: lambda op: (_listed("where", map(show, op.conditions)),),
    Join: lambda op: (_on(op),),
    OuterJoin: lambda op: (_on(op),),
    Anti: lambda op: (_on(op),),
    Project: _project,
    Aggregate: lambda op: (_listed("by", op.keys), _calls(op)),
    Window: lambda op: (_listed("partitioned by", op.keys), _calls(op)),
    Pick: lambda op: (f"first {show(op.limit)}", _listed("ordered by", map(show, op.items))),
    Apply: lambda op: (_calls(op),),
    Lookup: lambda op: (_calls(op), _on(op)),
    Expand: lambda op: (show(op.query),),
    Weigh: lambda op: (f"by {show(op.weight)}",),
    Opaque: lambda _: ("the query as it stands",),
    Restrict: lambda op: (_listed("to", op.key),),
}


def _listed(word: str, parts: Iterable[str]) -> str:
    text = ", ".join(parts)
    return f"{word} {text}".strip() if text else ""


def show(expr: Expr) -> str:
    """An expression with column names in its holes, shortened."""
    text = " ".join("".join(part if isinstance(part, str) else part.name for part in expr.parts).split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
