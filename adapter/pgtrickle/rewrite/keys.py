"""Which columns identify a row of an operator's output at any time."""

from __future__ import annotations

from pgtrickle.ir.expr import Expr
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Apply,
    Filter,
    Join,
    Operator,
    OuterJoin,
    OuterKind,
    Pick,
    Project,
    Recursion,
    Scan,
    Window,
)

Key = frozenset[str]


def derive_key(op: Operator) -> Key | None:
    """A set of columns that no two rows share (NULL counts as a value), or None if there may be duplicates.

    The empty set means: at most one row.
    """
    match op:
        case Scan():
            return op.keys[0] if op.keys else None
        case Filter() | Window() | Pick() | Apply():
            return derive_key(op.child)
        case Project():
            return _renamed(derive_key(op.child), op)
        case Aggregate():
            return frozenset(op.keys)
        case Recursion(distinct=True):
            return frozenset(column.name for column in op.columns)
        case Anti():
            return derive_key(op.left)
        case Join():
            return _join(op)
        case OuterJoin():
            return _outer(op)
        case _:
            return None


def _renamed(key: Key | None, op: Project) -> Key | None:
    if key is None:
        return None
    shown = {expr.column: column.name for expr, column in zip(op.exprs, op.columns, strict=True) if expr.column}
    return frozenset(shown[name] for name in key) if key <= shown.keys() else None


def _join(op: Join) -> Key | None:
    """All inputs' keys together, without those of inputs that the others determine through equalities."""
    remaining = list(op.inputs)
    for child in reversed(op.inputs):
        others = [other for other in remaining if other is not child]
        if others and _determined(child, others, op.conditions):
            remaining = others
    keys = [derive_key(child) for child in remaining]
    if any(key is None for key in keys):
        return None
    return frozenset[str]().union(*(key for key in keys if key is not None))


def _outer(op: OuterJoin) -> Key | None:
    left, right = derive_key(op.left), derive_key(op.right)
    if op.kind is OuterKind.LEFT and _determined(op.right, [op.left], op.conditions):
        return left
    if left is None or right is None:
        return None
    if op.kind is OuterKind.FULL and not (_never_null(op.left, left) or _never_null(op.right, right)):
        return None  # a row without partner on the left and one on the right could both have NULL in all of it
    return left | right


def _never_null(op: Operator, key: Key) -> bool:
    return any(column.name in key and not column.nullable for column in op.columns)


def _determined(child: Operator, others: list[Operator], conditions: tuple[Expr, ...]) -> bool:
    """Whether a row of the others meets at most one row of the child."""
    key = derive_key(child)
    if key is None:
        return False
    outside = {column.name for other in others for column in other.columns}
    fixed: set[str] = set()
    for condition in conditions:
        if condition.sides is None:
            continue
        for mine, theirs in (condition.sides, condition.sides[::-1]):
            if mine.column and theirs.refs <= outside:
                fixed.add(mine.column)
    return key <= fixed
