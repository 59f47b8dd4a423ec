"""Aggregates that are kept in a state table; all others recompute their affected groups."""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.bits import BIT_AND, BIT_OR
from pgtrickle.delta.aggregates.booleans import BOOL_AND, BOOL_OR
from pgtrickle.delta.aggregates.count import COUNT
from pgtrickle.delta.aggregates.extremes import ANY_VALUE, MAX, MIN
from pgtrickle.delta.aggregates.floats import (
    FLOAT_AVG,
    FLOAT_STDDEV_POP,
    FLOAT_STDDEV_SAMP,
    FLOAT_SUM,
    FLOAT_VAR_POP,
    FLOAT_VAR_SAMP,
)
from pgtrickle.delta.aggregates.loose import (
    LOOSE_AVG,
    LOOSE_STDDEV_POP,
    LOOSE_STDDEV_SAMP,
    LOOSE_SUM,
    LOOSE_VAR_POP,
    LOOSE_VAR_SAMP,
)
from pgtrickle.delta.aggregates.regression import (
    CORR,
    COVAR_POP,
    COVAR_SAMP,
    REGR_AVGX,
    REGR_AVGY,
    REGR_COUNT,
    REGR_INTERCEPT,
    REGR_R2,
    REGR_SLOPE,
    REGR_SXX,
    REGR_SXY,
    REGR_SYY,
)
from pgtrickle.delta.aggregates.rule import (
    COUNT_REF,
    WEIGHT_REF,
    AggregateRule,
    KeptValue,
    LookedUp,
    StateColumn,
    StatePart,
)
from pgtrickle.delta.aggregates.spans import INTERVAL_AVG, INTERVAL_SUM, MONEY_SUM
from pgtrickle.delta.aggregates.sums import AVG, SUM
from pgtrickle.delta.aggregates.variance import STDDEV_POP, STDDEV_SAMP, VAR_POP, VAR_SAMP
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Column

#: By name in pg_catalog; the first rule that accepts the argument types is taken. Adding one is one file and one line.
AGGREGATES: Mapping[str, tuple[AggregateRule, ...]] = {
    "count": (COUNT,),
    "sum": (*SUM, LOOSE_SUM, FLOAT_SUM, INTERVAL_SUM, MONEY_SUM),
    "avg": (*AVG, LOOSE_AVG, FLOAT_AVG, INTERVAL_AVG),
    "variance": (*VAR_SAMP, LOOSE_VAR_SAMP, FLOAT_VAR_SAMP),
    "var_samp": (*VAR_SAMP, LOOSE_VAR_SAMP, FLOAT_VAR_SAMP),
    "var_pop": (*VAR_POP, LOOSE_VAR_POP, FLOAT_VAR_POP),
    "stddev": (*STDDEV_SAMP, LOOSE_STDDEV_SAMP, FLOAT_STDDEV_SAMP),
    "stddev_samp": (*STDDEV_SAMP, LOOSE_STDDEV_SAMP, FLOAT_STDDEV_SAMP),
    "stddev_pop": (*STDDEV_POP, LOOSE_STDDEV_POP, FLOAT_STDDEV_POP),
    "regr_count": (REGR_COUNT,),
    "regr_avgx": (REGR_AVGX,),
    "regr_avgy": (REGR_AVGY,),
    "regr_sxx": (REGR_SXX,),
    "regr_syy": (REGR_SYY,),
    "regr_sxy": (REGR_SXY,),
    "corr": (CORR,),
    "regr_r2": (REGR_R2,),
    "regr_slope": (REGR_SLOPE,),
    "regr_intercept": (REGR_INTERCEPT,),
    "covar_pop": (COVAR_POP,),
    "covar_samp": (COVAR_SAMP,),
    "min": (MIN,),
    "max": (MAX,),
    "any_value": (ANY_VALUE,),
    "bit_and": (BIT_AND,),
    "bit_or": (BIT_OR,),
    "bool_and": (BOOL_AND,),
    "every": (BOOL_AND,),
    "bool_or": (BOOL_OR,),
}


def rule_for(call: AggregateCall, columns: tuple[Column, ...]) -> AggregateRule | None:
    """The rule that is exact for this call over these input columns, or None.

    Args:
        call: the aggregate.
        columns: the columns of the operator below the grouping.
    """
    rules = AGGREGATES.get(call.function or "", ())
    if not rules or not call.plain:
        return None
    if rules == (COUNT,):
        return COUNT
    types = {column.name: column.type for column in columns}
    names = [arg.column for arg in call.args]
    if any(name is None for name in names):
        return None
    given = tuple(types[name] for name in names if name)
    return next((rule for rule in rules if rule.accepts(given)), None)


__all__ = [
    "AGGREGATES",
    "COUNT_REF",
    "WEIGHT_REF",
    "AggregateRule",
    "KeptValue",
    "LookedUp",
    "StateColumn",
    "StatePart",
    "rule_for",
]
