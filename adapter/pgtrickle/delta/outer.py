"""Delta rules for outer, anti and semi joins.

They are stateless: whether a row had a match before is known from the matches now and the matches among the changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pgtrickle.delta.differentiate import Differentiation
from pgtrickle.ir.expr import Expr, col, equals, text
from pgtrickle.ir.keys import derive_key
from pgtrickle.ir.operators import (
    Aggregate,
    AggregateCall,
    Anti,
    Empty,
    Expose,
    Filter,
    Join,
    Lookup,
    Negate,
    Operator,
    OuterJoin,
    OuterKind,
    Pad,
    Project,
    Scan,
    UnionAll,
    Weigh,
)
from pgtrickle.ir.schema import INT8, Column


def delta_outer(op: OuterJoin, d: Differentiation) -> Operator:
    """Δ(L ⟕ R) = Δ(L ⋈ R) + pad(Δ(L ▷ R)); a full join also pads Δ(R ▷ L)."""
    terms = [d.delta(Join((op.left, op.right), op.conditions)), _padded(op, op.left, op.right, d)]
    if op.kind is OuterKind.FULL:
        terms.append(_padded(op, op.right, op.left, d))
    changed = tuple(term for term in terms if not isinstance(term, Empty))
    return d.bounded(UnionAll(changed, op.columns)) if changed else Empty(op.columns)


def _padded(op: OuterJoin, kept: Operator, other: Operator, d: Differentiation) -> Operator:
    """The change of the rows of ``kept`` without a match, with NULL for the other side's columns."""
    below = d.delta(Anti(kept, other, op.conditions))
    if isinstance(below, Empty):
        return Empty(op.columns)
    return _only(Pad(below, other), op.columns)


def delta_anti(op: Anti, d: Differentiation) -> Operator:
    """Δ(L ▷ R) = ΔL·[no match before] + L·([no match now] − [no match before]).

    The second term concerns only rows of L that match a changed row of R. A semi join is L − (L ▷ R).
    """
    if op.semi:
        anti = _delta_anti(replace(op, semi=False), d, d.delta)
        terms = [d.delta(op.left), anti if isinstance(anti, Empty) else Negate(anti)]
        changed = tuple(term for term in terms if not isinstance(term, Empty))
        return UnionAll(changed, op.columns) if changed else Empty(op.columns)
    return _delta_anti(op, d, d.against)


#: The delta of an operator: `Differentiation.delta`, or `Differentiation.against` for what is subtracted.
_Delta = Callable[[Operator], Operator]


