"""The state table of a grouping: its keys ``c1..cn``, ``__count``, and what its aggregates keep in ``s1..sm``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable

from pgtrickle.delta.aggregates import COUNT_REF, AggregateRule, KeptValue, LookedUp, StateColumn, StatePart, rule_for
from pgtrickle.delta.aggregates.weighted import count
from pgtrickle.emit.fragments import WEIGHT, Name, commas, names, scalar, verbatim
from pgtrickle.emit.target import Target
from pgtrickle.emit.tops import grouping_of
from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Filter, Named, Operator, Project
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.plan import Bindings, Relation, Stage, Strategy


@dataclass(frozen=True, slots=True)
class State:
    """The state of one grouping and where it is kept.

    Attributes:
        grouping: the grouping.
        target: its table; the columns are the keys.
        calls: the aggregates with their rules and what they keep: suffix -> column.
        parts: column -> what is kept in it. Aggregates that need the same share it.
    """

    grouping: Aggregate
    target: Target
    calls: tuple[tuple[AggregateCall, AggregateRule, Mapping[str, str]], ...]
    parts: Mapping[str, StatePart]

    @classmethod
    def of(cls, stage: Stage, relation: Relation) -> State:
        """The state that the stage's aggregates need."""
        _, grouping = grouping_of(stage.operator)
        keys = tuple(Column(f"c{i + 1}", key.type, key.nullable) for i, key in enumerate(grouping.key_columns))
        never_null = {column.name for column in grouping.child.columns if not column.nullable}
        calls = []
        parts: dict[str, StatePart] = {}
        known: dict[object, str] = {_ROWS: COUNT_REF}
        for call in grouping.calls:
            rule = rule_for(call, grouping.child.columns)
            if rule is None:
                raise InternalError("an aggregate without a rule reached a stage with state")
            columns = {}
            for part in rule.state(replace(call, complete=all(arg.column in never_null for arg in call.args))):
                columns[part.name] = known.setdefault(_meaning(part), f"s{len(known)}")
                if columns[part.name] != COUNT_REF:
                    parts.setdefault(columns[part.name], part)
            calls.append((call, rule, columns))
        return cls(grouping, Target(relation, keys, keys), tuple(calls), parts)

    @property
    def totals(self) -> dict[str, StateColumn]:
        """The columns to which a change is added."""
        return {name: part for name, part in self.parts.items() if isinstance(part, StateColumn)}

    @property
    def kept(self) -> dict[str, KeptValue]:
        """The columns with a value that is merged with what comes."""
        return {name: part for name, part in self.parts.items() if isinstance(part, KeptValue)}

    @property
    def values(self) -> dict[str, KeptValue | LookedUp]:
        """The columns of which a value may have to be looked up."""
        return {name: part for name, part in self.parts.items() if not isinstance(part, StateColumn)}

    def loaded(self, weighted: Composable) -> Composable:
        """The state over all rows, which are plain (their weights are 1): ``c1.., __count, s1..``."""
        shown = [self._added_up(name, part) for name, part in self.parts.items()]
        return self._grouped([self._count(), *shown], weighted)

    def changed(self, weighted: Composable, *, balanced: bool = True) -> Composable:
        """What a delta brings to each group: ``c1.., __count, s1..``, and for a kept value what leaves in ``g_s1``.

        Args:
            weighted: the rows of the delta.
            balanced: kept values that come and leave equally often neither come nor leave. Otherwise they do both.
        """
        totals = [self._count(), *(self._added_up(name, part) for name, part in self.totals.items())]
        if not self.kept:
            return self._grouped(totals, weighted)
        if not balanced:
            return self._grouped([*totals, *self._come_and_gone(lambda _: WEIGHT)], weighted)
        return self._grouped([*totals, *self._come_and_gone(_rest)], self._netted(weighted, alone=not self.totals))

    def balanced(self, weighted: Composable) -> Composable:
        """The same, balanced, without the totals: ``c1.., s1.., g_s1..``."""
        return self._grouped(self._come_and_gone(_rest), self._netted(weighted, alone=True))

    def _come_and_gone(self, weight: Callable[[str], Composable]) -> list[Composable]:
        shown: list[Composable] = []
        for name, part in self.kept.items():
            for prefix, sign in (("", SQL(">")), ("g_", SQL("<"))):
                mine = SQL("{} {} 0").format(weight(name), sign)
                shown.append(SQL("{} AS {}").format(_picked(part, mine), Name(f"{prefix}{name}")))
        return shown

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns beside the keys."""
        return (COUNT_REF, *self.parts)

    def match(self, stored: str, other: str) -> Composable:
        """A row of the table (alias ``stored``) is of the group of another row, which came from `with_hash`."""
        return self.target.match(stored, other) if self.target.columns else SQL("TRUE")

    def _netted(self, weighted: Composable, *, alone: bool) -> Composable:
        """The rows with what is left of each value in the end in ``n_s1``; ``alone``: there are no totals."""
        if alone and (value := self._only_value) is not None:
            # Rows of one value are as good as one row that counts for all of them.
            shown = commas([*map(Name, self.grouping.keys), Name(value)])
            total = SQL("pg_catalog.sum({})::pg_catalog.int8").format(WEIGHT)
            counted = commas(SQL("{} AS {}").format(total, _rest(name)) for name in self.kept)
            return SQL("SELECT {}, {}, {} AS {} FROM ({}) AS v GROUP BY {}").format(
                shown, counted, total, WEIGHT, weighted, shown
            )
        nets = []
        for name, part in self.kept.items():
            same = commas([*(Name(key) for key in self.grouping.keys), scalar(part.image)])
            counted = SQL("pg_catalog.sum({})").format(WEIGHT)
            if part.condition is not None:
                counted = SQL("{} FILTER (WHERE {})").format(counted, scalar(part.condition))
            nets.append(SQL("{} OVER (PARTITION BY {}) AS {}").format(counted, same, _rest(name)))
        return SQL("SELECT v.*, {} FROM ({}) AS v").format(commas(nets), weighted)

    @property
    def _only_value(self) -> str | None:
        """The column whose values are all that is kept, if there is but one and it looks like what it is."""
        values = {(part.value.column, part.image.column) for part in self.kept.values()}
        unconditional = all(part.condition is None for part in self.kept.values())
        if not unconditional or len(values) != 1:
            return None
        value, image = values.pop()
        return value if value == image and value not in self.grouping.keys else None

    def _count(self) -> Composable:
        return SQL("{} AS {}").format(scalar(_ROWS), Name(COUNT_REF))

    def _added_up(self, name: str, part: StatePart) -> Composable:
        value = scalar(part.change) if isinstance(part, StateColumn) else _picked(part)
        return SQL("{} AS {}").format(value, Name(name))

    def _grouped(self, values: list[Composable], rows: Composable) -> Composable:
        keys = [
            SQL("{} AS {}").format(Name(key), Name(stored.name))
            for key, stored in zip(self.grouping.keys, self.target.columns, strict=True)
        ]
        fence = SQL(" OFFSET 0") if self._computes_arguments else SQL("")
        query = SQL("SELECT {} FROM ({}{}) AS w").format(commas([*keys, *values]), rows, fence)
        if self.grouping.scalar:
            return query
        return SQL("{} GROUP BY {}").format(query, commas(Name(key) for key in self.grouping.keys))

    @property
    def _computes_arguments(self) -> bool:
        """Whether an aggregate's argument is more than a column: behind a fence it is computed once a row, not once
        for each of the totals that read it."""
        child = self.grouping.child
        if not isinstance(child, Project):
            return False
        computed = {column.name for expr, column in zip(child.exprs, child.columns, strict=True) if not expr.column}
        return any(arg.refs & computed for call, _, _ in self.calls for arg in call.args)

    def results(self, source: str, prefix: str) -> Operator:
        """The grouping's output rows over a named relation that has the state as ``<prefix>s1..``."""
        given = (*self.target.columns, *(Column(f"{prefix}{name}", INT8) for name in (COUNT_REF, *self.parts)))
        rows: Operator = Named(source, given)
        if not self.grouping.scalar:
            rows = Filter(rows, (Expr((Ref(f"{prefix}{COUNT_REF}"), " > 0")),))
        return Project(rows, self.grouping.columns, self.exprs(prefix))

    def exprs(self, prefix: str) -> tuple[Expr, ...]:
        """The grouping's output columns over the state as ``<prefix>s1..``."""
        keys = [col(stored.name) for stored in self.target.columns]
        results = [
            rule.result(call, {suffix: f"{prefix}{name}" for suffix, name in columns.items()})
            for call, rule, columns in self.calls
        ]
        return (*keys, *results)


