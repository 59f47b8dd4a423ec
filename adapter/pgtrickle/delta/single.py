"""Delta rule for rows that are compared with a single row: the value of a subquery that reads no outer column.

``WHERE x > (SELECT avg(x) ...)`` joins every row with one that changes in nearly every refresh. Taken apart into the
old value that goes and the new one that comes, all rows that meet either would come and go again, and be looked up on
the way. Only those change that meet one and not the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pgtrickle.delta.differentiate import Differentiation
from pgtrickle.delta.linear import delta_unary
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.keys import derive_key
from pgtrickle.ir.operators import (
    Empty,
    Expose,
    Filter,
    Join,
    Operator,
    OuterJoin,
    OuterKind,
    Project,
    Scan,
    UnionAll,
    Weigh,
)
from pgtrickle.ir.schema import BOOL, INT8, Column


@dataclass(frozen=True, slots=True)
class Compared:
    """A join taken apart.

    Attributes:
        exprs: what is shown, over ``rows``.
        rows: all inputs but one, joined, with the columns that are read above or compared.
        one: an input with at most one row, of which nothing is read but by the conditions.
        conditions: those of the join that read it; none is an equality.
    """

    exprs: tuple[Expr, ...]
    rows: Project
    one: Operator
    conditions: tuple[Expr, ...]


def compared(op: Project) -> Compared | None:
    """The first input of the join below that is only compared with; None if there is none.

    By an equality the rows that meet it are found as in any join.
    """
    join = _below(op)
    # Asked before anything is written over the join's columns, which takes long where the tree is deep.
    if not isinstance(join, Join) or len(join.inputs) == 1 or not any(map(_is_single, join.inputs)):
        return None
    exprs, above = _over_the_join(op)
    shown = frozenset[str]().union(*(expr.refs for expr in exprs))
    conditions = (*join.conditions, *above)
    for one in join.inputs:
        mine = {column.name for column in one.columns}
        linking = tuple(condition for condition in conditions if condition.refs & mine)
        if shown & mine or not _is_single(one) or any(condition.sides for condition in linking):
            continue
        others = tuple(child for child in join.inputs if child is not one)
        rest = tuple(condition for condition in conditions if not condition.refs & mine)
        read = shown.union(*(condition.refs for condition in linking))
        return Compared(exprs, _joined(others, rest, read), one, linking)
    return None


def _below(op: Operator) -> Operator:
    while isinstance(op, Filter | Project):
        op = op.child
    return op


def _over_the_join(op: Project) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
    """What is shown, and the conditions above the join, over its columns."""
    below, exprs, above = op.child, op.exprs, tuple[Expr, ...]()
    while isinstance(below, Filter | Project):
        if isinstance(below, Filter):
            above += below.conditions
        else:
            given = {column.name: expr for column, expr in zip(below.columns, below.exprs, strict=True)}
            exprs, above = (tuple(expr.substitute(given) for expr in each) for each in (exprs, above))
        below = below.child
    return exprs, above


def _is_single(op: Operator) -> bool:
    """Whether it reads a stage that never has more than one row, so that its delta has at most one of either sign."""
    op = _below(op)
    return isinstance(op, Scan) and op.input.kind == "stage" and derive_key(op) == frozenset()


def _joined(inputs: tuple[Operator, ...], conditions: tuple[Expr, ...], read: frozenset[str]) -> Project:
    below = inputs[0] if len(inputs) == 1 else Join(inputs, conditions)
    if len(inputs) == 1 and conditions:
        below = Filter(below, conditions)
    columns = tuple(column for column in below.columns if column.name in read)
    return Project(below, columns, tuple(col(column.name) for column in columns))


def delta_project(op: Project, d: Differentiation) -> Operator:
    """Δπ(R) = π(ΔR); of rows only compared with one row, those that meet its old or new values, not both.

    Δ(L ⋉ S) = ΔL ⋈ S + (L − ΔL)·([meets S now] − [met S before]), for an S of at most one row.
    """
    found = compared(op) if d.mirror is None else None
    if found is None or d.is_unchanged(found.one):
        return delta_unary(op, d)
    pair = _Pair.of(found.one, d)
    now, before = pair.met(found.conditions)
    shown = found.rows.columns
    turned = Weigh(Join((found.rows, pair.rows), pair.turned(found.conditions)), _difference(now, before))
    terms: list[Operator] = [_only(turned, shown)]
    delta_rows = d.delta(found.rows)
    if not isinstance(delta_rows, Empty):
        weight = Column(d.fresh("weight"), INT8)
        back = text(col(weight.name), " * ", _difference(before, now))
        terms += [
            _only(Join((delta_rows, found.one), found.conditions), shown),
            _only(Weigh(Join((Expose(delta_rows, weight), pair.rows), ()), back), shown),
        ]
    return Project(UnionAll(tuple(terms), shown), op.columns, found.exprs)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The single row before and after, side by side in one row, if it has changed.

    Attributes:
        rows: that row.
        before, now: the names of the columns in it.
        had, has: the columns that are true where there is a row on that side.
    """

    rows: Operator
    before: Mapping[str, Expr]
    now: Mapping[str, Expr]
    had: str
    has: str

    @classmethod
    def of(cls, one: Operator, d: Differentiation) -> _Pair:
        weight = Column(d.fresh("weight"), INT8)
        exposed = Expose(d.delta(one), weight)

        def side(hint: str, sign: str) -> tuple[Operator, Mapping[str, Expr], str]:
            mine = tuple(replace(column, name=d.fresh(hint)) for column in one.columns)
            there = Column(d.fresh(hint), BOOL)
            chosen = Filter(exposed, (text(col(weight.name), f" {sign} 0"),))
            exprs = (*(col(column.name) for column in one.columns), text("TRUE"))
            names = {column.name: col(new.name) for column, new in zip(one.columns, mine, strict=True)}
            return Project(chosen, (*mine, there), exprs), names, there.name

        (old, before, had), (new, now, has) = side("old", "<"), side("new", ">")
        return cls(OuterJoin(OuterKind.FULL, old, new, ()), before, now, had, has)

    def met(self, conditions: tuple[Expr, ...]) -> tuple[Expr, Expr]:
        """Whether a row meets the new one, and whether it met the old one; never NULL."""
        now, before = self._sides(conditions)
        return text("((", now, ") IS TRUE)"), text("((", before, ") IS TRUE)")

    def turned(self, conditions: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """The conditions under which a row meets one of both: one that an index can serve, and the whole.

        That as a number that is 0, which the planner expects of few rows: few are between the old and the new one.
        """
        now, before = self.met(conditions)
        sides = self._sides(conditions)
        return text("(", sides[0], ") OR (", sides[1], ")"), text("(", now, " = ", before, ")::pg_catalog.int4 = 0")

    def _sides(self, conditions: tuple[Expr, ...]) -> tuple[Expr, Expr]:
        return _every(self.has, self.now, conditions), _every(self.had, self.before, conditions)


def _every(there: str, names: Mapping[str, Expr], conditions: tuple[Expr, ...]) -> Expr:
    """There is such a row, and all conditions are met."""
    every = text("(", col(there), ")")
    for condition in conditions:
        every = text(every, " AND (", condition.substitute(names), ")")
    return every


def _difference(one: Expr, other: Expr) -> Expr:
    """1 where only the one is true, -1 where only the other is."""
    return text("(", one, "::pg_catalog.int4 - ", other, "::pg_catalog.int4)")


def _only(op: Operator, columns: tuple[Column, ...]) -> Operator:
    return Project(op, columns, tuple(col(column.name) for column in columns))
