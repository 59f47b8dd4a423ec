"""Which `=` of the query's conditions tells values apart as the types of both sides do, each by its own `=`.

Keys, semi joins and outer joins rely on that. It is not so where PostgreSQL converts a side without showing it (USING,
NATURAL, the right side of IN) and the conversion makes different values one, or equal ones two: bigint and numeric to
float, varchar to char, citext to text. Nor between timestamp and timestamptz: in the hour that daylight saving skips,
two local times are one moment. Such conditions are written with the conversion in the open; both sides are then of one
type.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg.sql import SQL, Composed

from pgtrickle import db
from pgtrickle.analyze.probe import Probe, probe, rolled_back
from pgtrickle.analyze.types import CIDR, INET, NAME, TEXT, VARCHAR, TypeLoader
from pgtrickle.db import Connection
from pgtrickle.emit.fragments import commas, verbatim
from pgtrickle.errors import PgTrickleError
from pgtrickle.ir.expr import Expr, equals, text
from pgtrickle.ir.schema import NUMERIC, Type
from pgtrickle.parse.equality import Side, shown_sides
from pgtrickle.plan import MOMENTS, Rewrite

_DATE, _TIMESTAMP, _TIMESTAMPTZ = 1082, 1114, 1184
#: Base types that compare with each other without losing anything: no two values of one equal one value of another.
_ALIKE = (
    frozenset({21, 23, 20, NUMERIC}),
    frozenset({21, 23, 700, 701}),
    frozenset({_DATE, _TIMESTAMP}),
    frozenset({TEXT, VARCHAR, NAME}),
    frozenset({INET, CIDR}),
)
#: Where `=` between two of these means the moment that a local time is in the session's time zone.
_MOMENT = "pg_catalog.timestamptz"
_MOMENTS = (frozenset({_TIMESTAMP, _TIMESTAMPTZ}), frozenset({_DATE, _TIMESTAMPTZ}))


@dataclass(frozen=True, slots=True)
class _Casts:
    """The types to which the sides of an equality are converted (None: as it is)."""

    left: str | None = None
    right: str | None = None


@dataclass(slots=True)
class Equalities:
    """Settles the equalities of one analysis; asks the server once per pair of types. Notes what it did."""

    conn: Connection
    types: TypeLoader
    rewrites: list[Rewrite] = field(default_factory=list)
    _known: dict[tuple[int, int], _Casts | None] = field(default_factory=dict)

    def settled(self, condition: Expr, left: Type, right: Type) -> Expr:
        """A condition ``a = b`` that means the same and has sides only if each has values of the other's type.

        Args:
            condition: an equality with sides.
            left: the type of its left side.
            right: the type of its right side.
        """
        if condition.sides is None or _tells_apart(left, right):
            return condition
        pair = (left.oid, right.oid)
        if pair not in self._known:
            self._known[pair] = self._asked(left, right)
            self._note(left, right, self._known[pair])
        casts = self._known[pair]
        if casts is None:
            return Expr(condition.parts)
        return equals(_cast(condition.sides[0], casts.left), _cast(condition.sides[1], casts.right))

    def _note(self, left: Type, right: Type, casts: _Casts | None) -> None:
        compared = f"{left.name} = {right.name}"
        if casts is None:
            self.rewrites.append(Rewrite("equality", f"{compared} is a condition like any other, not a key"))
        else:
            moments = frozenset({left.base_oid, right.base_oid}) in _MOMENTS
            wider = casts.left or casts.right
            self.rewrites.append(Rewrite(MOMENTS if moments else "equality", f"{compared} is compared as {wider}"))

    def _asked(self, left: Type, right: Type) -> _Casts | None:
        """How the server converts both sides; None if the sides are not of one type then."""
        rows = SQL("(SELECT NULL::{} AS m, NULL::{} AS t) AS q").format(verbatim(left.name), verbatim(right.name))
        try:
            with rolled_back(self.conn):
                shown = self._probed(SQL("SELECT q.m = q.t AS e FROM {}").format(rows), "pgtrickle_equality")
                sides = shown_sides(shown.canonical)
                if sides is None:
                    return None
                printed = commas(verbatim(side.text) for side in sides)
                converted = self._probed(SQL("SELECT {} FROM {}").format(printed, rows), "pgtrickle_sides").columns
        except PgTrickleError as error:
            if db.passes(error):
                raise
            return None
        pairs = [(column.type_oid, column.typmod) for column in converted]
        loaded = self.types.load(pairs)
        return _casts(sides, loaded[pairs[0]], loaded[pairs[1]])

    def _probed(self, query: Composed, name: str) -> Probe:
        return probe(self.conn, query.as_string(self.conn).replace("%%", "%"), name, catalog_path=False)


def _tells_apart(left: Type, right: Type) -> bool:
    """Whether values of both types are equal only to those that they are equal to among their own."""
    if left.base_oid == right.base_oid:
        return left.equals == ("pg_catalog", "=")
    return any({left.base_oid, right.base_oid} <= alike for alike in _ALIKE)


def _casts(sides: tuple[Side, Side], left: Type, right: Type) -> _Casts | None:
    """The conversions of an equality of which the server shows these sides, with these types."""
    bases = frozenset({left.base_oid, right.base_oid})
    if bases in _MOMENTS:
        return _Casts(*(None if kind.base_oid == _TIMESTAMPTZ else _MOMENT for kind in (left, right)))
    own = len(bases) == 1 and left.equals is not None and left.equals[1] == "="
    if not (own or _tells_apart(left, right)):
        return None
    both = zip(sides, (left, right), strict=True)
    return _Casts(*(kind.name if side.converted else None for side, kind in both))


def _cast(side: Expr, name: str | None) -> Expr:
    return side if name is None else text("(", side, f")::{name}")
