"""The net change of a recursion: what is lost round by round, then what is found. docs/concepts/recursion.md has why.

Columns are the recursion's; `COPIES` says how often a row is lost or found, for UNION ALL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable

from pgtrickle.delta.recursion import COPIES, StepChanges
from pgtrickle.emit.consolidate import consolidate
from pgtrickle.emit.fragments import WEIGHT, Name, commas, conjunction, hashed, names, table
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.target import Target, stored_columns
from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import (
    Change,
    Empty,
    Filter,
    InputKey,
    Named,
    Operator,
    Project,
    Recursion,
    Scan,
    SelfReference,
    UnionAll,
    children_of,
)
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.plan import Bindings, Plan, Stage
from pgtrickle.rewrite.restrict import restrict
from pgtrickle.rewrite.stages import scans_of

_COPIES = Name(COPIES.name)
_UNION = SQL("\nUNION ALL\n")


def changed_recursion(
    plan: Plan, stage: Stage, target: Target, bindings: Bindings, changed: frozenset[InputKey], printer: Printer
) -> Composable | None:
    """The weighted rows by which a recursion changes. None if nothing can have changed."""
    op = stage.operator
    if not isinstance(op, Recursion):
        raise InternalError("a stage of this strategy is a recursion")
    scans = dict.fromkeys(scan for scan in scans_of(op) if scan.input in changed)
    step = StepChanges(op, {scan: number for number, scan in enumerate(scans)})
    shown = stored_columns(plan, stage)
    attributes = tuple((position + 1, column.name) for position, column in enumerate(shown))
    stored = Scan(InputKey("stage", stage.number), attributes, _reference(op.step, op.name).columns)
    refresh = _Refresh(op, step, stored, target, bindings, printer)
    refresh.define_changes(tuple(scans))
    return refresh.set() if op.distinct else refresh.bag()


def _shown(column: Column) -> Expr:
    return col(column.name)


def _reference(op: Operator, name: str) -> SelfReference:
    stack: list[Operator] = [op]
    while stack:
        node = stack.pop()
        if isinstance(node, SelfReference) and node.name == name:
            return node
        stack.extend(children_of(node))
    raise InternalError("a recursion does not read itself")


@dataclass(frozen=True, slots=True)
class _Refresh:
    """One statement. ``stored`` scans the rows before this refresh under the names of the self-reference."""

    op: Recursion
    step: StepChanges
    stored: Scan
    target: Target
    bindings: Bindings
    printer: Printer

    # --- UNION ALL ---------------------------------------------------------------------------------------------------

    def bag(self) -> Composable | None:
        """lost = base⁻ + loss(R_old) + S_mid(lost); found = base⁺ + gain(R_old − lost) + S_new(found)."""
        old = self._counted(self.stored)
        base = self._base()
        gain = self._rows(self.step.gain(old), self.printer)
        if base is None and gain is None:
            return None
        lost = [base[0]] if base else []
        found = [base[1]] if base else []
        if gain is not None:
            gained = self.printer.define("gained", gain)
            lost.append(self._loss(SQL("SELECT * FROM {}").format(gained), old))
            found.append(SQL("SELECT * FROM {}").format(gained))
        self._recursive("lost", _UNION.join(lost), self._kept_step("lost"))
        again = self._rows(self.step.gain(self._named("lost")), self.printer)
        if again is not None:
            found.append(self._negated(again))
        seeds = consolidate(self.op.columns, _UNION.join(found))
        now = self._rows(self.step.now(self._named("found")), self.printer)
        assert now is not None
        self._recursive("found", seeds, now)
        shown = names(self.op.columns)
        return SQL("SELECT {}, {} AS {} FROM found\nUNION ALL\nSELECT {}, -{} AS {} FROM lost").format(
            shown, _COPIES, WEIGHT, shown, _COPIES, WEIGHT
        )

    # --- UNION -------------------------------------------------------------------------------------------------------

    def set(self) -> Composable | None:
        """Delete and rederive: what lost a derivation and all that follows from it; then what is derived in any way."""
        old = self._counted(self.stored)
        base = self._base()
        gain = self._rows(self.step.gain(old), self.printer)
        if base is None and gain is None:
            return None
        lost = [base[0]] if base else []
        if gain is not None:
            lost.append(self._loss(gain, old))
        self._recursive("lost", _UNION.join(lost), self._kept_step("lost"))
        self._define_places()
        found = [self._derivable()]
        if base:
            found.append(base[1])
        gained = self._rows(self.step.gain(self._kept()), self.printer)
        if gained is not None:
            found.append(consolidate(self.op.columns, gained))  # a rule may add a row and take it away again
        now = self._rows(self.step.now(self._named("found")), self.printer)
        assert now is not None
        self._recursive("found", self._outside(_UNION.join(found)), self._outside(now))
        shown = names(self.op.columns)
        return SQL("SELECT {}, 1::pg_catalog.int8 AS {} FROM found\nUNION ALL\nSELECT {}, -1 AS {} FROM lost").format(
            shown, WEIGHT, shown, WEIGHT
        )

    def _kept(self) -> Operator:
        """The stored rows that are not lost."""
        place = Column("__place", INT8, nullable=False)
        attributes = (*self.stored.attributes, (-1, "ctid"))
        placed = replace(self.stored, attributes=attributes, columns=(*self.stored.columns, place))
        kept = Filter(placed, (text(col(place.name), " NOT IN (SELECT p.tid FROM places AS p)"),))
        return Project(
            kept, (*self.stored.columns, COPIES), (*map(_shown, self.stored.columns), text("1::pg_catalog.int8"))
        )

    def _derivable(self) -> Composable:
        """Lost rows that the base or a kept row still leads to."""
        made = Project(
            self.step.now(self._kept()), self.op.step.columns, tuple(col(c.name) for c in self.op.step.columns)
        )
        every = UnionAll((self.op.base, made), self.op.columns)
        again = restrict(every, Named("lost", self.op.columns), tuple(c.name for c in self.op.columns))
        self.printer.plan_sharing(again)
        shown = names(self.op.columns)
        return SQL("SELECT {}, 1::pg_catalog.int8 AS {} FROM ({}) AS again WHERE EXISTS (SELECT 1 FROM lost)").format(
            shown, WEIGHT, self.printer.select(again)
        )

    def _define_places(self) -> None:
        """Where the lost rows are stored: by their place they are told from the kept ones, however many they are."""
        match = self.target.match("t", "l")
        self.printer.define(
            "places",
            SQL("SELECT t.ctid AS tid FROM ({}) AS l JOIN {} AS t ON {}").format(
                self._hashed(SQL("SELECT * FROM lost")), table(self.target.relation), match
            ),
        )

    def _hashed(self, query: Composable) -> Composable:
        """Rows under neutral names with the hash by which they are found."""
        neutral = commas(
            SQL("{} AS {}").format(Name(mine.name), Name(other.name))
            for mine, other in zip(self.op.columns, self.target.neutral, strict=True)
        )
        return SQL("SELECT n.*, {} AS __h FROM (SELECT {} FROM ({}) AS p) AS n").format(
            hashed(self.target.neutral, "n"), neutral, query
        )

    def _outside(self, query: Composable) -> Composable:
        """Those rows of a query that are not stored, or lost."""
        shown = commas(
            SQL("q.{} AS {}").format(Name(neutral.name), Name(mine.name))
            for mine, neutral in zip(self.op.columns, self.target.neutral, strict=True)
        )
        return SQL(
            "SELECT {}, 1::pg_catalog.int8 AS {} FROM ({}) AS q LEFT JOIN {} AS t ON {}"
            " WHERE t.ctid IS NULL OR t.ctid IN (SELECT p.tid FROM places AS p)"
        ).format(shown, WEIGHT, self._hashed(query), table(self.target.relation), self.target.match("t", "q"))

    # --- both --------------------------------------------------------------------------------------------------------

    def define_changes(self, scans: tuple[Scan, ...]) -> None:
        """The net changes of each changed table, and those that came and that went apart."""
        for number, scan in enumerate(scans):
            net = self._consolidated(scan)
            changes = self.printer.define(f"changes_{number}", net)
            for kind, sign in (("came", SQL(">")), ("went", SQL("<"))):
                part = SQL("SELECT * FROM {} WHERE {} {} 0").format(changes, WEIGHT, sign)
                self.printer.define(f"{kind}_{number}", part)

    def _consolidated(self, scan: Scan) -> Composable:
        change = Change(scan)
        self.printer.plan_sharing(change)
        rows = self.printer.select(change)
        if scan.columns:
            return consolidate(scan.columns, rows)
        total = SQL("pg_catalog.sum({})").format(WEIGHT)
        return SQL("SELECT {}::pg_catalog.int8 AS {} FROM ({}) AS w HAVING {} <> 0.0").format(
            total, WEIGHT, rows, total
        )

    def _base(self) -> tuple[Composable, Composable] | None:
        """The rows that the base lost and those it found, with their numbers."""
        tree = self.step.base()
        if isinstance(tree, Empty):
            return None
        self.printer.plan_sharing(tree)
        columns = commas(
            SQL("{} AS {}").format(Name(mine.name), Name(shown.name))
            for mine, shown in zip(tree.columns, self.op.columns, strict=True)
        )
        rows = SQL("SELECT {}, {} FROM ({}) AS b").format(columns, WEIGHT, self.printer.select(tree))
        based = self.printer.define("based", consolidate(self.op.columns, rows))
        shown = names(self.op.columns)
        return (
            SQL("SELECT {}, -{} AS {} FROM {} WHERE {} < 0").format(shown, WEIGHT, WEIGHT, based, WEIGHT),
            SQL("SELECT {}, {} FROM {} WHERE {} > 0").format(shown, WEIGHT, based, WEIGHT),
        )

    def _loss(self, gain: Composable, old: Operator) -> Composable:
        """loss = gain − delta; not computed if no change can lose a row."""
        delta = self._rows(self.step.delta(old), self.printer)
        assert delta is not None
        gate = SQL(" OR ").join(
            SQL("EXISTS (SELECT 1 FROM {})").format(Name(name)) for name in sorted(self.step.losing())
        )
        both = SQL("{}\nUNION ALL\n{}").format(gain, self._negated(delta))
        gated = SQL("SELECT * FROM ({}) AS g WHERE {}").format(both, gate)
        return SQL("SELECT {}, {} FROM ({}) AS loss").format(
            names(self.op.columns), WEIGHT, consolidate(self.op.columns, gated)
        )

    def _kept_step(self, name: str) -> Composable:
        """S_mid over the rows of the round before: S_new without what it gained."""
        inner = Printer(self.bindings)
        rows = self._named("round")
        copies: Composable = SQL("1::pg_catalog.int8") if self.op.distinct else _COPIES
        shown = SQL("SELECT {}, {} AS {} FROM {}").format(names(self.op.columns), copies, _COPIES, Name(name))
        inner.define("round", shown)
        now = self._rows(self.step.now(rows), inner)
        gain = self._rows(self.step.gain(rows), inner)
        assert now is not None
        if gain is None:
            return inner.statement(now)
        both = SQL("{}\nUNION ALL\n{}").format(now, self._negated(gain))
        return inner.statement(consolidate(self.op.columns, both))

    def _recursive(self, name: str, seeds: Composable, step: Composable) -> None:
        """A recursive relation of this statement, over weighted rows.

        The planner takes every round for ten times the seeds, and would read whole tables to join one, when most
        changes lead to a handful of rows. So it is made to think that there are few seeds, by conditions that are
        always true. Not that there is but one row in a round: where an index is missing, it still joins by hash.
        """
        given = self.printer.define(f"{name}_seeds", seeds)
        few = conjunction(SQL("{} = ({} {} 0)").format(WEIGHT, WEIGHT, SQL(sign)) for sign in ("|", "#", "<<"))
        shown: Composable = names(self.op.columns)
        if not self.op.distinct:
            shown = SQL("{}, {} AS {}").format(shown, WEIGHT, _COPIES)
        word = SQL("UNION") if self.op.distinct else SQL("UNION ALL")
        query = SQL("SELECT {} FROM {} WHERE {}\n{}\nSELECT {} FROM (\n{}\n) AS step")
        self.printer.define(name, query.format(shown, given, few, word, shown, step), recursive=True)

    def _rows(self, tree: Operator, printer: Printer) -> Composable | None:
        """Rows that the step makes, under the recursion's names, their number as weight."""
        if isinstance(tree, Empty):
            return None
        printer.plan_sharing(tree)
        weight = SQL("{} * {}").format(_COPIES, WEIGHT) if tree.weighted else _COPIES
        columns = [
            SQL("{} AS {}").format(Name(mine.name), Name(shown.name))
            for mine, shown in zip(self.op.step.columns, self.op.columns, strict=True)
        ]
        return SQL("SELECT {}, {} AS {} FROM ({}) AS s").format(commas(columns), weight, WEIGHT, printer.select(tree))

    def _negated(self, rows: Composable) -> Composable:
        return SQL("SELECT {}, -{} FROM ({}) AS n").format(names(self.op.columns), WEIGHT, rows)

    def _named(self, name: str) -> Operator:
        """Rows of this statement as the step reads them."""
        rows: Operator = Named(name, self.op.columns if self._plain(name) else (*self.op.columns, COPIES))
        return self._renamed(rows)

    def _plain(self, name: str) -> bool:
        """Rows of a UNION are there once; only those of a round have their number beside them."""
        return self.op.distinct and name != "round"

    def _renamed(self, rows: Operator) -> Operator:
        shown = self.stored.columns
        exprs = [col(column.name) for column in rows.columns]
        if len(exprs) == len(shown):
            exprs.append(text("1::pg_catalog.int8"))
        return Project(rows, (*shown, COPIES), tuple(exprs))

    def _counted(self, rows: Operator) -> Operator:
        """Plain rows, each there once."""
        return self._renamed(rows)
