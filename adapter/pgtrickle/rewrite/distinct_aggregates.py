"""Aggregates of DISTINCT values become aggregates over a grouping of these values, which both can be kept by state.

``count(DISTINCT x), sum(y)`` by ``k`` is ``count(x), sum(y)`` by ``k`` over the distinct ``(k, x)`` and the rows
``(k, y)``, one after the other: what a row does not have is NULL, which aggregates pass over. Nothing has to be joined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pgtrickle.delta.aggregates import rule_for
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Keep, Operator, Project, UnionAll, rebuild
from pgtrickle.ir.schema import BOOL, Column, Equality


def distinct_aggregates(op: Operator, done: dict[int, tuple[Operator, Operator]] | None = None) -> Operator:
    """The same rows without DISTINCT in aggregates, where all aggregates of the grouping can be kept by state then.

    Args:
        op: a tree of which the types are known.
        done: what was rewritten already; shared nodes stay shared.
    """
    done = {} if done is None else done
    if id(op) not in done:
        below = rebuild(op, lambda child: distinct_aggregates(child, done))
        done[id(op)] = (op, _split(below) if isinstance(below, Aggregate) and _can_be_split(below) else below)
    return done[id(op)][1]


def _can_be_split(op: Aggregate) -> bool:
    if not any(call.distinct for call in op.calls):
        return False
    types = {column.name: column.type for column in op.child.columns}
    counted = [call.args[0].column for call in op.calls if call.distinct]
    if any(name is None or types[name].equality is not Equality.EXACT for name in (*op.keys, *counted)):
        return False
    plain = [replace(call, plain=call.plain or call.distinct) for call in op.calls]
    return all(rule_for(call, op.child.columns) is not None for call in plain)


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows that some aggregates of a grouping look at: the grouping's keys, and these columns."""

    rows: Operator
    columns: tuple[Column, ...]


def _split(op: Aggregate) -> Aggregate:
    keys = tuple(column for column in op.columns if column.name in op.keys)
    values: dict[tuple[Expr, Expr | None], Column] = {}
    for call in op.calls:
        if call.distinct:
            values.setdefault((call.args[0], call.filter), _value(call, op))
    parts = [_distinct(op, keys, expr, condition, column) for (expr, condition), column in values.items()]
    plain = [call for call in op.calls if not call.distinct]
    mark = Column(f"{plain[0].column.name}_row", BOOL) if plain else None
    if mark is not None:
        parts.insert(0, _every_row(op, keys, plain, mark))
    child = parts[0].rows if len(parts) == 1 else _one_after_the_other(keys, parts)
    calls = tuple(
        _over(call, values[call.args[0], call.filter]) if call.distinct else _marked(call, mark) for call in op.calls
    )
    return replace(op, child=child, calls=calls)


def _value(call: AggregateCall, op: Aggregate) -> Column:
    kind = next(column.type for column in op.child.columns if column.name == call.args[0].column)
    return Column(f"{call.column.name}_value", kind)


def _distinct(op: Aggregate, keys: tuple[Column, ...], expr: Expr, condition: Expr | None, value: Column) -> _Part:
    """The distinct values of each group. A group of which no row meets the condition keeps a NULL: no group is lost."""
    shown = expr if condition is None else text("CASE WHEN ", condition, " THEN ", expr, " END")
    rows = Project(op.child, (*keys, value), (*(col(key.name) for key in keys), shown))
    return _Part(Keep(Aggregate(rows, (*op.keys, value.name), ())), (value,))


def _every_row(op: Aggregate, keys: tuple[Column, ...], calls: list[AggregateCall], mark: Column) -> _Part:
    read = frozenset[str]().union(*(call.expr.refs for call in calls)) - set(op.keys)
    columns = tuple(column for column in op.child.columns if column.name in read)
    exprs = (*(col(column.name) for column in (*keys, *columns)), text("TRUE"))
    return _Part(Project(op.child, (*keys, *columns, mark), exprs), (*columns, mark))


def _one_after_the_other(keys: tuple[Column, ...], parts: list[_Part]) -> UnionAll:
    columns = tuple(replace(column, nullable=True) for part in parts for column in part.columns)
    branches = []
    for part in parts:
        own = {column.name for column in part.columns}
        exprs = [col(c.name) if c.name in own else text(f"NULL::{c.type.name}") for c in columns]
        branches.append(Project(part.rows, (*keys, *columns), (*(col(key.name) for key in keys), *exprs)))
    return UnionAll(tuple(branches), (*keys, *columns))


def _over(call: AggregateCall, value: Column) -> AggregateCall:
    arg = col(value.name)
    expr = text(f"pg_catalog.{call.function}(", arg, ")")
    return replace(call, expr=expr, args=(arg,), filter=None, plain=True, distinct=False)


def _marked(call: AggregateCall, mark: Column | None) -> AggregateCall:
    """The call over its own rows only."""
    if mark is None:
        return call
    condition = col(mark.name) if call.filter is None else text(col(mark.name), " AND (", call.filter, ")")
    args: list[str | Expr] = []
    for arg in call.args:
        args += [", ", arg] if args else [arg]
    expr = text(f"pg_catalog.{call.function}(", *(args or ["*"]), ") FILTER (WHERE ", condition, ")")
    return replace(call, expr=expr, filter=condition)
