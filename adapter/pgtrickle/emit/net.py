"""The weighted rows by which a stage's output changes, for each strategy. All columns under their operator's names."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable

from pgtrickle.delta import delta
from pgtrickle.delta.aggregates import COUNT_REF, AggregateRule, rule_for
from pgtrickle.emit.fragments import WEIGHT, Name, commas, names, scalar, table
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.target import Target, finder
from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, Ref, col
from pgtrickle.ir.operators import (
    Aggregate,
    AggregateCall,
    Apply,
    Empty,
    Expand,
    Filter,
    InputKey,
    Named,
    Operator,
    Project,
    Window,
)
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.plan import Bindings, Relation, Stage
from pgtrickle.rewrite.restrict import restrict


def keyed_of(op: Operator) -> tuple[tuple[Operator, ...], Aggregate | Window | Apply | Expand]:
    """The projections and filters above a stage's grouping or windows (outermost first), and these."""
    chain: list[Operator] = []
    while isinstance(op, Project | Filter):
        chain.append(op)
        op = op.child
    if not isinstance(op, Aggregate | Window | Apply | Expand):
        raise InternalError("a stage of this strategy has a grouping on top")
    return tuple(chain), op


def grouping_of(op: Operator) -> tuple[tuple[Operator, ...], Aggregate]:
    """The projections and filters above a stage's grouping (outermost first), and the grouping."""
    chain, grouping = keyed_of(op)
    if not isinstance(grouping, Aggregate):
        raise InternalError("a stage of this strategy has a grouping on top")
    return chain, grouping


def rebuilt(chain: tuple[Operator, ...], bottom: Operator) -> Operator:
    """The same projections and filters over another operator."""
    for node in reversed(chain):
        if isinstance(node, Project | Filter):
            bottom = replace(node, child=bottom)
    return bottom


def changed_rows(op: Operator, changed: frozenset[InputKey], printer: Printer) -> Composable | None:
    """Strategy ROWS: the delta itself. None if nothing can have changed."""
    tree = delta(op, changed)
    if isinstance(tree, Empty):
        return None
    printer.plan_sharing(tree)
    return printer.select(tree)


def compared(new: Composable, stored: Composable, columns: tuple[Column, ...]) -> Composable:
    """New rows minus stored rows."""
    shown = names(columns)
    return SQL(
        "SELECT {}, 1::pg_catalog.int8 AS {} FROM ({}) AS new\nUNION ALL\nSELECT {}, -1 AS {} FROM ({}) AS old"
    ).format(shown, WEIGHT, new, shown, WEIGHT, stored)


def stored_rows(target: Target, columns: tuple[Column, ...], where: Composable | None = None) -> Composable:
    """The rows of a table under the operator's column names."""
    shown = commas(
        SQL("t.{} AS {}").format(Name(stored.name), Name(column.name))
        for stored, column in zip(target.columns, columns, strict=True)
    )
    query = SQL("SELECT {} FROM {} AS t").format(shown, table(target.relation))
    return SQL("{} {}").format(query, where) if where is not None else query


def affected_groups(stage: Stage, target: Target, changed: frozenset[InputKey], printer: Printer) -> Composable | None:
    """Strategy KEYS: the affected groups computed again, minus what is stored of them."""
    chain, grouping = keyed_of(stage.operator)
    rows = changed_rows(grouping.child, changed, printer)
    if rows is None:
        return None
    if not grouping.keys:
        return _only_group(stage, target, rows, printer)
    found = finder(target, stage)
    by_name = {column.name: column for column in grouping.child.columns}
    keys = tuple(by_name[key] for key in grouping.keys)
    distinct = SQL("SELECT DISTINCT {} FROM ({}) AS c").format(names(keys), rows)
    printer.define("keys", distinct)
    again = rebuilt(chain, replace(grouping, child=restrict(grouping.child, Named("keys", keys), grouping.keys)))
    printer.plan_sharing(again)
    renamed = commas(
        SQL("{} AS {}").format(Name(key.name), Name(neutral.name))
        for key, neutral in zip(keys, found.neutral_key, strict=True)
    )
    hashed = SQL("SELECT k.*, {} AS __h FROM (SELECT {} FROM keys) AS k").format(found.hash("k"), renamed)
    printer.define("wanted", hashed)
    stored = stored_rows(target, stage.operator.columns, SQL("JOIN wanted AS k ON {}").format(found.match("t", "k")))
    return compared(printer.select(again), stored, stage.operator.columns)


def _only_group(stage: Stage, target: Target, rows: Composable, printer: Printer) -> Composable:
    """Without keys there is one group; it is affected if any row of the input changed."""
    printer.define("affected", SQL("SELECT 1 FROM ({}) AS c LIMIT 1").format(rows))
    gate = SQL("WHERE EXISTS (SELECT 1 FROM affected)")
    printer.plan_sharing(stage.operator)
    again = SQL("SELECT * FROM ({}) AS q {}").format(printer.select(stage.operator), gate)
    return compared(again, stored_rows(target, stage.operator.columns, gate), stage.operator.columns)


