"""Sums over weighted rows, written so that nothing overflows on the way, and so that they cost little."""

from __future__ import annotations

from pgtrickle.delta.aggregates.rule import WEIGHT_REF
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall


def count(call: AggregateCall, *conditions: Expr) -> Expr:
    """How many rows come, less those that leave, of those that meet the call's own FILTER and the conditions."""
    return text(
        "COALESCE(", _filtered(text("pg_catalog.sum(", col(WEIGHT_REF), ")"), call, conditions), ", 0)::pg_catalog.int8"
    )


def total(call: AggregateCall, value: Expr, *conditions: Expr) -> Expr:
    """``sum(weight * value)`` as numeric over the rows that meet the call's own FILTER and the further conditions.

    The product and the sum are numeric, so a weight never overflows the type of the value. Nearly all weights are 1
    or -1, for which nothing is multiplied.
    """
    weight, number = col(WEIGHT_REF), text("(", value, ")::pg_catalog.numeric")
    product = text(
        "CASE ", weight, " WHEN 1 THEN ", number, " WHEN -1 THEN -", number,
        " ELSE ", weight, "::pg_catalog.numeric * ", number, " END",
    )  # fmt: skip
    return _summed(call, product, conditions)


def integer_total(call: AggregateCall, value: Expr, *conditions: Expr) -> Expr:
    """The same for values of 16 or 32 bits, whose products with a weight are multiplied and added up as integers."""
    product = text(col(WEIGHT_REF), " * (", value, ")::pg_catalog.int8")
    return _summed(call, product, conditions)


def present(call: AggregateCall) -> tuple[Expr, ...]:
    """The conditions under which a row counts: none of its arguments is NULL."""
    return () if call.complete else tuple(text(arg, " IS NOT NULL") for arg in call.args)


def _summed(call: AggregateCall, product: Expr, conditions: tuple[Expr, ...]) -> Expr:
    summed = _filtered(text("pg_catalog.sum(", product, ")"), call, conditions)
    return text("COALESCE(", summed, ", 0)::pg_catalog.numeric")


def _filtered(summed: Expr, call: AggregateCall, conditions: tuple[Expr, ...]) -> Expr:
    every = [*([call.filter] if call.filter else []), *conditions]
    if not every:
        return summed
    joined = text("(", every[0], ")")
    for condition in every[1:]:
        joined = text(joined, " AND (", condition, ")")
    return text(summed, " FILTER (WHERE ", joined, ")")
