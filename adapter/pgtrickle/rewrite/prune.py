"""Drop columns that nobody reads, down to the scans."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.ir.expr import Expr, col
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Apply,
    Filter,
    Join,
    Operator,
    OuterJoin,
    Project,
    Scan,
    UnionAll,
    Window,
)


def prune(op: Operator, needed: frozenset[str]) -> Operator:
    """The same rows with only the needed columns (grouping keys always stay).

    Args:
        op: an operator tree without changes, as the parser makes it.
        needed: names of the columns that are read above.
    """
    match op:
        case Scan():
            return _scan(op, needed)
        case Filter():
            return replace(op, child=prune(op.child, needed | _refs(op.conditions)))
        case Project():
            return _project(op, needed)
        case Join():
            wanted = needed | _refs(op.conditions)
            return replace(op, inputs=tuple(prune(child, _own(child, wanted)) for child in op.inputs))
        case OuterJoin() | Anti():
            wanted = needed | _refs(op.conditions)
            left, right = prune(op.left, _own(op.left, wanted)), prune(op.right, _own(op.right, wanted))
            return replace(op, left=left, right=right)
        case UnionAll():
            return _union(op, needed)
        case Apply():
            calls = tuple(call for call in op.calls if call.column.name in needed)
            below = needed | _refs(tuple(call.expr for call in calls))
            child = prune(op.child, _own(op.child, below))
            return replace(op, child=child, calls=calls) if calls else child
        case Window():
            calls = tuple(call for call in op.calls if call.column.name in needed)
            below = needed | frozenset(op.keys) | _refs(tuple(call.expr for call in calls))
            return replace(op, child=prune(op.child, _own(op.child, below)), calls=calls)
        case Aggregate():
            calls = tuple(call for call in op.calls if call.column.name in needed)
            below = frozenset(op.keys) | _refs(tuple(call.expr for call in calls))
            return replace(op, child=prune(op.child, below), calls=calls)
        case _:
            return op


def _scan(op: Scan, needed: frozenset[str]) -> Scan:
    kept = [i for i, column in enumerate(op.columns) if column.name in needed]
    return replace(
        op,
        attributes=tuple(op.attributes[i] for i in kept),
        columns=tuple(op.columns[i] for i in kept),
        keys=tuple(key for key in op.keys if key <= needed),
    )


def _project(op: Project, needed: frozenset[str]) -> Project:
    kept = [i for i, column in enumerate(op.columns) if column.name in needed]
    exprs = tuple(op.exprs[i] for i in kept)
    return Project(prune(op.child, _refs(exprs)), tuple(op.columns[i] for i in kept), exprs)


def _union(op: UnionAll, needed: frozenset[str]) -> UnionAll:
    kept = [i for i, column in enumerate(op.columns) if column.name in needed]
    children = []
    for child in op.children:
        names = tuple(child.columns[i].name for i in kept)
        pruned = prune(child, frozenset(names))
        if tuple(column.name for column in pruned.columns) != names:
            # A grouping keeps all its keys: put its columns back in step with the other branches.
            by_name = {column.name: column for column in pruned.columns}
            pruned = Project(pruned, tuple(by_name[n] for n in names), tuple(col(n) for n in names))
        children.append(pruned)
    return UnionAll(tuple(children), tuple(op.columns[i] for i in kept))


def _own(child: Operator, wanted: frozenset[str]) -> frozenset[str]:
    return wanted & {column.name for column in child.columns}


def _refs(exprs: tuple[Expr, ...]) -> frozenset[str]:
    return frozenset[str]().union(*(expr.refs for expr in exprs))
