"""A stage computed again by way of temporary tables, for refreshes that recompute.

PostgreSQL computes in parallel what CREATE TABLE AS stores, as REFRESH MATERIALIZED VIEW does, but nothing that is
part of a statement with an INSERT, UPDATE or DELETE. So state and difference are computed into temporary tables, of
which the planner knows how long they are, and the few rows in them are applied. Old and new rows meet in one full join
on the key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable, Composed

from pgtrickle.emit.apply import Changes, apply
from pgtrickle.emit.consolidate import consolidate
from pgtrickle.emit.ddl import is_unique
from pgtrickle.emit.fragments import (
    Name,
    commas,
    conjunction,
    differs,
    equal,
    hashed,
    same,
    table,
    verbatim,
)
from pgtrickle.emit.net import compared, stored_rows
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.stage import loosened, rows_now, state_now
from pgtrickle.emit.state import State, state_of, with_hash
from pgtrickle.emit.target import Target, output_target
from pgtrickle.ir.schema import Equality
from pgtrickle.plan import Bindings, Plan, Relation, Stage


@dataclass(frozen=True, slots=True)
class Step:
    """A statement of a recompute.

    Attributes:
        statement: without parameters but ``refresh_no``.
        creates: it makes a temporary table that later ones read; then it can end in WITH NO DATA.
        few: few of the rows that it looks at are its result.
    """

    statement: Composed
    creates: bool = False
    few: bool = False


def stage_staged(plan: Plan, stage: Stage, bindings: Bindings, *, computed: bool = False) -> tuple[Step, ...]:
    """Compute a stage again and write the differences only; the last statement returns `emit.apply.COUNTS`.

    The same as `emit.stage.stage_recompute`, for roles that may create temporary tables.

    Args:
        plan: the plan that the stage belongs to.
        stage: the stage.
        bindings: names in this database.
        computed: state and rows have been computed, by `stage_computed`.
    """
    binding = bindings.stages[stage.number]
    staged = Relation("pg_temp", f"{binding.locator}_new")
    target = output_target(plan, stage, bindings)
    shown = replace(target, columns=loosened(target.columns), key=target.key and loosened(target.key))
    steps = [] if computed else _state_of_stage(stage, bindings)
    new = _computed_rows(stage, bindings) if computed else rows_now(stage, bindings)
    if target.key is not None and all(column.type.equals and column.type.hashable for column in target.key):
        steps.append(_created(staged, _pairs(stage, target, new, logged=binding.log is not None), few=True))
        query = SQL("SELECT * FROM {} WHERE __had OR __has").format(table(staged))
        doubled = SQL("(SELECT count(*) FROM {} WHERE NOT (__had OR __has))").format(table(staged))
        changes = Changes(query, paired=True, faults=(doubled,))
    else:
        # Under neutral names: the query's own may be one of ours.
        columns = target.neutral
        pairs = zip(stage.operator.columns, columns, strict=True)
        shown_as = commas(SQL("{} AS {}").format(Name(mine.name), Name(neutral.name)) for mine, neutral in pairs)
        named = SQL("SELECT {} FROM ({}) AS q").format(shown_as, new)
        net = consolidate(loosened(columns), compared(named, stored_rows(target, columns), columns))
        steps.append(_created(staged, net, few=True))
        changes = Changes(SQL("SELECT * FROM {}").format(table(staged)))
    steps.append(Step(apply(Printer(bindings), shown, changes, binding)))
    return tuple(steps)


def stage_computed(stage: Stage, bindings: Bindings) -> tuple[Step, ...]:
    """Compute a stage's state and rows and look at nothing of its output table, which may have other columns yet."""
    columns = stage.operator.columns
    shown = commas(SQL("{} AS {}").format(Name(column.name), Name(f"c{i}")) for i, column in enumerate(columns, 1))
    query = SQL("SELECT {} FROM ({}) AS q").format(shown, rows_now(stage, bindings))
    return (*_state_of_stage(stage, bindings), _created(_rows(stage, bindings), query))


def _computed_rows(stage: Stage, bindings: Bindings) -> Composable:
    columns = stage.operator.columns
    shown = commas(SQL("{} AS {}").format(Name(f"c{i}"), Name(column.name)) for i, column in enumerate(columns, 1))
    return SQL("SELECT {} FROM {}").format(shown, table(_rows(stage, bindings)))


def _rows(stage: Stage, bindings: Bindings) -> Relation:
    return Relation("pg_temp", f"{bindings.stages[stage.number].locator}_rows")


def _state_of_stage(stage: Stage, bindings: Bindings) -> list[Step]:
    state = state_of(stage, bindings)
    name = f"{bindings.stages[stage.number].locator}_groups"
    return [] if state is None else _state_steps(state, bindings, name)


def _created(relation: Relation, query: Composable, *, few: bool = False) -> Step:
    statement = SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS {}").format(Name(relation.name), query)
    return Step(statement, creates=True, few=few)


