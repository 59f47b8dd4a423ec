"""count(*) and count(x): the sum of weights."""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.weighted import count
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall


def _state(call: AggregateCall) -> tuple[StateColumn, ...]:
    counted = [] if call.complete else [text("(", arg, ") IS DISTINCT FROM NULL") for arg in call.args]
    return (StateColumn("n", "pg_catalog.int8", count(call, *counted)),)


def _result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    return col(state["n"])


COUNT = AggregateRule(_state, _result, lambda types: True)