def _delta_anti(op: Anti, d: Differentiation, of_right: _Delta) -> Operator:
    if isinstance(of_right(op.right), Empty):
        below = d.delta(op.left)
        return below if isinstance(below, Empty) else replace(op, left=below)
    keyed = _keyed(op, d, of_right)
    return keyed if keyed is not None else _theta(op, d, of_right)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Equalities between the sides, and what the right side alone has to meet."""

    left: tuple[Expr, ...]
    right: tuple[Expr, ...]
    right_only: tuple[Expr, ...]


def equality_pairs(op: Anti | OuterJoin) -> Pairs | None:
    """The conditions taken apart, or None if some condition is neither an equality nor about the right side alone."""
    mine = {column.name for column in op.left.columns}
    theirs = {column.name for column in op.right.columns}
    left: list[Expr] = []
    right: list[Expr] = []
    alone: list[Expr] = []
    for condition in op.conditions:
        if condition.refs <= theirs:
            alone.append(condition)
            continue
        if condition.equality is None:
            return None
        a, b = condition.equality
        if b.refs <= mine:
            a, b = b, a
        if not (b.refs and a.refs <= mine and b.refs <= theirs):
            return None
        left.append(a)
        right.append(b)
    return Pairs(tuple(left), tuple(right), tuple(alone)) if left else None


def _keyed(op: Anti, d: Differentiation, of_right: _Delta) -> Operator | None:
    """The rule for equality conditions: decide per key of the changed rows of R, then look up the rows of L.

    A key that only lost matches had some before, one that only won matches has some now: so of the former it is asked
    whether any is left, and of the latter whether there are more than came.
    """
    pairs = equality_pairs(op)
    if pairs is None:
        return None
    right = Filter(op.right, pairs.right_only) if pairs.right_only else op.right
    delta_left, delta_right = d.delta(op.left), of_right(right)
    keys = tuple(Column(d.fresh("key"), INT8) for _ in pairs.right)
    changed = _changed_keys(delta_right, pairs.right, keys, d)
    matched = tuple(equals(mine, col(key.name)) for mine, key in zip(pairs.left, keys, strict=True))
    look = _Look(right, pairs.right, keys, changed.columns[-1], d)
    if _is_picky(op.left, pairs.left):
        # Most changed keys concern no row of L: the others alone are looked for on the right.
        met = Join((changed, op.left), matched)
        first, again = look.first(Project(met, changed.columns, tuple(col(c.name) for c in changed.columns)))
        back = tuple(equals(col(key.name), col(new.name)) for key, new in zip(keys, again, strict=True))
        terms: list[Operator] = [
            Weigh(_only(look.none_left(met), op.columns), text("1")),
            Weigh(_only(Join((first, met), back), op.columns), text("-1")),
        ]
    else:
        sign = Column(d.fresh("sign"), INT8)
        first, again = look.first(changed)
        turned = UnionAll(
            (_signed(look.none_left(changed), keys, sign, "1"), _signed(first, again, sign, "-1")),
            (*keys, sign),
        )
        terms = [_only(Weigh(Join((turned, op.left), matched), col(sign.name)), op.columns)]
    if not isinstance(delta_left, Empty):
        # Rows of ΔL whose key did not change on the right: no match before is no match now.
        quiet = Anti(Anti(delta_left, changed, matched), right, _conditions(pairs))
        # Not one more to look for: those that had none before.
        among = Anti(changed, Expose(delta_left, Column(d.fresh("weight"), INT8)), matched, semi=True)
        first, again = look.first(among)
        had_none = tuple(equals(mine, col(key.name)) for mine, key in zip(pairs.left, again, strict=True))
        terms += [quiet, _only(Join((first, delta_left), had_none), op.columns)]
    return UnionAll(tuple(terms), op.columns)


def _conditions(pairs: Pairs) -> tuple[Expr, ...]:
    return tuple(equals(a, b) for a, b in zip(pairs.left, pairs.right, strict=True))


def _is_picky(left: Operator, exprs: tuple[Expr, ...]) -> bool:
    """Whether a key concerns at most one row of L, and perhaps none: some condition stands between L and its tables."""
    key = derive_key(left)
    node = left
    while isinstance(node, Project):
        node = node.child
    return key is not None and key <= {expr.column for expr in exprs} and not isinstance(node, Scan)


def _changed_keys(
    delta_right: Operator, right: tuple[Expr, ...], keys: tuple[Column, ...], d: Differentiation
) -> Operator:
    """Per key: the net number of matching rows of R that came (or went, if negative)."""
    weight = Column(d.fresh("weight"), INT8)
    exposed = Expose(Project(delta_right, keys, right), weight)
    known = Filter(exposed, tuple(text(col(key.name), " IS DISTINCT FROM NULL") for key in keys))
    total = AggregateCall(Column(d.fresh("came"), INT8), text("sum(", col(weight.name), ")"))
    grouped = Aggregate(known, tuple(key.name for key in keys), (total,))
    return Filter(grouped, (text(col(total.column.name), " <> 0"),))


def _signed(op: Operator, keys: tuple[Column, ...], sign: Column, value: str) -> Operator:
    return Project(op, (*keys, sign), (*(col(key.name) for key in keys), text(value)))


@dataclass(frozen=True, slots=True)
class _Look:
    """How to look for the matches of changed keys.

    Attributes:
        right: the other side.
        exprs: what its rows match by.
        keys: the columns of a changed key.
        came: the column with the net number of its matches that came.
        d: makes names.
    """

    right: Operator
    exprs: tuple[Expr, ...]
    keys: tuple[Column, ...]
    came: Column
    d: Differentiation

    def none_left(self, rows: Operator) -> Operator:
        """The rows with a key that lost matches and has none now."""
        lost = Filter(rows, (text(col(self.came.name), " < 0"),))
        matched = tuple(equals(theirs, col(key.name)) for theirs, key in zip(self.exprs, self.keys, strict=True))
        return Anti(lost, self.right, matched)

    def first(self, rows: Operator) -> tuple[Operator, tuple[Column, ...]]:
        """The keys that won their first matches, which are all there are; and the columns that the keys have there."""
        won = Filter(rows, (text(col(self.came.name), " > 0"),))
        copies = tuple(replace(key, name=self.d.fresh("key")) for key in self.keys)
        present = Column(self.d.fresh("present"), INT8)
        theirs = Project(self.right, (*copies, present), (*self.exprs, text("1")))
        matched = tuple(equals(col(copy.name), col(key.name)) for copy, key in zip(copies, self.keys, strict=True))
        now = AggregateCall(Column(self.d.fresh("now"), INT8), text("count(", col(present.name), ")"))
        names = (*(key.name for key in self.keys), self.came.name)
        counted = Aggregate(Join((won, theirs), matched), names, (now,))
        all_new = Filter(counted, (text(col(now.column.name), " = ", col(self.came.name)),))
        again = tuple(replace(key, name=self.d.fresh("key")) for key in self.keys)
        return Project(all_new, again, tuple(col(key.name) for key in self.keys)), again


def _theta(op: Anti, d: Differentiation, of_right: _Delta) -> Operator:
    """The rule for any other condition: count the matches of each row of L that a changed row of R meets."""
    delta_left, delta_right = d.delta(op.left), of_right(op.right)
    weight = Column(d.fresh("weight"), INT8)
    changes = Expose(delta_right, weight)
    came = AggregateCall(Column(d.fresh("came"), INT8), text("COALESCE(sum(", col(weight.name), "), 0)"))
    now = AggregateCall(Column(d.fresh("now"), INT8), text("count(*)"))
    before = text("(", col(now.column.name), " - ", col(came.column.name), ")")

    def counted(rows: Operator) -> Operator:
        return Lookup(Lookup(rows, changes, op.conditions, (came,)), op.right, op.conditions, (now,))

    affected = Anti(op.left, changes, op.conditions, semi=True)
    sign = text("(", col(now.column.name), " = 0)::pg_catalog.int4 - (", before, " = 0)::pg_catalog.int4")
    terms: list[Operator] = [_only(Weigh(counted(affected), sign), op.columns)]
    if not isinstance(delta_left, Empty):
        terms.append(_only(Filter(counted(delta_left), (text(before, " = 0"),)), op.columns))
    return UnionAll(tuple(terms), op.columns)


def _only(op: Operator, columns: tuple[Column, ...]) -> Operator:
    return Project(op, columns, tuple(col(column.name) for column in columns))
