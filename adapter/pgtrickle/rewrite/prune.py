"""Drop columns that nobody reads, down to the scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pgtrickle.ir.expr import Expr, col
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Apply,
    Expand,
    Filter,
    Join,
    Operator,
    OuterJoin,
    Pad,
    Pick,
    Project,
    Recursion,
    Scan,
    UnionAll,
    Window,
    rebuild,
)


def prune(op: Operator, needed: frozenset[str]) -> Operator:
    """The same rows with only the needed columns (grouping keys always stay).

    Args:
        op: an operator tree without changes, as the parser makes it.
        needed: names of the columns that are read above.
    """
    rule = _RULES.get(type(op))
    return rule(op, needed) if rule is not None else op


def _conditions(op: Filter | Join | OuterJoin | Anti, needed: frozenset[str]) -> Operator:
    wanted = needed | _refs(op.conditions)
    return rebuild(op, lambda child: prune(child, _own(child, wanted)))


def _aggregate(op: Aggregate, needed: frozenset[str]) -> Operator:
    calls = tuple(call for call in op.calls if call.column.name in needed)
    below = frozenset(op.keys) | _refs(tuple(call.expr for call in calls))
    return replace(op, child=prune(op.child, below), calls=calls)


def _window(op: Window, needed: frozenset[str]) -> Operator:
    calls = tuple(call for call in op.calls if call.column.name in needed)
    below = needed | frozenset(op.keys) | _refs(tuple(call.expr for call in calls))
    return replace(op, child=prune(op.child, _own(op.child, below)), calls=calls)


def _pick(op: Pick, needed: frozenset[str]) -> Operator:
    return replace(op, child=prune(op.child, _own(op.child, needed | _refs(op.items))))


def _apply(op: Apply, needed: frozenset[str]) -> Operator:
    calls = tuple(call for call in op.calls if call.column.name in needed)
    below = needed | _refs(tuple(call.expr for call in calls))
    child = prune(op.child, _own(op.child, below))
    return replace(op, child=child, calls=calls) if calls else child


def _expand(op: Expand, needed: frozenset[str]) -> Operator:
    return replace(op, child=prune(op.child, _own(op.child, needed | op.query.refs)))


def _pad(op: Pad, needed: frozenset[str]) -> Operator:
    child, lent = prune(op.child, _own(op.child, needed)), _own(op.other, needed)
    return Pad(child, prune(op.other, lent)) if lent else child


def _recursion(op: Recursion, needed: frozenset[str]) -> Operator:
    """All columns stay: the next round reads them."""
    return rebuild(op, lambda term: prune(term, frozenset(column.name for column in term.columns)))


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


_RULES: Mapping[type, Callable[[Any, frozenset[str]], Operator]] = {
    Scan: _scan,
    Project: _project,
    Filter: _conditions,
    Join: _conditions,
    OuterJoin: _conditions,
    Anti: _conditions,
    UnionAll: _union,
    Aggregate: _aggregate,
    Window: _window,
    Pick: _pick,
    Apply: _apply,
    Expand: _expand,
    Pad: _pad,
    Recursion: _recursion,
}
