"""Bringing a delta into the state of a grouping, in one statement, step by step.

What ``came`` per group, what that makes of the stored state (``met``), the groups of which a kept value is spoilt
looked up ``again``, and each touched group before and after (``moved``).

Whether a value that left is made up for by the same value that came costs a sort of all rows, and is asked only of the
groups where it matters (``doubted``): those where what left, taken alone, reaches the kept value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from psycopg.sql import SQL, Composable

from pgtrickle.delta.aggregates import COUNT_REF, KeptValue, LookedUp
from pgtrickle.emit.fragments import Name, commas, names, scalar, table
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.state import State, with_hash
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Filter, Named
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.names import WEIGHT_COLUMN
from pgtrickle.rewrite.restrict import restrict


def move(state: State, weighted: Composable, printer: Printer) -> None:
    """Define ``moved``: each touched group with its state before (``o_``) and after (``n_``); write what is after."""
    # To balance few rows is cheaper than to ask where it is needed.
    if state.kept and not printer.few:
        printer.define("brought", weighted)
        came = state.changed(SQL("SELECT * FROM brought"), balanced=False)
    else:
        came = state.changed(weighted)
    printer.define("came", with_hash(state, came), fenced=False)
    if state.values:
        printer.define("met", _met(state, printer))
        printer.define("moved", _mended(state, printer))
    else:
        printer.define("moved", _added(state))
    _write(state, printer)


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


def _met(state: State, printer: Printer) -> Composable:
    """The same with the values: before, came, left, and merged; ``x_s1`` if one has to be looked up."""
    found = [SQL("t.{} AS {}").format(Name(name), Name(f"o_{name}")) for name in state.values]
    for name in state.kept:
        found.append(SQL("g.{} AS {}").format(Name(name), Name(f"c_{name}")))
        found.append(SQL("g.{0} AS {0}").format(Name(f"g_{name}")))
    at_first = _judged(state, _added(state, *found))
    if not state.kept or printer.few:
        return at_first
    printer.define("seen", at_first)
    printer.define("balanced", with_hash(state, state.balanced(_doubted(state, printer))))
    columns: list[Composable] = [SQL("m.{}").format(Name(key.name)) for key in state.target.columns]
    for name in (COUNT_REF, *state.totals):
        columns += [SQL("m.{}").format(Name(f"{prefix}{name}")) for prefix in ("o_", "n_")]
    columns += [SQL("m.{}").format(Name(f"o_{name}")) for name in state.values]
    doubted = _any_spoilt(state.kept, "m")
    for name in state.kept:
        for mine, balanced in ((f"c_{name}", name), (f"g_{name}", f"g_{name}")):
            columns.append(
                SQL("CASE WHEN {} THEN r.{} ELSE m.{mine} END AS {mine}").format(
                    doubted, Name(balanced), mine=Name(mine)
                )
            )
    query = SQL("SELECT {}, m.__tid FROM seen AS m LEFT JOIN balanced AS r ON {} AND {}")
    return _judged(state, query.format(commas(columns), doubted, state.match("m", "r")))


def _judged(state: State, found: Composable) -> Composable:
    """Groups with what is merged of before and came, and ``x_s1``, whether it may rest on what left."""
    merged, spoilt = [], []
    for name, part in state.values.items():
        before, came, now, left = (col(f"{prefix}_{name}") for prefix in "ocng")
        if isinstance(part, KeptValue):
            merged.append(SQL("{} AS {}").format(scalar(part.merged(before, came)), Name(f"n_{name}")))
            is_spoilt = part.spoilt(before, came, now, left)
        else:
            merged.append(SQL("{} AS {}").format(scalar(before), Name(f"n_{name}")))
            owner = next(columns for _, _, columns in state.calls if columns.get(part.name) == name)
            is_spoilt = part.wanted({suffix: f"n_{column}" for suffix, column in owner.items()})
        alive = SQL("{} > 0").format(Name(f"n_{COUNT_REF}"))
        spoilt.append(SQL("{} AND COALESCE({}, FALSE) AS {}").format(alive, scalar(is_spoilt), Name(f"x_{name}")))
    inner = SQL("SELECT a.*, {} FROM ({}) AS a").format(commas(merged), found)
    return SQL("SELECT b.*, {} FROM ({}) AS b").format(commas(spoilt), inner)


def _doubted(state: State, printer: Printer) -> Composable:
    """What was brought to the groups of which a kept value seems to be spoilt."""
    doubted = _any_spoilt(state.kept, "seen")
    if state.grouping.scalar:
        return SQL("SELECT * FROM brought WHERE EXISTS (SELECT 1 FROM seen WHERE {})").format(doubted)
    keys = state.grouping.key_columns
    printer.define("doubted", SQL("SELECT {} FROM seen WHERE {}").format(_under_own_names(state), doubted))
    brought = Named("brought", (*state.grouping.child.columns, Column(WEIGHT_COLUMN, INT8)))
    return printer.select(restrict(brought, Named("doubted", keys), state.grouping.keys))


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
        query, _any_spoilt(state.values, "m"), state.target.match("m", "a")
    )


def _any_spoilt(values: Iterable[str], alias: str) -> Composable:
    return SQL("({})").format(SQL(" OR ").join(Name(alias, f"x_{name}") for name in values))


def _under_own_names(state: State) -> Composable:
    """The state's keys under the names that the grouping's input has for them."""
    pairs = zip(state.target.columns, state.grouping.key_columns, strict=True)
    return commas(SQL("{} AS {}").format(Name(mine.name), Name(key.name)) for mine, key in pairs)


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
    grouping, keys = state.grouping, state.grouping.key_columns
    # Usually few values are spoilt; the planner would expect most, and read the whole input for them.
    few = SQL("{count} = ({count} | 0)").format(count=Name("met", f"n_{COUNT_REF}"))
    spoilt = _any_spoilt(state.values, "met")
    printer.define("spoilt", SQL("SELECT {} FROM met WHERE {} AND {}").format(_under_own_names(state), spoilt, few))
    calls = tuple(AggregateCall(Column(f"a_{name}", INT8), _call(part)) for name, part in state.values.items())
    tree = replace(grouping, child=restrict(grouping.child, Named("spoilt", keys), grouping.keys), calls=calls)
    printer.plan_sharing(tree)
    pairs = zip(state.target.columns, keys, strict=True)
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
