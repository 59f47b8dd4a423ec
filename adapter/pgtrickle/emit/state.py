"""The state table of a grouping: its keys ``c1..cn``, ``__count``, and what its aggregates keep in ``s1..sm``.

One statement brings a delta into it, step by step: what ``came`` per group, what that makes of the stored state
(``met``), the groups of which a kept value is spoilt looked up ``again``, and each touched group before and after
(``moved``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable

from pgtrickle.delta.aggregates import COUNT_REF, AggregateRule, KeptValue, LookedUp, StateColumn, StatePart, rule_for
from pgtrickle.delta.aggregates.weighted import count
from pgtrickle.emit.fragments import WEIGHT, Name, commas, names, scalar, table, verbatim
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.target import Target
from pgtrickle.emit.tops import grouping_of
from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Filter, Named, Operator, Project
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.plan import Bindings, Relation, Stage, Strategy
from pgtrickle.rewrite.restrict import restrict


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
        by_name = {column.name: column for column in grouping.child.columns}
        keys = tuple(
            Column(f"c{i + 1}", by_name[key].type, by_name[key].nullable) for i, key in enumerate(grouping.keys)
        )
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

    def changed(self, weighted: Composable) -> Composable:
        """What a delta brings to each group: ``c1.., __count, s1..``, and for a kept value what leaves in ``g_s1``."""
        shown: list[Composable] = [self._count()]
        for name, part in self.parts.items():
            if isinstance(part, StateColumn):
                shown.append(self._added_up(name, part))
            if not isinstance(part, KeptValue):
                continue
            for prefix, sign in (("", SQL(">")), ("g_", SQL("<"))):
                mine = SQL("{} {} 0").format(Name(f"n_{name}"), sign)
                shown.append(SQL("{} AS {}").format(_picked(part, mine), Name(f"{prefix}{name}")))
        return self._grouped(shown, self._netted(weighted))

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns beside the keys."""
        return (COUNT_REF, *self.parts)

    def match(self, stored: str, other: str) -> Composable:
        """A row of the table (alias ``stored``) is of the group of another row, which came from `with_hash`."""
        return self.target.match(stored, other) if self.target.columns else SQL("TRUE")

    def _netted(self, weighted: Composable) -> Composable:
        """The rows with what is left of each value in the end in ``n_s1``."""
        if not self.kept:
            return weighted
        if (value := self._only_value) is not None:
            # Rows of one value are as good as one row that counts for all of them.
            shown = commas([*map(Name, self.grouping.keys), Name(value)])
            total = SQL("pg_catalog.sum({})::pg_catalog.int8").format(WEIGHT)
            counted = commas(SQL("{} AS {}").format(total, Name(f"n_{name}")) for name in self.kept)
            return SQL("SELECT {}, {}, {} AS {} FROM ({}) AS v GROUP BY {}").format(
                shown, counted, total, WEIGHT, weighted, shown
            )
        nets = []
        for name, part in self.kept.items():
            same = commas([*(Name(key) for key in self.grouping.keys), scalar(part.image)])
            counted = SQL("pg_catalog.sum({})").format(WEIGHT)
            if part.condition is not None:
                counted = SQL("{} FILTER (WHERE {})").format(counted, scalar(part.condition))
            nets.append(SQL("{} OVER (PARTITION BY {}) AS {}").format(counted, same, Name(f"n_{name}")))
        return SQL("SELECT v.*, {} FROM ({}) AS v").format(commas(nets), weighted)

    @property
    def _only_value(self) -> str | None:
        """The column whose values are all that is kept, if there is but one and it looks like what it is."""
        values = {(part.value.column, part.image.column) for part in self.kept.values()}
        unconditional = all(part.condition is None for part in self.kept.values())
        if self.totals or not unconditional or len(values) != 1:
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


def _picked(part: KeptValue | LookedUp, *conditions: Composable) -> Composable:
    """The value over the rows that meet its own condition and these."""
    every = [*([scalar(part.condition)] if part.condition is not None else []), *conditions]
    value = SQL("{}({})").format(verbatim(part.pick), scalar(part.value))
    if not every:
        return value
    joined = SQL(" AND ").join(SQL("({})").format(condition) for condition in every)
    return SQL("{} FILTER (WHERE {})").format(value, joined)


# --- bringing a delta into it ---------------------------------------------------------------------------------------


