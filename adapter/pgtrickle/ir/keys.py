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
    if not key <= shown.keys():
        key = _stand_ins(key, frozenset(shown), op.child)
    return None if key is None else frozenset(shown[name] for name in key)


def _stand_ins(key: Key, shown: frozenset[str], op: Operator) -> Key | None:
    """The key with columns that are not shown replaced by shown ones that always have the same value."""
    found: set[str] = set()
    for name in key:
        candidates = {name} if name in shown else _equal_to(name, op) & shown
        if not candidates:
            return None
        found.add(min(candidates))
    return frozenset(found)


def _equal_to(name: str, op: Operator) -> set[str]:
    """The columns that equal this one in every row, by conditions that every row meets."""
    conditions: list[Expr] = []
    while isinstance(op, Filter | Join):
        conditions += op.conditions
        if isinstance(op, Join):
            break
        op = op.child
    types = {column.name: column.type for column in op.columns}
    reached, left = {name}, [name]
    while left:
        current = left.pop()
        for condition in conditions:
            for mine, theirs in _column_pairs(condition):
                if mine == current and theirs not in reached and types[mine] == types[theirs]:
                    reached.add(theirs)
                    left.append(theirs)
    return reached


def _column_pairs(condition: Expr) -> tuple[tuple[str, str], ...]:
    if condition.sides is None or condition.sides[0].column is None or condition.sides[1].column is None:
        return ()
    left, right = condition.sides[0].column, condition.sides[1].column
    return (left, right), (right, left)


def _join(op: Join) -> Key | None:
    """All inputs' keys together, without those of inputs that the others determine through equalities."""
    remaining = list(op.inputs)
    for child in reversed(op.inputs):
        others = [other for other in remaining if other is not child]
        if others and _determined(child, others, op.conditions):
            remaining = others
    found, before = frozenset[str](), list[Operator]()
    for child in remaining:
        key = derive_key(child)
        if key is None:
            return None
        found |= key - _fixed(before, op.conditions)
        before.append(child)
    return found


def _outer(op: OuterJoin) -> Key | None:
    left, right = derive_key(op.left), derive_key(op.right)
    if op.kind is OuterKind.LEFT and _determined(op.right, [op.left], op.conditions):
        return left
    if left is None or right is None:
        return None
    if op.kind is OuterKind.FULL and not (_never_null(op.left, left) or _never_null(op.right, right)):
        return None  # a row without partner on the left and one on the right could both have NULL in all of it
    if op.kind is OuterKind.LEFT:
        return left | (right - _fixed([op.left], op.conditions))  # a row without partner is the only one of its left
    return left | right


def _never_null(op: Operator, key: Key) -> bool:
    return any(column.name in key and not column.nullable for column in op.columns)


def _determined(child: Operator, others: list[Operator], conditions: tuple[Expr, ...]) -> bool:
    """Whether a row of the others meets at most one row of the child."""
    key = derive_key(child)
    return key is not None and key <= _fixed(others, conditions)


def _fixed(others: list[Operator], conditions: tuple[Expr, ...]) -> set[str]:
    """The columns elsewhere that are told by a row of the others, because a condition equates them."""
    outside = {column.name for other in others for column in other.columns}
    fixed = set[str]()
    for condition in conditions:
        if condition.sides is None:
            continue
        for mine, theirs in (condition.sides, condition.sides[::-1]):
            if mine.column and theirs.refs <= outside:
                fixed.add(mine.column)
    return fixed
