"""Aggregates that are kept by adding and subtracting; all others recompute their affected groups."""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.booleans import BOOL_AND, BOOL_OR
from pgtrickle.delta.aggregates.count import COUNT
from pgtrickle.delta.aggregates.rule import COUNT_REF, WEIGHT_REF, AggregateRule, StateColumn
from pgtrickle.delta.aggregates.sums import AVG, SUM
from pgtrickle.delta.aggregates.variance import STDDEV_POP, STDDEV_SAMP, VAR_POP, VAR_SAMP
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Column

#: By name in pg_catalog. Adding one is one file and one line here.
AGGREGATES: Mapping[str, AggregateRule] = {
    "count": COUNT,
    "sum": SUM,
    "avg": AVG,
    "variance": VAR_SAMP,
    "var_samp": VAR_SAMP,
    "var_pop": VAR_POP,
    "stddev": STDDEV_SAMP,
    "stddev_samp": STDDEV_SAMP,
    "stddev_pop": STDDEV_POP,
    "bool_and": BOOL_AND,
    "every": BOOL_AND,
    "bool_or": BOOL_OR,
}


def rule_for(call: AggregateCall, columns: tuple[Column, ...]) -> AggregateRule | None:
    """The rule that is exact for this call over these input columns, or None.

    Args:
        call: the aggregate.
        columns: the columns of the operator below the grouping.
    """
    rule = AGGREGATES.get(call.function or "")
    if rule is None or not call.plain:
        return None
    if rule is COUNT:
        return rule
    types = {column.name: column.type for column in columns}
    names = [arg.column for arg in call.args]
    if any(name is None for name in names):
        return None
    return rule if rule.accepts(tuple(types[name] for name in names if name)) else None


__all__ = ["AGGREGATES", "COUNT_REF", "WEIGHT_REF", "AggregateRule", "StateColumn", "rule_for"]
