"""Types and columns as the compiler sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

_INTEGERS = frozenset({21, 23, 20})
NUMERIC = 1700
"""``pg_type.oid`` of numeric."""


class Equality(Enum):
    """How a type's ``=`` relates to what a user sees of a value."""

    EXACT = "exact"
    """Equal values look the same (integers, text under a deterministic collation, dates ...)."""
    COARSE = "coarse"
    """Equal values may look different (numeric without scale, float, interval, citext, jsonb ...)."""
    NONE = "none"
    """The type has no default ``=`` (json, xml, point ...)."""


@dataclass(frozen=True, slots=True)
class Type:
    """A PostgreSQL type with the facts that the compiler needs.

    Attributes:
        oid: ``pg_type.oid``.
        typmod: type modifier, -1 if none.
        name: ``format_type(oid, typmod)``, schema-qualified; valid in a cast and in a column definition.
        equality: how ``=`` relates to the image of a value.
        equals: the schema-qualified equality operator, as ``(schema, operator)``; None if there is none.
        hashable: the type has a default hash operator class (needed inside ``hash_record_extended``).
        sortable: the type has a default btree operator class.
        fixed: values are short whatever their content, so that a btree index cannot overflow.
        category: ``pg_type.typcategory`` of the base type.
        base_oid: the OID of the type under all domains (``oid`` itself for other types).
        image: a function from the type to bytea or text under which two values are equal only if they look the same, as
            ``(schema, function)``: the type's send function, or its output function where it has none.
        image_is_text: ``image`` is an output function and needs ``textin`` around it.
        exact_text: the text of a value gives the value back (not so for floats if ``extra_float_digits`` is below 1).
        scale: for a numeric without modifier the scale that all values of the column are known to have.
        endless: one with a known scale may yet be infinite: it was rounded, or is the year of a date.
        not_null: a domain that refuses NULL.
    """

    oid: int
    typmod: int
    name: str
    equality: Equality
    equals: tuple[str, str] | None
    hashable: bool
    sortable: bool
    fixed: bool
    category: str
    base_oid: int
    image: tuple[str, str]
    image_is_text: bool = False
    exact_text: bool = True
    scale: int | None = None
    endless: bool = False
    not_null: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether it is numeric itself, not a domain over it."""
        return self.oid == NUMERIC

    @property
    def fixed_scale(self) -> int | None:
        """The scale of every value of a numeric or integer type, None if values may differ in it."""
        if self.oid in _INTEGERS:
            return 0
        if self.is_numeric and self.typmod >= 0:
            return max(((self.typmod - 4) & 0x7FF ^ 1024) - 1024, 0)
        return self.scale

    def with_scale(self, scale: int, *, endless: bool) -> Type:
        """The same type for a column of which all finite values have this scale: equal values look the same then."""
        return replace(self, scale=scale, equality=Equality.EXACT, endless=endless)


@dataclass(frozen=True, slots=True)
class Column:
    """One output column of an operator. Names are unique in the whole tree, so nothing needs qualifying."""

    name: str
    type: Type
    nullable: bool = True


#: The type of the counts and weights that the compiler adds itself.
INT8 = Type(
    oid=20,
    typmod=-1,
    name="bigint",
    equality=Equality.EXACT,
    equals=("pg_catalog", "="),
    hashable=True,
    sortable=True,
    fixed=True,
    category="N",
    base_oid=20,
    image=("pg_catalog", "int8send"),
)

#: The type of GROUPING().
INT4 = replace(INT8, oid=23, name="integer", base_oid=23, image=("pg_catalog", "int4send"))

BOOL = replace(INT8, oid=16, name="boolean", base_oid=16, category="B", image=("pg_catalog", "boolsend"))

_PLAIN = replace(INT8, fixed=False, category="U")
BYTEA = replace(_PLAIN, oid=17, name="bytea", base_oid=17, image=("pg_catalog", "byteasend"))
TEXT = replace(_PLAIN, oid=25, name="text", base_oid=25, category="S", image=("pg_catalog", "textsend"))

#: Stands for the type of a computed column until the server has told it.
UNKNOWN = Type(
    oid=0,
    typmod=-1,
    name="unknown",
    equality=Equality.NONE,
    equals=None,
    hashable=False,
    sortable=False,
    fixed=False,
    category="X",
    base_oid=0,
    image=("pg_catalog", "unknownsend"),
)