def _pairs(stage: Stage, target: Target, new: Composable, *, logged: bool) -> Composable:
    """What is different, as `emit.pairs.paired` has it (the row before only for a log); a key that the table has twice
    as a row that neither was there nor is."""
    columns = list(zip(stage.operator.columns, target.columns, target.neutral, strict=True))
    keys = {key.name for key in target.neutral_key}
    shown: list[Composable] = []
    for _, _, neutral in columns:
        value: Composable = Name("n", neutral.name)
        if neutral.name in keys:
            value = SQL("CASE WHEN n.__here THEN {} ELSE {} END").format(value, Name("o", neutral.name))
        shown.append(SQL("{} AS {}").format(value, Name(neutral.name)))
    if logged:
        shown += [
            SQL("{} AS {}").format(Name("o", neutral.name), Name(f"o{i}"))
            for i, (_, _, neutral) in enumerate(columns, 1)
        ]
    joined = SQL(
        "SELECT {shown}, n.__here IS NOT NULL AS __has, o.__here IS NOT NULL AS __had"
        " FROM (SELECT {new}, TRUE AS __here FROM ({rows}) AS q) AS n"
        " FULL JOIN (SELECT {old}, TRUE AS __here FROM {table} AS t) AS o ON {same} WHERE {unlike}"
    ).format(
        shown=commas(shown),
        new=commas(SQL("{} AS {}").format(Name(mine.name), Name(neutral.name)) for mine, _, neutral in columns),
        rows=new,
        old=commas(SQL("t.{} AS {}").format(Name(stored.name), Name(neutral.name)) for _, stored, neutral in columns),
        table=table(target.relation),
        same=_same_key(target),
        unlike=_unlike(target),
    )
    return joined if is_unique(target, stage) else SQL("{}\nUNION ALL\n{}").format(joined, _doubled(target, logged))


def _same_key(target: Target) -> Composable:
    """A new row (alias ``n``) and an old one (``o``) have the same key: at least one condition can be hashed."""
    keys = target.neutral_key
    conditions = [equal(key, Name("o", key.name), Name("n", key.name)) for key in keys if not key.nullable]
    nullable = [key for key in keys if key.nullable]
    if nullable:
        conditions.append(SQL("{} = {}").format(hashed(nullable, "o"), hashed(nullable, "n")))
        conditions += [same(key, Name("o", key.name), Name("n", key.name)) for key in nullable]
    return conjunction(conditions)


def _unlike(target: Target) -> Composable:
    """One side is missing, or some column looks different."""
    exact = {key.name for key in loosened(target.neutral_key) if key.type.equality is Equality.EXACT}
    others = [column for column in loosened(target.neutral) if column.name not in exact]
    conditions = [differs(column, Name("n", column.name), Name("o", column.name)) for column in others]
    return SQL(" OR ").join([SQL("n.__here IS NULL"), SQL("o.__here IS NULL"), *conditions])


def _doubled(target: Target, logged: bool) -> Composable:
    keys = {column.name for column in target.key or ()}
    empty = [SQL("CAST(NULL AS {})").format(verbatim(column.type.name)) for column in target.columns]
    grouped = commas(Name("t", column.name) for column in target.columns if column.name in keys)
    group = SQL(" GROUP BY {}").format(grouped) if keys else SQL("")
    return SQL("SELECT {}, FALSE, FALSE FROM {} AS t{} HAVING count(*) > 1").format(
        commas(empty * 2 if logged else empty), table(target.relation), group
    )


def _state_steps(state: State, bindings: Bindings, name: str) -> list[Step]:
    """The state computed again; groups that are as they were are not written."""
    fresh, kept = table(Relation("pg_temp", name)), table(state.target.relation)
    keys = tuple(key.name for key in state.target.columns)
    every = [Name(column) for column in (*keys, *state.stored)]
    match = state.match("t", "f")
    # A record's image tells apart what has no equality, too.
    images = [SQL("ROW({})::pg_catalog.record").format(commas(Name(a, c) for c in state.stored)) for a in "tf"]
    written = SQL(
        "WITH gone AS (DELETE FROM {kept} AS t WHERE NOT EXISTS (SELECT FROM {fresh} AS f WHERE {match}) RETURNING 1),"
        " changed AS (UPDATE {kept} AS t SET {values} FROM {fresh} AS f WHERE {match}"
        " AND {old} OPERATOR(pg_catalog.*<>) {new} RETURNING 1)"
        " INSERT INTO {kept} ({every}) SELECT {added} FROM {fresh} AS f"
        " WHERE NOT EXISTS (SELECT FROM {kept} AS t WHERE {match})"
    ).format(
        kept=kept,
        fresh=fresh,
        match=match,
        values=commas(SQL("{0} = f.{0}").format(Name(column)) for column in state.stored),
        old=images[0],
        new=images[1],
        every=commas(every),
        added=commas(SQL("f.{}").format(column) for column in every),
    )
    # A group twice in the state, which a fault would be, is not told apart by that: then all of it is written again.
    emptied = SQL("DELETE FROM {kept} WHERE (SELECT count(*) FROM {kept}) <> (SELECT count(*) FROM {fresh})")
    filled = SQL("INSERT INTO {kept} ({every}) SELECT {every} FROM {fresh} WHERE NOT EXISTS (SELECT FROM {kept})")
    computed = with_hash(state, state_now(state, bindings))
    return [
        _created(Relation("pg_temp", name), computed),
        Step(written),
        Step(emptied.format(kept=kept, fresh=fresh)),
        Step(filled.format(kept=kept, fresh=fresh, every=commas(every))),
    ]