def state_of(stage: Stage, bindings: Bindings) -> State | None:
    """The state of a stage that adds and subtracts; None for the others."""
    if stage.strategy is not Strategy.AGGREGATE:
        return None
    relation = bindings.stages[stage.number].state
    if relation is None:
        raise InternalError("a stage that adds and subtracts has a state table")
    return State.of(stage, relation)


#: What counts the rows of a group; what counts the same is not kept twice.
_ROWS = count(AggregateCall(Column(COUNT_REF, INT8), text("count(*)")))


def _meaning(part: StatePart) -> object:
    """What two parts have in common if they keep the same."""
    if isinstance(part, StateColumn):
        return part.change
    return part.pick, part.value, part.condition


def _rest(name: str) -> Composable:
    """What is left of a value in the end, of those that came and those that left."""
    return Name(f"n_{name}")


def _picked(part: KeptValue | LookedUp, *conditions: Composable) -> Composable:
    """The value over the rows that meet its own condition and these."""
    every = [*([scalar(part.condition)] if part.condition is not None else []), *conditions]
    value = SQL("{}({})").format(verbatim(part.pick), scalar(part.value))
    if not every:
        return value
    joined = SQL(" AND ").join(SQL("({})").format(condition) for condition in every)
    return SQL("{} FILTER (WHERE {})").format(value, joined)


def with_hash(state: State, query: Composable) -> Composable:
    """Groups with the hash by which they are found in the table as ``__h``, where they are found by one."""
    if state.target.plain_index or not state.target.columns:
        return query
    return SQL("SELECT g.*, {} AS __h FROM ({}) AS g").format(state.target.hash("g"), query)


def as_weighted(query: Composable, columns: tuple[Column, ...]) -> Composable:
    """Plain rows with weight 1, to fill state from scratch."""
    parts: list[Composable] = [
        *([names(columns, "p")] if columns else []),
        SQL("1::pg_catalog.int8 AS {}").format(WEIGHT),
    ]
    return SQL("SELECT {} FROM ({}) AS p").format(commas(parts), query)
