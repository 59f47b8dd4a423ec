"""Rows attached by the values of a domain become joins, now that types are known."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.errors import InternalError, UnsupportedQuery
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.keys import derive_key
from pgtrickle.ir.operators import (
    Aggregate,
    AggregateCall,
    Attach,
    Join,
    Keep,
    Operator,
    OuterJoin,
    OuterKind,
    Pad,
    Project,
    Single,
    UnionAll,
    rebuild,
)
from pgtrickle.ir.schema import BOOL, Column, Equality
from pgtrickle.rewrite.equality import null_safe

#: The call that takes the value of the only row.
SINGLE_VALUE = "single_value"


def attach(op: Operator, done: dict[int, tuple[Operator, Operator]] | None = None) -> Operator:
    """The same rows without `Attach` and `Single`. Shared nodes stay shared.

    Raises:
        UnsupportedQuery: equal values of a domain may look different, or the value of a subquery is an array.
    """
    done = {} if done is None else done
    if id(op) not in done:
        below = rebuild(op, lambda child: attach(child, done))
        match below:
            case Attach():
                below = _joined(below)
            case Single():
                below = _single(below)
            case _:
                pass
        done[id(op)] = (op, below)
    return done[id(op)][1]


def _joined(op: Attach) -> Operator:
    by_name = {column.name: column for column in op.child.columns}
    for mine, _ in op.pairs:
        _require_exact(by_name[mine])
    order = {column.name: position for position, column in enumerate(op.rows.columns)}
    pairs = sorted(op.pairs, key=lambda pair: order[pair[1]])
    computed = _computed(op)
    if computed is None:
        conditions = null_safe(tuple((by_name[mine], theirs) for mine, theirs in pairs))
        return Join((op.child, op.rows), (*conditions, *op.conditions))
    groups, values = computed
    order = {column.name: position for position, column in enumerate(groups.columns)}
    keys = [(by_name[mine], values[theirs].column or "") for mine, theirs in pairs]
    conditions = null_safe(tuple(sorted(keys, key=lambda pair: order[pair[1]])))
    joined = Join((op.child, groups), (*conditions, *(condition.substitute(values) for condition in op.conditions)))
    exprs = (*(col(column.name) for column in op.child.columns), *(values[column.name] for column in op.rows.columns))
    return Project(joined, op.columns, exprs)


def _computed(op: Attach) -> tuple[Aggregate, dict[str, Expr]] | None:
    """The grouping that rows are computed from, and their expressions over it.

    They are computed above the join, for rows that are there: an error in the subquery of a row that the query has not
    is none.
    """
    rows = _merged(op.rows)
    if rows is None or not isinstance(rows.child, Aggregate):
        return None
    values = {column.name: expr for column, expr in zip(rows.columns, rows.exprs, strict=True)}
    taken = {column.name for column in op.child.columns}
    if any(values[theirs].column is None for _, theirs in op.pairs) or taken & {c.name for c in rows.child.columns}:
        return None
    return rows.child, values


def _require_exact(column: Column) -> None:
    if column.type.equality is not Equality.EXACT:
        raise UnsupportedQuery(
            f"a subquery reads an outer column of type {column.type.name}, of which equal values may look different",
            clause="correlated subquery",
            hint="Cast the column to a type of fixed form, or rewrite the subquery as a join.",
        )


def _single(op: Single) -> Operator:
    value = next(column for column in op.rows.columns if column.name == op.column)
    if op.domain is None:
        one = _call(value)
        alone = Aggregate(Keep(op.rows), (), (one,), scalar=True)
        return _shown(Join((op.child, alone), ()), op.columns, {op.column: one.column.name})
    looked_up = _looked_up(op)
    return looked_up if looked_up is not None else _collected(op, value)


def _call(value: Column, condition: Expr | None = None) -> AggregateCall:
    """The value of the only row; a subquery over the array of all values raises PostgreSQL's own error for more."""
    if value.type.category == "A" or value.type.oid == 0:
        raise UnsupportedQuery(
            f"a subquery has a value of type {value.type.name}, which cannot be collected",
            clause="subquery",
            hint="Rewrite the subquery as a join.",
        )
    seen = text(" FILTER (WHERE ", condition, ")") if condition is not None else text("")
    values = text("pg_catalog.array_agg(", col(value.name), ")", seen)
    only = text("(SELECT u.v FROM pg_catalog.unnest(", values, ") AS u (v))")
    return AggregateCall(Column(f"{value.name}_one", value.type, True), only, SINGLE_VALUE)


