"""What a rule for an aggregate that is kept in a state table looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

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
class KeptValue:
    """A value that a rule keeps per group until rows leave on which it may rest; then it is looked up again.

    Attributes:
        name: suffix, unique within the rule.
        pick: an aggregate function, qualified, that gives the value.
        value: what it is applied to, over a row.
        image: an expression over a row that is the same only for values that look the same.
        condition: which rows count, or None.
        merged: the value once more rows have come, from that before and that of what came; both may be NULL.
        spoilt: from (before, came, merged, left), whether the merged value may rest on what left; true where in doubt.
    """

    name: str
    pick: str
    value: Expr
    image: Expr
    condition: Expr | None
    merged: Callable[[Expr, Expr], Expr]
    spoilt: Callable[[Expr, Expr, Expr, Expr], Expr]


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A value that a rule looks up in the group where its totals cannot give it.

    Attributes:
        name: suffix, unique within the rule.
        pick: an aggregate function, qualified, that gives the value.
        value: what it is applied to, over a row.
        condition: which rows count, or None.
        wanted: whether it is needed, over the totals; the mapping gives their columns by suffix.
    """

    name: str
    pick: str
    value: Expr
    condition: Expr | None
    wanted: Callable[[Mapping[str, str]], Expr]


StatePart: TypeAlias = StateColumn | KeptValue | LookedUp


@dataclass(frozen=True, slots=True)
class AggregateRule:
    """How an aggregate is kept without looking at its group again.

    Attributes:
        state: what is kept for a call whose argument types are given.
        result: the aggregate's value over the state; the mapping gives its columns by suffix.
        accepts: whether the rule is exact for these argument types.
    """

    state: Callable[[AggregateCall], tuple[StatePart, ...]]
    result: Callable[[AggregateCall, Mapping[str, str]], Expr]
    accepts: Callable[[tuple[Type, ...]], bool]
