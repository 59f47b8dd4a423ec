"""Operator trees as text, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pgtrickle.ir.expr import Expr
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Apply,
    Expand,
    Filter,
    InputKey,
    Join,
    Operator,
    OuterJoin,
    Project,
    Scan,
    Window,
    children_of,
)

#: Longer expressions are cut; the delta SQL has them whole.
_WIDTH = 80


def describe_tree(op: Operator, name_of: Callable[[InputKey], str], depth: int = 0) -> list[str]:
    """One operator per line, children indented.

    Args:
        op: the tree.
        name_of: the name of what a scan reads.
        depth: indentation of the first line.
    """
    line = "  " * depth + " ".join(filter(None, (_title(op, name_of), _details(op))))
    return [line, *(one for child in children_of(op) for one in describe_tree(child, name_of, depth + 1))]


def _title(op: Operator, name_of: Callable[[InputKey], str]) -> str:
    match op:
        case Scan():
            return f"Scan {name_of(op.input)} ({', '.join(name for _, name in op.attributes)})"
        case OuterJoin():
            return f"{op.kind.value.title()}Join"
        case Anti():
            return "SemiJoin" if op.semi else "AntiJoin"
        case _:
            return type(op).__name__


def _details(op: Operator) -> str:
    match op:
        case Filter() | Join() | OuterJoin() | Anti():
            return _listed("on" if not isinstance(op, Filter) else "where", map(show, op.conditions))
        case Project():
            computed = zip(op.columns, op.exprs, strict=True)
            return _listed("", (c.name if e.column else f"{c.name} = {show(e)}" for c, e in computed))
        case Aggregate():
            return " ".join((_listed("by", op.keys), _listed("of", (show(call.expr) for call in op.calls)))).strip()
        case Window():
            calls = (show(call.expr) for call in op.calls)
            return " ".join((_listed("partitioned by", op.keys), _listed("of", calls))).strip()
        case Apply():
            return _listed("of", (show(call.expr) for call in op.calls))
        case Expand():
            return show(op.query)
        case _:
            return ""


def _listed(word: str, parts: Iterable[str]) -> str:
    text = ", ".join(parts)
    return f"{word} {text}".strip() if text else ""


def show(expr: Expr) -> str:
    """An expression with column names in its holes, shortened."""
    text = " ".join("".join(part if isinstance(part, str) else part.name for part in expr.parts).split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
