"""Types as the server knows them, with the facts that the compiler needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.ir.schema import NUMERIC, Equality, Type
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")

TEXT, VARCHAR, BPCHAR, INET, CIDR, NAME = 25, 1043, 1042, 869, 650, 19
ANYARRAY, ANYENUM, RECORD, ANYRANGE, ANYMULTIRANGE = 2277, 3500, 2249, 3831, 4537

#: Base types whose ``=`` holds only between values that look the same.
_EXACT = frozenset(
    {16, 17, 18, NAME, 20, 21, 23, TEXT, 26, VARCHAR, 1082, 1083, 1114, 1184, 1266, 2950}
    | {INET, CIDR, 829, 774, 1560, 1562, 790, 3220, 24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191}
    | {5069, 27}
)
_FLOATS = frozenset({700, 701})
OID = 26
#: regclass and its like are compared as the OIDs that they are.
_NAMED_OIDS = frozenset({24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191})
_TEXTUAL = frozenset({TEXT, VARCHAR, BPCHAR, NAME})
#: Longest declared text that surely fits into a btree entry, in characters of up to four bytes.
_SHORT_TEXT = 200
_VARIABLE_HEADER = 4


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One row of the query ``types``."""

    oid: int
    typtype: str
    category: str
    length: int
    base_oid: int
    base_typmod: int
    not_null: bool
    element_oid: int
    subtype_oid: int
    field_oids: list[int]
    send_schema: str | None
    send_name: str | None
    output_schema: str
    output_name: str


@dataclass(frozen=True, slots=True)
class _Operator:
    oid: int
    schema: str
    name: str


class TypeLoader:
    """Loads types on demand and remembers them; good for one analysis.

    Args:
        conn: the connection of the analysis.
        coarse_text: some collation of the query is non-deterministic, so no text type is exact.
        exact_floats: floats are shown with all their digits.
    """

    def __init__(self, conn: db.Connection, *, coarse_text: bool = False, exact_floats: bool = True) -> None:
        self._conn = conn
        self._coarse_text = coarse_text
        self._exact_floats = exact_floats
        self._rows: dict[int, TypeRow] = {}
        self._names: dict[tuple[int, int], str] = {}
        operators = db.fetch_all(conn, _QUERIES["equality_operators"], _Operator)
        self._equals = {operator.oid: (operator.schema, operator.name) for operator in operators}
        self._sortable = {row["oid"] for row in db.fetch_all(conn, _QUERIES["sortable_types"], dict)}
        self._hashable = {row["oid"] for row in db.fetch_all(conn, _QUERIES["hashable_types"], dict)}

    def load(self, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], Type]:
        """Types by (OID, type modifier)."""
        pairs = sorted(set(wanted))
        self._load_rows({oid for oid, _ in pairs})
        self._load_names(pairs)
        return {pair: self._type(*pair) for pair in pairs}

    def _load_rows(self, oids: set[int]) -> None:
        missing = oids - self._rows.keys() - {0}
        while missing:
            rows = db.fetch_all(self._conn, _QUERIES["types"], TypeRow, {"oids": sorted(missing)})
            self._rows |= {row.oid: row for row in rows}
            parts = {oid for r in rows for oid in (r.base_oid, r.element_oid, r.subtype_oid, *r.field_oids)}
            missing = parts - self._rows.keys() - {0}

    def _load_names(self, pairs: list[tuple[int, int]]) -> None:
        missing = [pair for pair in pairs if pair not in self._names]
        if not missing:
            return
        params = {"oids": [oid for oid, _ in missing], "typmods": [typmod for _, typmod in missing]}
        # Printed for statements that are executed under the safe path, and so under that.
        for row in db.fetch_all(self._conn, _QUERIES["type_names"], dict, params):
            self._names[row["oid"], row["typmod"]] = row["name"]

    def _type(self, oid: int, typmod: int) -> Type:
        base = self._base(oid)
        effective = typmod if base.oid == oid else self._base_typmod(oid)
        lookup = _operator_class_type(base)
        sent = self._has_send(base)
        return Type(
            oid=oid,
            typmod=typmod,
            name=self._names[oid, typmod],
            equality=self._equality(base.oid, effective),
            equals=self._equals.get(lookup) if self._comparable(base.oid, set(self._equals)) else None,
            hashable=self._comparable(base.oid, self._hashable),
            sortable=self._comparable(base.oid, self._sortable),
            fixed=_is_short(base, effective),
            category=base.category,
            base_oid=base.oid,
            image=(base.send_schema, base.send_name)
            if base.send_schema and base.send_name and sent
            else (base.output_schema, base.output_name),
            image_is_text=not sent,
            exact_text=self._exact_floats or base.oid not in _FLOATS,
            not_null=self._is_not_null(self._rows[oid]),
        )

    def _base(self, oid: int) -> TypeRow:
        row = self._rows[oid]
        return self._base(row.base_oid) if row.typtype == "d" else row

    def _is_not_null(self, row: TypeRow) -> bool:
        return row.typtype == "d" and (row.not_null or self._is_not_null(self._rows[row.base_oid]))

    def _base_typmod(self, oid: int) -> int:
        row = self._rows[oid]
        if row.typtype != "d":
            return -1
        inner = self._base_typmod(row.base_oid)
        return inner if inner != -1 else row.base_typmod

    def _parts(self, row: TypeRow) -> tuple[int, ...]:
        return tuple(oid for oid in (row.element_oid, row.subtype_oid, *row.field_oids) if oid)

    def _has_send(self, row: TypeRow) -> bool:
        """Whether a value can be sent: an array of what has no send function has one that fails."""
        base = self._base(row.oid)
        return bool(base.send_name) and all(self._has_send(self._rows[part]) for part in self._parts(base))

    def _comparable(self, oid: int, having: set[int]) -> bool:
        """Whether the type has such an operator class, and all its parts too."""
        base = self._base(oid)
        if _operator_class_type(base) not in having:
            return False
        return all(self._comparable(part, having) for part in self._parts(base))

    def _equality(self, oid: int, typmod: int) -> Equality:
        base = self._base(oid)
        if not self._comparable(oid, set(self._equals)):
            return Equality.NONE
        parts = self._parts(base)
        if parts:
            exact = all(self._equality(part, self._base_typmod(part)) is Equality.EXACT for part in parts)
            return Equality.EXACT if exact else Equality.COARSE
        if base.oid in _TEXTUAL and self._coarse_text:
            return Equality.COARSE
        known_shape = base.oid in (NUMERIC, BPCHAR) and typmod >= 0
        exact = base.oid in _EXACT or base.typtype == "e" or known_shape
        return Equality.EXACT if exact else Equality.COARSE


def _operator_class_type(row: TypeRow) -> int:
    """The type under which the operator classes of this type are registered."""
    if row.element_oid:
        return ANYARRAY
    polymorphic = {"e": ANYENUM, "c": RECORD, "r": ANYRANGE, "m": ANYMULTIRANGE}
    if row.typtype in polymorphic:
        return polymorphic[row.typtype]
    return OID if row.oid in _NAMED_OIDS else {VARCHAR: TEXT, CIDR: INET}.get(row.oid, row.oid)


def _is_short(row: TypeRow, typmod: int) -> bool:
    if row.oid in (VARCHAR, BPCHAR):
        return 0 <= typmod - _VARIABLE_HEADER <= _SHORT_TEXT
    return row.length > 0 or row.typtype == "e" or (row.oid == NUMERIC and typmod >= 0)
