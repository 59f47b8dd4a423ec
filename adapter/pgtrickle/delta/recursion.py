"""The step of a recursion as a function of the rows that it reads, in several states of the tables beside them.

A step S is linear in the recursion's rows, so it is told by what it makes of each row; tables beside them make it
change from S_old to S_new. Between the two lies S_mid: every table without the rows that came (with those that went,
where fewer rows mean more: right of an anti join). So S_mid ≤ S_old and S_mid ≤ S_new row by row, whatever changed::

    S_new = S_mid + gain        S_old = S_mid + loss        delta = S_new − S_old = gain − loss

``gain`` is found by the same rules as ``delta``, reading the tables as they are now; only what counts as a change is
different. docs/concepts/recursion.md says what the three are for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pgtrickle.delta import RULES, Fresh
from pgtrickle.delta.differentiate import Differentiation
from pgtrickle.delta.linear import delta_apply, delta_unary
from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import col
from pgtrickle.ir.operators import (
    Apply,
    Empty,
    Expand,
    Expose,
    Named,
    Operator,
    Project,
    Recursion,
    Scan,
    SelfReference,
    Weigh,
    children_of,
    rebuild,
)
from pgtrickle.ir.recursion import path_of
from pgtrickle.ir.schema import INT8, Column

#: How often a row is there: an ordinary column of the rows that a step reads and makes.
COPIES = Column("__copies", INT8, nullable=False)

_Rule = Callable[[Any, Differentiation], Operator]


@dataclass(slots=True)
class StepChanges:
    """What a recursion's terms make of changes.

    Attributes:
        op: the recursion.
        changed: the changed scans in it -> the number of their relations ``changes_<n>`` (net), ``came_<n>`` and
            ``went_<n>`` (those with positive and negative weights).
    """

    op: Recursion
    changed: Mapping[Scan, int]
    _fresh: Fresh = field(default_factory=Fresh)

    def base(self) -> Operator:
        """The delta of the base."""
        return self._differentiation("changes").delta(self.op.base)

    def now(self, rows: Operator) -> Operator:
        """What the step makes now of these rows (columns of the self-reference, then `COPIES`): plain rows."""
        step = _over(self.op.step, self.op.name, rows)
        columns = (*self.op.step.columns, COPIES)
        return Project(step, columns, tuple(col(column.name) for column in columns))

    def delta(self, rows: Operator) -> Operator:
        """How that changed: weighted rows, each of which stands for weight times copies."""
        return self._differentiation("changes").delta(self.now(rows))

    def gain(self, rows: Operator) -> Operator:
        """What it makes of these rows now more than S_mid does."""
        return self._polar()[0].delta(self.now(rows))

    def losing(self) -> frozenset[str]:
        """The relations of changes without which nothing is lost."""
        return _named(self._polar()[1].delta(self.op.step))

    def _polar(self) -> tuple[Differentiation, Differentiation]:
        more, less = self._differentiation("came"), self._differentiation("went")
        more.mirror, less.mirror = less, more
        return more, less

    def _differentiation(self, kind: str) -> Differentiation:
        def scan(op: Scan, d: Differentiation) -> Operator:
            number = self.changed.get(op)
            return Empty(op.columns) if number is None else Named(f"{kind}_{number}", op.columns, weighted=True)

        own: Mapping[type, _Rule] = {
            Scan: scan,
            Named: _constant,
            SelfReference: _constant,
            Apply: _delta_apply,
            Expand: _delta_expand,
        }
        inputs = frozenset(scan.input for scan in self.changed)
        return Differentiation(inputs, {**RULES, **own}, self._fresh)


def _constant(op: Named | SelfReference, d: Differentiation) -> Operator:
    """Rows that do not change here."""
    return Empty(op.columns)


def _delta_expand(op: Expand, d: Differentiation) -> Operator:
    """Tables inside do not change here: if they do, the whole recursion is computed again."""
    return delta_unary(op, d)


def _delta_apply(op: Apply, d: Differentiation) -> Operator:
    """The same for subqueries; they are evaluated for plain rows, so the weight becomes a column on the way."""
    if not any(call.inputs for call in op.calls):
        return delta_apply(op, d)
    below = d.delta(op.child)
    if isinstance(below, Empty):
        return Empty(op.columns)
    weight = Column(d.fresh("weight"), INT8)
    weighed = Weigh(replace(op, child=Expose(below, weight)), col(weight.name))
    return Project(weighed, op.columns, tuple(col(column.name) for column in op.columns))


def _over(op: Operator, name: str, rows: Operator) -> Operator:
    """A step over other rows, with `COPIES` handed up."""
    if isinstance(op, SelfReference):
        return rows
    below = path_of(op, name)
    if below is None:
        raise InternalError("a step that is not linear has no delta")
    result = rebuild(op, lambda child: _over(child, name, rows) if child is below else child)
    if isinstance(result, Project):
        return Project(result.child, (*result.columns, COPIES), (*result.exprs, col(COPIES.name)))
    return result


def _named(op: Operator) -> frozenset[str]:
    own = frozenset({op.name}) if isinstance(op, Named) else frozenset[str]()
    return own.union(*(_named(child) for child in children_of(op)))