# --- strategy AGGREGATE ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """The state table of a grouping: its keys ``c1..cn``, ``__count``, and the totals ``s1..sm`` of its aggregates."""

    grouping: Aggregate
    target: Target
    totals: tuple[tuple[AggregateCall, AggregateRule, tuple[tuple[str, str, Expr], ...]], ...]

    @classmethod
    def of(cls, stage: Stage, relation: Relation) -> State:
        """The state that the stage's aggregates need."""
        _, grouping = grouping_of(stage.operator)
        by_name = {column.name: column for column in grouping.child.columns}
        keys = tuple(
            Column(f"c{i + 1}", by_name[key].type, by_name[key].nullable) for i, key in enumerate(grouping.keys)
        )
        totals = []
        known: dict[Expr, str] = {}
        for call in grouping.calls:
            rule = rule_for(call, grouping.child.columns)
            if rule is None:
                raise InternalError("an aggregate without a rule reached a stage that adds and subtracts")
            # Several aggregates of one argument share what they count.
            columns = [(c.name, known.setdefault(c.change, f"s{len(known) + 1}"), c.change) for c in rule.state(call)]
            totals.append((call, rule, tuple(columns)))
        return cls(grouping, Target(relation, keys, keys), tuple(totals))

    @property
    def total_names(self) -> tuple[str, ...]:
        """``s1..sm``."""
        return tuple(self._changes)

    @property
    def _changes(self) -> dict[str, Expr]:
        return {name: change for _, _, columns in self.totals for _, name, change in columns}

    def added_up(self, weighted: Composable) -> Composable:
        """Totals per group over weighted rows: ``c1.., __count, s1..``."""
        keys = [
            SQL("{} AS {}").format(Name(key), Name(stored.name))
            for key, stored in zip(self.grouping.keys, self.target.columns, strict=True)
        ]
        count = SQL("COALESCE(pg_catalog.sum({}), 0)::pg_catalog.int8 AS {}").format(WEIGHT, Name(COUNT_REF))
        totals = [SQL("{} AS {}").format(scalar(change), Name(name)) for name, change in self._changes.items()]
        query = SQL("SELECT {} FROM ({}) AS w").format(commas([*keys, count, *totals]), weighted)
        if self.grouping.scalar:
            return query
        return SQL("{} GROUP BY {}").format(query, commas(Name(key) for key in self.grouping.keys))

    def results(self, source: str, prefix: str) -> Operator:
        """The grouping's output rows over a named relation that has the totals as ``<prefix>s1..``."""
        keys = {key: col(stored.name) for key, stored in zip(self.grouping.keys, self.target.columns, strict=True)}
        exprs = [keys[key] for key in self.grouping.keys]
        for call, rule, columns in self.totals:
            exprs.append(rule.result(call, {suffix: f"{prefix}{name}" for suffix, name, _ in columns}))
        given = (*self.target.columns, *(Column(f"{prefix}{name}", INT8) for name in (COUNT_REF, *self.total_names)))
        rows: Operator = Named(source, given)
        if not self.grouping.scalar:
            rows = Filter(rows, (Expr((Ref(f"{prefix}{COUNT_REF}"), " > 0")),))
        return Project(rows, self.grouping.columns, tuple(exprs))


def changed_groups(
    stage: Stage, bindings: Bindings, changed: frozenset[InputKey], printer: Printer
) -> tuple[Composable, list[Composable]] | None:
    """Strategy AGGREGATE: totals changed by the delta; output rows before and after. Also the faults to count."""
    relation = bindings.stages[stage.number].state
    if relation is None:
        raise InternalError("a stage that adds and subtracts has a state table")
    state = State.of(stage, relation)
    chain, grouping = grouping_of(stage.operator)
    rows = changed_rows(grouping.child, changed, printer)
    if rows is None:
        return None
    printer.define("came", _with_hash(state, state.added_up(rows)))
    printer.define("moved", _moved(state))
    _write_state(state, printer)
    before = rebuilt(chain, state.results("moved", "o_"))
    after = rebuilt(chain, state.results("moved", "n_"))
    net = compared(printer.select(after), printer.select(before), stage.operator.columns)
    return net, [SQL('(SELECT count(*) FROM moved WHERE "n___count" < 0)')]


def _with_hash(state: State, query: Composable) -> Composable:
    if state.target.plain_index or not state.target.columns:
        return query
    return SQL("SELECT g.*, {} AS __h FROM ({}) AS g").format(state.target.hash("g"), query)


def _moved(state: State) -> Composable:
    """Each touched group with its totals before (``o_``) and after (``n_``) and its place in the state table."""
    columns: list[Composable] = [SQL("g.{}").format(Name(key.name)) for key in state.target.columns]
    for name in (COUNT_REF, *state.total_names):
        old = SQL("COALESCE(t.{}, 0)").format(Name(name))
        columns.append(SQL("{} AS {}").format(old, Name(f"o_{name}")))
        columns.append(SQL("{} + g.{} AS {}").format(old, Name(name), Name(f"n_{name}")))
    match = state.target.match("t", "g") if state.target.columns else SQL("TRUE")
    return SQL("SELECT {}, t.ctid AS __tid FROM came AS g LEFT JOIN {} AS t ON {}").format(
        commas(columns), table(state.target.relation), match
    )


def _write_state(state: State, printer: Printer) -> None:
    relation = table(state.target.relation)
    stored = [COUNT_REF, *state.total_names]
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