def move(state: State, weighted: Composable, printer: Printer) -> None:
    """Define ``moved``: each touched group with its state before (``o_``) and after (``n_``); write what is after."""
    printer.define("came", with_hash(state, state.changed(weighted)), fenced=False)
    if state.values:
        printer.define("met", _met(state))
        printer.define("moved", _mended(state, printer))
    else:
        printer.define("moved", _added(state))
    _write(state, printer)


def with_hash(state: State, query: Composable) -> Composable:
    """Groups with the hash by which they are found in the table as ``__h``, where they are found by one."""
    if state.target.plain_index or not state.target.columns:
        return query
    return SQL("SELECT g.*, {} AS __h FROM ({}) AS g").format(state.target.hash("g"), query)


def _added(state: State, *extra: Composable) -> Composable:
    """Each touched group with its totals before (``o_``) and after (``n_``) and its place in the state table."""
    columns: list[Composable] = [SQL("g.{}").format(Name(key.name)) for key in state.target.columns]
    for name in (COUNT_REF, *state.totals):
        old = SQL("COALESCE(t.{}, 0)").format(Name(name))
        columns.append(SQL("{} AS {}").format(old, Name(f"o_{name}")))
        columns.append(SQL("{} + g.{} AS {}").format(old, Name(name), Name(f"n_{name}")))
    return SQL("SELECT {}, t.ctid AS __tid FROM came AS g LEFT JOIN {} AS t ON {}").format(
        commas([*columns, *extra]), table(state.target.relation), state.match("t", "g")
    )


def _met(state: State) -> Composable:
    """The same with the values: before, came, left, and merged; ``x_s1`` if one has to be looked up."""
    found = [SQL("t.{} AS {}").format(Name(name), Name(f"o_{name}")) for name in state.values]
    merged, spoilt = [], []
    for name, part in state.values.items():
        before, came, now, left = (col(f"{prefix}_{name}") for prefix in "ocng")
        if isinstance(part, KeptValue):
            found.append(SQL("g.{} AS {}").format(Name(name), Name(f"c_{name}")))
            found.append(SQL("g.{0} AS {0}").format(Name(f"g_{name}")))
            merged.append(SQL("{} AS {}").format(scalar(part.merged(before, came)), Name(f"n_{name}")))
            is_spoilt = part.spoilt(before, came, now, left)
        else:
            merged.append(SQL("{} AS {}").format(scalar(before), Name(f"n_{name}")))
            owner = next(columns for _, _, columns in state.calls if columns.get(part.name) == name)
            is_spoilt = part.wanted({suffix: f"n_{column}" for suffix, column in owner.items()})
        alive = SQL("{} > 0").format(Name(f"n_{COUNT_REF}"))
        spoilt.append(SQL("{} AND COALESCE({}, FALSE) AS {}").format(alive, scalar(is_spoilt), Name(f"x_{name}")))
    inner = SQL("SELECT a.*, {} FROM ({}) AS a").format(commas(merged), _added(state, *found))
    return SQL("SELECT b.*, {} FROM ({}) AS b").format(commas(spoilt), inner)


def _mended(state: State, printer: Printer) -> Composable:
    """What was met, with the spoilt values looked up in the input as it is now; without one nothing is read."""
    columns: list[Composable] = [*([names(state.target.columns, "m")] if state.target.columns else [])]
    for name in (COUNT_REF, *state.totals):
        columns += [SQL("m.{}").format(Name(f"{prefix}{name}")) for prefix in ("o_", "n_")]
    looked_up = _alone(state, printer) if state.grouping.scalar else {}
    for name in state.values:
        columns.append(SQL("m.{}").format(Name(f"o_{name}")))
        columns.append(
            SQL("CASE WHEN m.{} = 0 THEN NULL WHEN m.{} THEN {} ELSE m.{now} END AS {now}").format(
                Name(f"n_{COUNT_REF}"),
                Name(f"x_{name}"),
                looked_up.get(name, SQL("a.{}").format(Name(f"a_{name}"))),
                now=Name(f"n_{name}"),
            )
        )
    query = SQL("SELECT {}, m.__tid FROM met AS m").format(commas(columns))
    if state.grouping.scalar:
        return query
    printer.define("again", with_hash(state, _again(state, printer)))
    return SQL("{} LEFT JOIN again AS a ON {} AND {}").format(
        query, _any_spoilt(state, "m"), state.target.match("m", "a")
    )