def _looked_up(op: Single) -> Operator | None:
    """An outer join in place of a domain, where the subquery finds at most one row by its own conditions."""
    rows = op.rows
    keys = frozenset(theirs for _, theirs, _ in op.triples)
    key = derive_key(rows)
    found = _over_join(rows)
    if key is None or not key <= keys or found is None or found[1].inputs[0] is not op.domain:
        return None
    project, join = found
    rest = join.inputs[1:]
    inside = {column.name for child in rest for column in child.columns}
    outer = {domain: col(mine) for mine, _, domain in op.triples}
    own = tuple(c for c in join.conditions if c.refs <= inside)
    linking = tuple(c.substitute(outer) for c in join.conditions if not c.refs <= inside)
    right: Operator = rest[0] if len(rest) == 1 and not own else Join(rest, own)
    exprs = {column.name: expr for column, expr in zip(project.columns, project.exprs, strict=True)}
    expr = exprs[op.column]
    value = next(column for column in project.columns if column.name == op.column)
    if expr.refs and expr.refs <= inside:
        shown = Project(right, (*right.columns, value), (*(col(c.name) for c in right.columns), expr))
        joined = OuterJoin(OuterKind.LEFT, op.child, shown, linking)
        return _shown(joined, op.columns, {})
    marker = replace(value, name=f"{value.name}_found")
    shown = Project(right, (*right.columns, marker), (*(col(c.name) for c in right.columns), text("TRUE")))
    joined = OuterJoin(OuterKind.LEFT, op.child, shown, linking)
    given = text("CASE WHEN ", col(marker.name), " THEN ", expr.substitute(outer), " END")
    columns = (*op.child.columns, replace(value, nullable=True))
    return Project(joined, columns, (*(col(c.name) for c in op.child.columns), given))


def _over_join(rows: Operator) -> tuple[Project, Join] | None:
    """The projection and the join that rows consist of, renamings put together."""
    merged = _merged(rows)
    return (merged, merged.child) if merged is not None and isinstance(merged.child, Join) else None


def _merged(rows: Operator) -> Project | None:
    """A chain of projections as one."""
    if not isinstance(rows, Project):
        return None
    while isinstance(rows.child, Project):
        inner = dict(zip((c.name for c in rows.child.columns), rows.child.exprs, strict=True))
        rows = Project(rows.child.child, rows.columns, tuple(expr.substitute(inner) for expr in rows.exprs))
    return rows


def _collected(op: Single, value: Column) -> Operator:
    """The values per combination of the domain, collected in an array to see that there is but one."""
    if op.domain is None:
        raise InternalError("a correlated subquery has a domain")
    by_name = {column.name: column for column in op.child.columns}
    for mine, _, _ in op.triples:
        _require_exact(by_name[mine])
    theirs = tuple(rows for _, rows, _ in op.triples)
    columns = (value, *(column for name in theirs for column in op.rows.columns if column.name == name))
    tag = Column(f"{value.name}_there", BOOL, False)
    there = Project(op.rows, (*columns, tag), (*(col(c.name) for c in columns), text("TRUE")))
    padded = Pad(op.domain, Project(op.rows, (value,), (col(value.name),)))
    domain = tuple(col(name) for _, _, name in op.triples)
    absent = Project(padded, (*columns, tag), (col(value.name), *domain, text("FALSE")))
    union = UnionAll((there, absent), (replace(value, nullable=True), *columns[1:], tag))
    call = _call(value, col(tag.name))
    grouped = Aggregate(union, theirs, (call,))
    pairs = tuple((mine, rows) for mine, rows, _ in op.triples)
    joined = _joined(Attach(op.child, grouped, pairs))
    return _shown(joined, op.columns, {op.column: call.column.name})


def _shown(op: Operator, columns: tuple[Column, ...], names: dict[str, str]) -> Project:
    return Project(op, columns, tuple(col(names.get(column.name, column.name)) for column in columns))
