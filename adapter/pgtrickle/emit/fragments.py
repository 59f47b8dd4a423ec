"""Small pieces of SQL text that all printers share."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from psycopg.abc import AdaptContext
from psycopg.sql import SQL, Composable, Composed, Identifier

from pgtrickle.ir.expr import Expr, Ref
from pgtrickle.ir.schema import Column, Equality
from pgtrickle.plan import Relation

if TYPE_CHECKING:
    from typing_extensions import LiteralString


class Name(Identifier):
    """An identifier inside a statement that is executed with parameters: percent signs are doubled."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """The quoted name, in the encoding of the connection."""
        connection = context.connection if context else None
        return _quoted(tuple(self._obj), connection.info.encoding if connection else "utf-8")


@lru_cache(maxsize=10_000)
def _quoted(parts: tuple[str, ...], encoding: str) -> bytes:
    """Most names stand in many statements of a plan."""
    doubled = (part.replace('"', '""').replace("%", "%%") for part in parts)
    return ".".join(f'"{part}"' for part in doubled).encode(encoding)


class Rendered(Composable):
    """SQL that is turned into text once, however often it is part of something larger.

    Printed trees share what they have in common; without this each use would render everything below it again.
    """

    def __init__(self, composable: Composable) -> None:
        super().__init__(composable)
        self._composable = composable
        self._texts: dict[str, bytes] = {}

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """The text, in the encoding of the connection."""
        connection = context.connection if context else None
        encoding = connection.info.encoding if connection else "utf-8"
        if encoding not in self._texts:
            self._texts[encoding] = self._composable.as_bytes(context)
        return self._texts[encoding]


#: The weight of a row in printed relations.
WEIGHT = Name("__w")


def verbatim(text: str) -> SQL:
    """SQL that the server itself printed (an expression of the user's query, a type name). Percent signs are doubled,
    because every emitted statement is executed with parameters."""
    return SQL(cast("LiteralString", text.replace("%", "%%")))


def scalar(expr: Expr, alias: str | None = None) -> Composed:
    """An expression with its holes filled by column names, qualified if an alias is given."""
    parts: list[Composable] = []
    for part in expr.parts:
        if isinstance(part, Ref):
            parts.append(Name(alias, part.name) if alias else Name(part.name))
        else:
            parts.append(verbatim(part))
    return Composed(parts)


def conjunction(conditions: Iterable[Composable]) -> Composable:
    """All conditions, each in parentheses; TRUE if there are none."""
    wrapped = [SQL("({})").format(condition) for condition in conditions]
    return SQL(" AND ").join(wrapped) if wrapped else SQL("TRUE")


def commas(parts: Iterable[Composable]) -> Composed:
    """Comma-separated."""
    return SQL(", ").join(parts)


def names(columns: Iterable[Column], alias: str | None = None) -> Composed:
    """The columns' names, comma-separated, qualified if an alias is given."""
    return commas(Name(alias, c.name) if alias else Name(c.name) for c in columns)


def table(relation: Relation) -> Name:
    """A qualified table name."""
    return Name(relation.schema, relation.name)


def image(column: Column, value: Composable) -> Composable:
    """An expression that is equal for two values only if they look the same (design: class "exact")."""
    if column.type.equality is Equality.EXACT:
        return value
    function = Name(*column.type.image)
    if column.type.image_is_text:
        return SQL("pg_catalog.textin({}({}))").format(function, value)
    return SQL("{}({})").format(function, value)


def equal(column: Column, left: Composable, right: Composable) -> Composable:
    """The type's own ``=``; for a type without one, equality of images. NULL if a side is NULL."""
    if column.type.equals is None:
        return SQL("{} OPERATOR(pg_catalog.=) {}").format(image(column, left), image(column, right))
    schema, operator = column.type.equals
    symbol = SQL("OPERATOR({}.{})").format(Name(schema), verbatim(operator))
    return SQL("{} {} {}").format(left, symbol, right)


def same(column: Column, left: Composable, right: Composable, *, nullable: bool | None = None) -> Composable:
    """``=`` under which NULL is the same as NULL."""
    condition = equal(column, left, right)
    if not (column.nullable if nullable is None else nullable):
        return condition
    return SQL("({} OR ({} AND {}))").format(condition, is_null(left), is_null(right))


def is_null(value: Composable) -> Composable:
    """Whether a value is NULL. ``IS NULL`` would also be true for a row of NULLs, which is a value."""
    return SQL("{} IS NOT DISTINCT FROM NULL").format(value)


def identical(column: Column, left: Composable, right: Composable) -> Composable:
    """Both NULL, or values that look the same."""
    return SQL("{} IS NOT DISTINCT FROM {}").format(image(column, left), image(column, right))


def differs(column: Column, left: Composable, right: Composable) -> Composable:
    """Not both NULL, and values that do not look the same; never NULL."""
    if column.type.is_numeric:
        # Equal numbers of one scale look the same, and that is told without making their images.
        text = "({0} IS DISTINCT FROM {1} OR pg_catalog.scale({0}) IS DISTINCT FROM pg_catalog.scale({1}))"
        return SQL(text).format(left, right)
    return SQL("{} IS DISTINCT FROM {}").format(image(column, left), image(column, right))


def hashed(columns: Iterable[Column], alias: str | None = None) -> Composable:
    """A 64-bit hash of several columns that is equal where their ``=`` holds. Columns without a hash are left out.

    Two different keys may share a hash: it only finds candidates, every use checks them again.
    """
    usable = [c for c in columns if c.type.hashable]
    if not usable:
        return SQL("0::pg_catalog.int8")
    return SQL("pg_catalog.hash_record_extended(ROW({}), 0)").format(names(usable, alias))
