"""What a rule for an aggregate that can be kept by adding and subtracting looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pgtrickle.ir.expr import Expr
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

#: The column that carries a row's weight while state is added up.
WEIGHT_REF = "__w"
#: The column of the state table that counts the rows of a group.
COUNT_REF = "__count"


@dataclass(frozen=True, slots=True)
class StateColumn:
    """A running total that a rule keeps per group.

    Attributes:
        name: suffix, unique within the rule.
        type: PostgreSQL type of the column.
        change: an aggregate over weighted rows (weight in ``__w``); its result is added to the column.
    """

    name: str
    type: str
    change: Expr


@dataclass(frozen=True, slots=True)
class AggregateRule:
    """How an aggregate is kept without looking at its group again.

    Attributes:
        state: the running totals for a call whose argument types are given.
        result: the aggregate's value over the totals; the mapping gives their columns by suffix.
        accepts: whether the rule is exact for these argument types.
    """

    state: Callable[[AggregateCall], tuple[StateColumn, ...]]
    result: Callable[[AggregateCall, Mapping[str, str]], Expr]
    accepts: Callable[[tuple[Type, ...]], bool]
