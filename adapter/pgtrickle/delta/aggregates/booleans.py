"""bool_and, bool_or and every: counts of true and false values."""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.weighted import count
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall


def _state(call: AggregateCall) -> tuple[StateColumn, ...]:
    (arg,) = call.args
    return (
        StateColumn("t", "pg_catalog.int8", count(call, text("(", arg, ") IS TRUE"))),
        StateColumn("f", "pg_catalog.int8", count(call, text("(", arg, ") IS FALSE"))),
    )


def _and(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    known = text("CASE WHEN ", col(state["t"]), " + ", col(state["f"]), " > 0 THEN ")
    return text(known, col(state["f"]), " = 0 END")


def _or(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    known = text("CASE WHEN ", col(state["t"]), " + ", col(state["f"]), " > 0 THEN ")
    return text(known, col(state["t"]), " > 0 END")


BOOL_AND = AggregateRule(_state, _and, lambda types: len(types) == 1)
BOOL_OR = AggregateRule(_state, _or, lambda types: len(types) == 1)