def _any_spoilt(state: State, alias: str) -> Composable:
    return SQL("({})").format(SQL(" OR ").join(Name(alias, f"x_{name}") for name in state.values))


def _alone(state: State, printer: Printer) -> dict[str, Composable]:
    """Each kept value of the only group as a subquery of its own: run only if it is spoilt, and by an index on it."""
    found: dict[str, Composable] = {}
    for name, part in state.values.items():
        child = state.grouping.child if part.condition is None else Filter(state.grouping.child, (part.condition,))
        call = AggregateCall(Column(f"a_{name}", INT8), text(f"{part.pick}(", part.value, ")"))
        tree = Aggregate(child, (), (call,), scalar=True)
        printer.plan_sharing(tree)
        found[name] = SQL("({})").format(printer.select(tree))
    return found


def _again(state: State, printer: Printer) -> Composable:
    """The kept values of the groups of which one is spoilt, under the names of the state's keys."""
    grouping, stored = state.grouping, state.target.columns
    by_name = {column.name: column for column in grouping.child.columns}
    keys = tuple(by_name[key] for key in grouping.keys)
    pairs = list(zip(stored, keys, strict=True))
    shown = commas(SQL("{} AS {}").format(Name(mine.name), Name(key.name)) for mine, key in pairs)
    # Usually few values are spoilt; the planner would expect most, and read the whole input for them.
    few = SQL("{count} = ({count} | 0)").format(count=Name("met", f"n_{COUNT_REF}"))
    printer.define("spoilt", SQL("SELECT {} FROM met WHERE {} AND {}").format(shown, _any_spoilt(state, "met"), few))
    calls = tuple(AggregateCall(Column(f"a_{name}", INT8), _call(part)) for name, part in state.values.items())
    tree = replace(grouping, child=restrict(grouping.child, Named("spoilt", keys), grouping.keys), calls=calls)
    printer.plan_sharing(tree)
    renamed = [SQL("{} AS {}").format(Name(key.name), Name(mine.name)) for mine, key in pairs]
    values = [Name(call.column.name) for call in calls]
    return SQL("SELECT {} FROM ({}) AS f").format(commas([*renamed, *values]), printer.select(tree))


def _call(part: KeptValue | LookedUp) -> Expr:
    picked = text(f"{part.pick}(", part.value, ")")
    return picked if part.condition is None else text(picked, " FILTER (WHERE ", part.condition, ")")


def _write(state: State, printer: Printer) -> None:
    relation = table(state.target.relation)
    stored = state.stored
    alive = SQL("TRUE") if state.grouping.scalar else SQL("m.{} > 0").format(Name(f"n_{COUNT_REF}"))
    assignments = commas(SQL("{} = m.{}").format(Name(n), Name(f"n_{n}")) for n in stored)
    printer.define(
        "kept",
        SQL("UPDATE {} AS t SET {} FROM moved AS m WHERE t.ctid = m.__tid AND {} RETURNING 1").format(
            relation, assignments, alive
        ),
    )
    if not state.grouping.scalar:
        emptied = SQL("SELECT m.__tid FROM moved AS m WHERE m.__tid IS NOT NULL AND NOT ({})").format(alive)
        printer.define(
            "emptied", SQL("DELETE FROM {} AS t WHERE t.ctid = ANY (ARRAY({})) RETURNING 1").format(relation, emptied)
        )
    columns = commas(Name(n) for n in (*(key.name for key in state.target.columns), *stored))
    values = commas(
        [
            *(SQL("m.{}").format(Name(key.name)) for key in state.target.columns),
            *(SQL("m.{}").format(Name(f"n_{n}")) for n in stored),
        ]
    )
    printer.define(
        "started",
        SQL("INSERT INTO {} ({}) SELECT {} FROM moved AS m WHERE m.__tid IS NULL AND {} RETURNING 1").format(
            relation, columns, values, alive
        ),
    )


def as_weighted(query: Composable, columns: tuple[Column, ...]) -> Composable:
    """Plain rows with weight 1, to fill state from scratch."""
    parts: list[Composable] = [
        *([names(columns, "p")] if columns else []),
        SQL("1::pg_catalog.int8 AS {}").format(WEIGHT),
    ]
    return SQL("SELECT {} FROM ({}) AS p").format(commas(parts), query)
