"""From net changes to the stored table: DELETE, then UPDATE, then INSERT, in one statement, every row counted.

One statement, because each part reads the count of the one before, so unique values may move between rows; and
because nothing is evaluated twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Composed

from pgtrickle.emit.fragments import WEIGHT, Name, commas, image, names, table
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.target import Target
from pgtrickle.ir.schema import Column, Equality
from pgtrickle.plan import Relation, StageBinding

#: What an apply statement returns, in this order.
COUNTS = ("deleted", "updated", "inserted", "expected_deleted", "expected_updated", "expected_inserted", "faults")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a stage's output changes by.

    Attributes:
        query: net rows, columns under the target's neutral names, with ``__w``; or pairs as of `emit.pairs.paired`.
        paired: which of the two.
        faults: further counts that have to be 0.
    """

    query: Composable
    paired: bool = False
    faults: tuple[Composable, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Which rows of ``net`` are rows to delete, to update and to insert, and which are a fault."""

    gone: Composable
    changed: Composable
    added: Composable
    faulty: Composable


_PAIRED = _Kinds(SQL("n.__had AND NOT n.__has"), SQL("n.__had AND n.__has"), SQL("NOT n.__had"), SQL("FALSE"))
#: ``__n`` counts the rows of a key: the old one and the new one.
_NET = _Kinds(
    SQL("n.__w < 0 AND n.__n = 1"),
    SQL("n.__w > 0 AND n.__n > 1"),
    SQL("n.__w > 0 AND n.__n = 1"),
    SQL("n.__w NOT IN (-1, 1)"),
)


def apply(printer: Printer, target: Target, changes: Changes, binding: StageBinding) -> Composed:
    """The whole statement that brings changes into a table.

    Args:
        printer: holds the common table expressions that the changes refer to.
        target: the table.
        changes: what it changes by.
        binding: its log, if it has one, gets the net rows too, under the refresh number.

    Returns:
        A statement that returns one row, `COUNTS`.
    """
    _define_net(printer, target, changes)
    if binding.log is not None:
        _write_log(printer, target, binding.log, binding.log_columns, paired=changes.paired)
    counts = _keyed(printer, target, _PAIRED if changes.paired else _NET) if target.key is not None else None
    expected = SQL("SELECT {} FROM net AS n").format(commas(counts or _counted(printer, target)))
    faults = SQL(" + ").join([SQL("e.faults"), *changes.faults])
    body = SQL(
        "SELECT (SELECT count(*) FROM {}) AS deleted, (SELECT count(*) FROM {}) AS updated,"
        " (SELECT count(*) FROM {}) AS inserted, e.deleted AS expected_deleted, e.updated AS expected_updated,"
        " e.inserted AS expected_inserted, {} AS faults FROM ({}) AS e (deleted, updated, inserted, faults)"
    ).format(Name("gone"), Name("changed"), Name("added"), faults, expected)
    return printer.statement(body)


def _define_net(printer: Printer, target: Target, changes: Changes) -> None:
    extra: list[Composable] = []
    if not target.plain_index:
        extra.append(SQL("{} AS __h").format(target.hash("n")))
    if target.key is None:
        extra.append(SQL("pg_catalog.row_number() OVER () AS __i"))
    elif not changes.paired:
        partition = SQL("PARTITION BY {}").format(commas(map(_placed, target.neutral_key))) if target.key else SQL("")
        extra.append(SQL("count(*) OVER ({}) AS __n").format(partition))
    printer.define("net", SQL("SELECT {} FROM ({}) AS n").format(commas([SQL("n.*"), *extra]), changes.query))


def _placed(key: Column) -> Composable:
    """A key column to partition by. What only hashes is told apart by its image: a key that changes it moves."""
    return Name("n", key.name) if key.type.sortable else image(key, Name("n", key.name))


def _write_log(printer: Printer, target: Target, log: Relation, log_columns: tuple[str, ...], *, paired: bool) -> None:
    shown = names(target.neutral)
    written = commas(map(Name, log_columns)) if log_columns else shown
    rows: Composable = SQL("SELECT %(refresh_no)s::pg_catalog.int8, {}, {} FROM net").format(WEIGHT, shown)
    if paired:
        before = commas(Name(f"o{i}") for i in range(1, len(target.columns) + 1))
        rows = SQL(
            "SELECT %(refresh_no)s::pg_catalog.int8, -1, {} FROM net WHERE __had"
            " UNION ALL SELECT %(refresh_no)s::pg_catalog.int8, 1, {} FROM net WHERE __has"
        ).format(before, shown)
    printer.define("logged", SQL("INSERT INTO {} (__n, __w, {}) {} RETURNING 1").format(table(log), written, rows))


def _keyed(printer: Printer, target: Target, kinds: _Kinds) -> list[Composable]:
    """Rows with a key: an old and a new row of one key are an UPDATE. What to expect: `COUNTS` from there on."""
    out, shown = table(target.relation), names(target.columns)
    printer.define(
        "gone",
        SQL("DELETE FROM {} AS t USING net AS n WHERE {} AND {} RETURNING 1").format(
            out, kinds.gone, target.match("t", "n")
        ),
    )
    assignments = commas(
        SQL("{} = n.{}").format(Name(stored.name), Name(neutral.name)) for stored, neutral in _assignable(target)
    )
    changed = SQL(
        "UPDATE {} AS t SET {} FROM net AS n WHERE {} AND {} AND (SELECT count(*) FROM gone) >= 0 RETURNING 1"
    ).format(out, assignments, kinds.changed, target.match("t", "n"))
    printer.define("changed", changed if _assignable(target) else SQL("SELECT 1 WHERE FALSE"))
    printer.define(
        "added",
        SQL(
            "INSERT INTO {} ({}) SELECT {} FROM net AS n WHERE {} AND (SELECT count(*) FROM changed) >= 0 RETURNING 1"
        ).format(out, shown, names(target.neutral, "n"), kinds.added),
    )
    each = (kinds.gone, kinds.changed, kinds.added, kinds.faulty)
    return [SQL("count(*) FILTER (WHERE {})").format(kind) for kind in each]


def _assignable(target: Target) -> tuple[tuple[Column, Column], ...]:
    """Columns that an UPDATE of a row with the same key may change: all but the keys whose equality is exact."""
    fixed = {c.name for c in target.key or () if c.type.equality is Equality.EXACT}
    pairs = zip(target.columns, target.neutral, strict=True)
    return tuple((stored, neutral) for stored, neutral in pairs if stored.name not in fixed)


def _counted(printer: Printer, target: Target) -> list[Composable]:
    """Rows without a key: as many copies as the weight says are deleted or inserted. What to expect, as above."""
    out, shown = table(target.relation), names(target.columns)
    candidates = SQL(
        "SELECT t.ctid AS tid, -n.{} AS wanted, pg_catalog.row_number() OVER (PARTITION BY n.__i) AS number"
        " FROM net AS n JOIN {} AS t ON {} WHERE n.{} < 0"
    ).format(WEIGHT, out, target.match("t", "n"), WEIGHT)
    printer.define(
        "gone",
        SQL(
            "DELETE FROM {} AS t WHERE t.ctid = ANY (ARRAY(SELECT tid FROM ({}) AS c WHERE number <= wanted))"
            " RETURNING 1"
        ).format(out, candidates),
    )
    printer.define("changed", SQL("SELECT 1 WHERE FALSE"))
    printer.define(
        "added",
        SQL(
            "INSERT INTO {} ({}) SELECT {} FROM net AS n CROSS JOIN pg_catalog.generate_series(1, n.{}) AS copy"
            " WHERE n.{} > 0 AND (SELECT count(*) FROM gone) >= 0 RETURNING 1"
        ).format(out, shown, names(target.neutral, "n"), WEIGHT, WEIGHT),
    )
    total = SQL("COALESCE(pg_catalog.sum({}n.__w) FILTER (WHERE n.__w {} 0), 0)::pg_catalog.int8")
    none = SQL("0::pg_catalog.int8")
    return [total.format(SQL("-"), SQL("<")), none, total.format(SQL(""), SQL(">")), none]
