"""Where the step of a recursion reads the recursion."""

from __future__ import annotations

from pgtrickle.ir.operators import (
    Anti,
    Apply,
    Expand,
    Filter,
    Join,
    Operator,
    OuterJoin,
    OuterKind,
    Project,
    SelfReference,
    children_of,
)


def reads_itself(op: Operator, name: str) -> bool:
    """Whether an operator reads the recursion of this name."""
    if isinstance(op, SelfReference):
        return op.name == name
    return any(reads_itself(child, name) for child in children_of(op))


def path_of(op: Operator, name: str) -> Operator | None:
    """The operator directly below through which a linear step reads the recursion; None if there is not one alone.

    A step is linear if what it makes of some rows is what it makes of each, taken together. Joins, the preserved side
    of outer and anti joins, and what works row by row are.
    """
    candidates: tuple[Operator, ...]
    match op:
        case Project() | Filter() | Apply() | Expand():
            candidates = (op.child,)
        case Join():
            candidates = tuple(child for child in op.inputs if reads_itself(child, name))
        case OuterJoin(kind=OuterKind.LEFT) | Anti():
            candidates = () if reads_itself(op.right, name) else (op.left,)
        case _:
            candidates = ()
    return candidates[0] if len(candidates) == 1 and reads_itself(candidates[0], name) else None
