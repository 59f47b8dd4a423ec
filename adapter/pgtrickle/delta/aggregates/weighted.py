"""Sums over weighted rows, written so that nothing overflows on the way."""

from __future__ import annotations

from pgtrickle.delta.aggregates.rule import WEIGHT_REF
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall


def total(call: AggregateCall, value: Expr, *conditions: Expr, as_type: str = "pg_catalog.int8") -> Expr:
    """``sum(weight * value)`` over the rows that meet the call's own FILTER and the further conditions.

    The product and the sum are numeric, so a weight never overflows the type of the value.
    """
    every = [*([call.filter] if call.filter else []), *conditions]
    numeric = text("(", col(WEIGHT_REF), ")::pg_catalog.numeric * (", value, ")")
    summed = text("pg_catalog.sum(", numeric, ")")
    if every:
        joined = text("(", every[0], ")")
        for condition in every[1:]:
            joined = text(joined, " AND (", condition, ")")
        summed = text(summed, " FILTER (WHERE ", joined, ")")
    return text("COALESCE(", summed, f", 0)::{as_type}")
