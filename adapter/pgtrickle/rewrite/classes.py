"""How strictly a column of a stream table equals that of its query (design: exact, representative, approximate)."""

from __future__ import annotations

import re
from enum import Enum

from pgtrickle.ir.expr import Expr
from pgtrickle.ir.operators import (
    Aggregate,
    AggregateCall,
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
    children_of,
)
from pgtrickle.ir.schema import Equality
from pgtrickle.plan import Plan


class ColumnClass(Enum):
    """What "the same value" means for a column."""

    EXACT = "exact"
    REPRESENTATIVE = "representative"
    APPROXIMATE = "approximate"
    ORDERED = "ordered"


_STRICTNESS = (ColumnClass.EXACT, ColumnClass.REPRESENTATIVE, ColumnClass.APPROXIMATE, ColumnClass.ORDERED)
#: Window functions that depend on the order of peers, which the query leaves free and nothing can fix.
_ORDERED = ("last_value(", "nth_value(", "array_agg(", "string_agg(", "json", "xmlagg(")
#: Frames of first_value that start or end at peers, or leave them out: which peer is meant stays open.
_OPEN_FRAME = re.compile(
    r"(?:RANGE|GROUPS) (?!(?:BETWEEN )?UNBOUNDED PRECEDING(?:\)| AND (?:CURRENT ROW|UNBOUNDED FOLLOWING)))"
    r"|EXCLUDE (?:GROUP|TIES)"
)
#: A function of the user's: nobody knows whether it tells peers apart.
_OF_A_USER = re.compile(r'(?!pg_catalog\.)(?:\w+|"(?:[^"]|"")*")\.(?:\w+|"(?:[^"]|"")*")\(')
_EXCLUDES_PEERS = re.compile(r"ROWS .*EXCLUDE (?:GROUP|TIES)")
_FLOATS = frozenset({700, 701})
_PICKS = frozenset({"min", "max", "any_value"})
#: Ordered-set aggregates show one of several equal values, or what lies between them.
_PLACES = ("percentile_disc(", "percentile_cont(", "mode(")


def column_classes(plan: Plan) -> tuple[ColumnClass, ...]:
    """The classes of the stream table's columns; a FULL plan is compared exactly."""
    operator = plan.root.operator
    return tuple(_of_column(operator, column.name, plan) for column in operator.columns)


def computes_floats(plan: Plan) -> bool:
    """Whether floating-point numbers are added up anywhere, also where no column shows them."""
    return any(_computes_floats(stage.operator) for stage in plan.stages)


def _computes_floats(op: Operator) -> bool:
    calls = op.calls if isinstance(op, Aggregate | Window | Apply) else ()
    if any(call.column.type.base_oid in _FLOATS for call in calls):
        return True
    return any(_computes_floats(child) for child in children_of(op))


def _of_column(op: Operator, name: str, plan: Plan) -> ColumnClass:
    match op:
        case Project():
            exprs = {column.name: expr for column, expr in zip(op.columns, op.exprs, strict=True)}
            return _of_expr(op.child, exprs[name], plan)
        case Aggregate():
            return _of_grouping(op, name, plan)
        case Window():
            call = next((call for call in op.calls if call.column.name == name), None)
            if call is None:
                return _of_column(op.child, name, plan)
            return _weakest((_of_window(call), _of_expr(op.child, call.expr, plan)))
        case UnionAll() | Recursion():
            return _weakest(_of_column(child, column, plan) for child, column in _sources(op, name))
        case Scan() if op.input.kind == "stage":
            stage = plan.stages[op.input.ident]
            numbers = {column.name: number for (number, _), column in zip(op.attributes, op.columns, strict=True)}
            return _of_column(stage.operator, stage.operator.columns[numbers[name] - 1].name, plan)
        case Apply() | Expand():
            if name in {column.name for column in op.child.columns}:
                return _of_column(op.child, name, plan)
            return ColumnClass.EXACT
        case Filter() | Join() | OuterJoin() | Anti() | Pad() | Pick():
            owner = next((c for c in children_of(op) if name in {column.name for column in c.columns}), None)
            return _of_column(owner, name, plan) if owner is not None else ColumnClass.EXACT
        case _:
            return ColumnClass.EXACT


def _sources(op: UnionAll | Recursion, name: str) -> tuple[tuple[Operator, str], ...]:
    """The columns that a column shows. In a recursion any may find its way into any other in some round."""
    if isinstance(op, Recursion):
        return tuple((term, column.name) for term in (op.base, op.step) for column in term.columns)
    position = [column.name for column in op.columns].index(name)
    return tuple((child, child.columns[position].name) for child in op.children)


def _of_expr(child: Operator, expr: Expr, plan: Plan) -> ColumnClass:
    return _weakest(_of_column(child, ref, plan) for ref in sorted(expr.refs))


def _of_grouping(op: Aggregate, name: str, plan: Plan) -> ColumnClass:
    if name in op.keys:
        column = next(column for column in op.columns if column.name == name)
        own = ColumnClass.EXACT if column.type.equality is Equality.EXACT else ColumnClass.REPRESENTATIVE
        return _weakest((own, _of_column(op.child, name, plan)))
    call = next(call for call in op.calls if call.column.name == name)
    return _weakest((_of_call(call), _of_expr(op.child, call.expr, plan)))


def _of_call(call: AggregateCall) -> ColumnClass:
    kind = call.column.type
    first = call.expr.parts[0] if call.expr.parts else ""
    if call.function in _PICKS or (isinstance(first, str) and first.startswith(_PLACES)):
        return ColumnClass.EXACT if kind.equality is Equality.EXACT else ColumnClass.REPRESENTATIVE
    if kind.base_oid in _FLOATS:
        return ColumnClass.APPROXIMATE
    return ColumnClass.EXACT


def _of_window(call: AggregateCall) -> ColumnClass:
    first = call.expr.parts[0] if call.expr.parts else ""
    words = " ".join(part for part in call.expr.parts if isinstance(part, str))
    if _EXCLUDES_PEERS.search(words) or (words.startswith("first_value(") and _OPEN_FRAME.search(words)):
        return ColumnClass.ORDERED
    if isinstance(first, str) and (first.startswith(_ORDERED) or _OF_A_USER.match(first)):
        return ColumnClass.ORDERED
    return _of_call(call)


def _weakest(classes: object) -> ColumnClass:
    found = list(classes)  # type: ignore[call-overload]
    return max(found, key=_STRICTNESS.index, default=ColumnClass.EXACT)
