"""The weighted rows by which a stage's output changes, for each strategy. All columns under their operator's names."""

from __future__ import annotations

from dataclasses import replace

from psycopg.sql import SQL, Composable

from pgtrickle.delta import delta
from pgtrickle.emit.apply import Changes
from pgtrickle.emit.consolidate import consolidate
from pgtrickle.emit.fragments import WEIGHT, Name, commas, names, table
from pgtrickle.emit.moved import move
from pgtrickle.emit.pairs import paired, shows_groups
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.state import state_of
from pgtrickle.emit.target import Target, finder
from pgtrickle.emit.tops import grouping_of, keyed_of, rebuilt
from pgtrickle.errors import InternalError
from pgtrickle.ir.operators import Empty, InputKey, Named, Operator
from pgtrickle.ir.schema import Column
from pgtrickle.plan import Bindings, Stage
from pgtrickle.rewrite.restrict import restrict


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


def changed_groups(
    stage: Stage, target: Target, bindings: Bindings, changed: frozenset[InputKey], printer: Printer
) -> Changes | None:
    """Strategy AGGREGATE: state changed by the delta; output rows before and after."""
    state = state_of(stage, bindings)
    if state is None:
        raise InternalError("a stage of this strategy adds and subtracts")
    chain, grouping = grouping_of(stage.operator)
    rows = changed_rows(grouping.child, changed, printer)
    if rows is None:
        return None
    move(state, rows, printer)
    faults = (SQL('(SELECT count(*) FROM moved WHERE "n___count" < 0)'),)
    if shows_groups(chain, grouping, _inner_key(stage)):
        return Changes(paired(state, chain), paired=True, faults=faults)
    before = rebuilt(chain, state.results("moved", "o_"))
    after = rebuilt(chain, state.results("moved", "n_"))
    both = compared(printer.select(after), printer.select(before), stage.operator.columns)
    return net_changes(stage, target, consolidate(stage.operator.columns, both), faults)


def _inner_key(stage: Stage) -> tuple[str, ...] | None:
    """The stage's key under the names of its operator."""
    if stage.key is None:
        return None
    by_name = {shown.name: column.name for shown, column in zip(stage.columns, stage.operator.columns, strict=True)}
    return tuple(by_name[name] for name in stage.key)


def net_changes(stage: Stage, target: Target, net: Composable, faults: tuple[Composable, ...] = ()) -> Changes:
    """Consolidated rows under the operator's names as what is to be applied."""
    renamed = commas(
        SQL("{} AS {}").format(Name(mine.name), Name(stored.name))
        for mine, stored in zip(stage.operator.columns, target.neutral, strict=True)
    )
    return Changes(SQL("SELECT {}, {} FROM ({}) AS c").format(renamed, WEIGHT, net), faults=faults)
