"""Give every computed column its type, by asking the server what the printed operator returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from psycopg import errors, generators, pq
from psycopg.pq.abc import PGresult
from psycopg.sql import Composable

from pgtrickle.analyze.equality import Equalities
from pgtrickle.analyze.types import TypeLoader
from pgtrickle.db import Connection, wrapped
from pgtrickle.emit.relational import Printer
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import (
    Aggregate,
    Anti,
    Apply,
    Attach,
    Expand,
    Filter,
    GroupingSets,
    Join,
    Operator,
    OuterJoin,
    Project,
    Recursion,
    SelfReference,
    UnionAll,
    Values,
    Window,
    children_of,
    rebuild,
)
from pgtrickle.ir.schema import UNKNOWN, Column, Equality, Type
from pgtrickle.parse.scales import fixed_scale
from pgtrickle.plan import Bindings, Rewrite

#: Result columns of a query: (type OID, type modifier).
Describe = Callable[[Composable], tuple[tuple[int, int], ...]]

#: Operators with conditions.
Conditional: TypeAlias = Filter | Join | OuterJoin | Anti | Attach
#: Pseudo-types and literals of no type yet: a record knows its fields only where it is built.
_VAGUE = frozenset("PX")


def analyse(conn: Connection, query: Composable) -> None:
    """Have the server analyse a query; it is not run."""
    with wrapped():
        # Not by blocking calls of libpq: they hold up all threads, and signals, as long as a server does not answer.
        conn.pgconn.send_prepare(b"", query.as_bytes(conn).replace(b"%%", b"%"))
        _answer(conn)


def describe(conn: Connection, query: Composable) -> tuple[tuple[int, int], ...]:
    """The result columns of a query that is analysed but not run."""
    analyse(conn, query)
    with wrapped():
        conn.pgconn.send_describe_prepared(b"")
        described = _answer(conn)
        return tuple((described.ftype(i), described.fmod(i)) for i in range(described.nfields))


def _answer(conn: Connection) -> PGresult:
    """What the server says to the message that was sent."""
    result = conn.wait(generators.execute(conn.pgconn))[-1]
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise errors.error_from_result(result, encoding=conn.info.encoding)
    return result


@dataclass(slots=True)
class Typing:
    """Types one tree, and settles its equalities. Shared nodes are typed once and stay shared."""

    conn: Connection
    types: TypeLoader
    bindings: Bindings
    rewrites: list[Rewrite] = field(default_factory=list)
    _equalities: Equalities = field(init=False)
    _done: dict[int, tuple[Operator, Operator]] = field(default_factory=dict)
    _recursions: dict[str, tuple[Column, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._equalities = Equalities(self.conn, self.types, self.rewrites)

    def annotate(self, op: Operator) -> Operator:
        """The same tree with all column types known; branches of a union are cast to its common types."""
        if id(op) not in self._done:
            typed = self._annotated(op)
            self._done[id(op)] = (op, self._settled(typed) if isinstance(typed, Conditional) else typed)
        return self._done[id(op)][1]

    def _annotated(self, op: Operator) -> Operator:
        if isinstance(op, Recursion):
            return self._recursion(op)
        if isinstance(op, SelfReference):
            typed = zip(op.columns, self._recursions[op.name], strict=True)
            return replace(op, columns=tuple(replace(column, name=mine.name) for mine, column in typed))
        below = rebuild(op, self.annotate)
        match below:
            case Project():
                return self._project(below)
            case Aggregate():
                return self._aggregate(below)
            case Expand():
                return replace(below, added=self._typed(below, below.columns)[len(below.child.columns) :])
            case Apply() | Window():
                return self._calls(below)
            case GroupingSets():
                typed = self._typed(below, below.columns)[len(below.keys) :]
                calls = tuple(replace(c, column=column) for c, column in zip(below.calls, typed, strict=False))
                return replace(below, calls=calls)
            case UnionAll():
                return self._union(below)
            case Values():
                return replace(below, columns=self._typed(below, below.columns))
            case _:
                return below

    def _settled(self, op: Conditional) -> Operator:
        """The operator with equalities that mean the same and are between values of one type."""
        if all(condition.sides is None for condition in op.conditions):
            return op
        known = {column.name: column.type for child in children_of(op) for column in child.columns}
        sides = [side for condition in op.conditions for side in condition.sides or ()]
        computed = tuple(dict.fromkeys(side for side in sides if side.column is None))
        kinds = {side: known[side.column] for side in sides if side.column is not None}
        if computed:
            columns = tuple(Column(f"side{number}", UNKNOWN) for number in range(len(computed)))
            typed = self._typed(Project(Join(children_of(op), ()), columns, computed), columns)
            kinds |= {side: column.type for side, column in zip(computed, typed, strict=True)}
        conditions = tuple(
            self._equalities.settled(c, kinds[c.sides[0]], kinds[c.sides[1]]) if c.sides else c for c in op.conditions
        )
        return replace(op, conditions=conditions)

    def _calls(self, op: Apply | Window) -> Operator:
        typed = self._typed(op, op.columns)[len(op.child.columns) :]
        return replace(op, calls=tuple(replace(c, column=column) for c, column in zip(op.calls, typed, strict=True)))

    def _project(self, op: Project) -> Project:
        known = {column.name: column for column in op.child.columns}
        computed = [i for i, expr in enumerate(op.exprs) if expr.column is None]
        columns = list(op.columns)
        for i, expr in enumerate(op.exprs):
            if expr.column is not None:
                columns[i] = replace(known[expr.column], name=columns[i].name)
        if computed:
            asked = Project(op.child, tuple(columns[i] for i in computed), tuple(op.exprs[i] for i in computed))
            for i, column in zip(computed, self._typed(asked, asked.columns), strict=True):
                columns[i] = _scaled(column, op.exprs[i], known)
        return replace(op, columns=tuple(columns))

    def _aggregate(self, op: Aggregate) -> Aggregate:
        if not op.calls:
            return op
        typed = self._typed(op, op.columns)[len(op.keys) :]
        known = {column.name: column for column in op.child.columns}
        calls = tuple(
            replace(call, column=replace(_scaled(column, call.expr, known), nullable=call.function != "count"))
            for call, column in zip(op.calls, typed, strict=True)
        )
        return replace(op, calls=calls)

    def _union(self, op: UnionAll) -> UnionAll:
        typed = self._typed(op, op.columns)
        nullable = [any(child.columns[i].nullable for child in op.children) for i in range(len(typed))]
        columns = tuple(replace(column, nullable=null) for column, null in zip(typed, nullable, strict=True))
        columns = tuple(_shared_scale(column, op.children, i) for i, column in enumerate(columns))
        return UnionAll(tuple(_cast(child, columns) for child in op.children), columns)

    def _recursion(self, op: Recursion) -> Recursion:
        """The base decides the types, as in PostgreSQL. What is known of its values holds if the step keeps it so."""
        base = self.annotate(op.base)
        columns = tuple(replace(typed, name=c.name) for c, typed in zip(op.columns, base.columns, strict=True))
        before = dict(self._done)
        while True:
            self._recursions[op.name] = columns
            step = self.annotate(op.step)
            wider = tuple(_wider(column, made) for column, made in zip(columns, step.columns, strict=True))
            if wider == columns:
                return replace(op, base=base, step=_cast(step, columns), columns=columns)
            columns, self._done = wider, dict(before)

    def _typed(self, op: Operator, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        described = describe(self.conn, Printer(self.bindings).select(_shallow(op)))
        types = self.types.load(described)
        return tuple(replace(column, type=types[pair]) for column, pair in zip(columns, described, strict=True))


def _scaled(column: Column, expr: Expr, known: Mapping[str, Column]) -> Column:
    """The column, with the scale of its values where the expression tells it."""
    kind = column.type
    if not kind.is_numeric or kind.typmod >= 0:
        return column
    scale = fixed_scale(expr, {name: known[name].type for name in expr.refs})
    return column if scale is None else replace(column, type=kind.with_scale(scale.digits, endless=scale.endless))


def _wider(column: Column, made: Column) -> Column:
    """A column of a recursion for which one that its step makes is not taken for what it is not."""
    column = replace(column, nullable=column.nullable or made.nullable)
    if column.type.scale is None:
        return column
    if column.type.scale == made.type.fixed_scale:
        return replace(column, type=replace(column.type, endless=column.type.endless or made.type.endless))
    return replace(column, type=replace(column.type, scale=None, equality=Equality.COARSE))


def _shared_scale(column: Column, branches: tuple[Operator, ...], position: int) -> Column:
    """The column of a union, with the scale that its values have in every branch."""
    types = [branch.columns[position].type for branch in branches]
    scales = {kind.fixed_scale for kind in types}
    scale = scales.pop() if len(scales) == 1 else None
    if scale is None or not column.type.is_numeric or column.type.typmod >= 0:
        return column
    return replace(column, type=column.type.with_scale(scale, endless=any(kind.endless for kind in types)))


def _shallow(op: Operator) -> Operator:
    """The operator over stand-ins for what is below it: the types of its columns depend on nothing else.

    Printed with all that is below, deep trees would take time quadratic in their depth. Branches of a union stay,
    because a literal in one of them takes its type from the other branches.
    """
    if isinstance(op, UnionAll):
        return rebuild(op, lambda branch: rebuild(branch, _stand_in))
    return rebuild(op, _stand_in)


def _stand_in(op: Operator) -> Operator:
    """NULLs of the types that the operator returns; the operator itself where a type says too little."""
    if not op.columns or any(column.type.category in _VAGUE for column in op.columns):
        return op
    return Values((tuple(text(f"NULL::{column.type.name}") for column in op.columns),), op.columns)


def _cast(child: Operator, columns: tuple[Column, ...]) -> Operator:
    """The child with its columns cast to these types, where they differ."""
    pairs = list(zip(child.columns, columns, strict=True))
    if all(_same_type(mine.type, wanted.type) for mine, wanted in pairs):
        return child
    exprs = tuple(
        col(mine.name) if _same_type(mine.type, wanted.type) else text("(", col(mine.name), f")::{wanted.type.name}")
        for mine, wanted in pairs
    )
    return Project(child, tuple(replace(mine, type=wanted.type) for mine, wanted in pairs), exprs)


def _same_type(mine: Type, wanted: Type) -> bool:
    return (mine.oid, mine.typmod) == (wanted.oid, wanted.typmod)
