"""Equality under which NULL equals NULL, as join conditions."""

from __future__ import annotations

from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.schema import Column

#: ``IS NULL`` would also be true for a row of NULLs, which is a value.
NULL = " IS NOT DISTINCT FROM NULL"


def null_safe(pairs: tuple[tuple[Column, str], ...]) -> tuple[Expr, ...]:
    """Conditions under which columns agree, found by hash join and by the hash index of a stage.

    Args:
        pairs: a column, and the name of one of the same type on the other side, in the order of the other side's key.
    """
    if all(not column.nullable and column.type.fixed for column, _ in pairs):
        return tuple(_equality(column, other) for column, other in pairs)
    hashable = [(column.name, other) for column, other in pairs if column.type.hashable]
    conditions = [_safe(column, other) for column, other in pairs]
    if hashable:
        mine, theirs = (_hash(names) for names in zip(*hashable, strict=True))
        conditions.insert(0, text(mine, " = ", theirs))
    return tuple(conditions)


def _hash(names: tuple[str, ...]) -> Expr:
    parts: list[str | Expr] = []
    for name in names:
        parts += [", ", col(name)] if parts else [col(name)]
    return text("pg_catalog.hash_record_extended(ROW(", *parts, "), 0)")


def _equality(column: Column, other: str) -> Expr:
    mine, theirs = col(column.name), col(other)
    schema, operator = column.type.equals or ("pg_catalog", "=")
    other_operator = (schema, operator) != ("pg_catalog", "=")
    printed = text("(", mine, f' OPERATOR("{schema}".{operator}) ', theirs, ")")
    return Expr(printed.parts, (mine, theirs), null_safe=other_operator)


def _safe(column: Column, other: str) -> Expr:
    """NULLs equal: not a plain equality, but enough to know that the other side is determined."""
    mine, theirs = col(column.name), col(other)
    both_null = text("(", mine, NULL, " AND ", theirs, NULL, ")")
    return Expr(text("(", _equality(column, other), " OR ", both_null, ")").parts, (mine, theirs), null_safe=True)
