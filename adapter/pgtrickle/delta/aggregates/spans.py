"""sum and avg of intervals, sum of money.

PostgreSQL adds the months, the days and the microseconds of intervals apart from each other and never carries over, so
three whole numbers are the sum. The average divides that sum once, as PostgreSQL does.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, StateColumn
from pgtrickle.delta.aggregates.weighted import count, present, total
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Type

_INTERVAL, _MONEY = 1186, 790
_HOUR = 3_600_000_000
#: Whole units of each field that PostgreSQL adds, from what EXTRACT tells; infinite intervals (from 17 on) are apart.
_FIELDS = {
    "months": (("year", 12), ("month", 1)),
    "days": (("day", 1),),
    "micros": (("hour", _HOUR), ("minute", 60_000_000), ("microseconds", 1)),
}
_INFINITE = {"plus": "> '0'", "minus": "< '0'"}


def _is_interval(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].base_oid == _INTERVAL


def _is_money(types: tuple[Type, ...]) -> bool:
    return len(types) == 1 and types[0].base_oid == _MONEY


def _not_null(call: AggregateCall) -> StateColumn:
    return StateColumn("n", "pg_catalog.int8", count(call, *present(call)))


def _interval_state(call: AggregateCall) -> tuple[StateColumn, ...]:
    span = text("(", call.args[0], ")::pg_catalog.interval")
    finite = text("pg_catalog.isfinite(", span, ")")
    columns = [_not_null(call)]
    for name, sign in _INFINITE.items():
        infinite = text("NOT ", finite, " AND ", span, f" {sign}::pg_catalog.interval")
        columns.append(StateColumn(name, "pg_catalog.int8", count(call, infinite)))
    for name, fields in _FIELDS.items():
        units = text("0")
        for field, size in fields:
            units = text(units, f" + {size}::pg_catalog.numeric * EXTRACT({field} FROM ", span, ")")
        columns.append(StateColumn(name, "pg_catalog.numeric", total(call, units, finite)))
    return tuple(columns)


def _span(state: Mapping[str, str]) -> Expr:
    """The sum as an interval; opposite infinities fail as they do in PostgreSQL."""
    whole = text("pg_catalog.trunc(", col(state["micros"]), f" / {_HOUR})")
    rest = text("pg_catalog.mod(", col(state["micros"]), f", {_HOUR}) / 1000000")
    finite = text(
        "pg_catalog.make_interval(months => ", col(state["months"]), "::pg_catalog.int4, days => ", col(state["days"]),
        "::pg_catalog.int4, hours => ", whole, "::pg_catalog.int4, secs => (", rest, ")::pg_catalog.float8)",
    )  # fmt: skip
    plus, minus = (text(col(state[name]), " > 0") for name in _INFINITE)
    return text(
        "CASE WHEN ", plus, " AND ", minus, " THEN ('infinity'::pg_catalog.text)::pg_catalog.interval",
        " + ('-infinity'::pg_catalog.text)::pg_catalog.interval",
        " WHEN ", plus, " THEN ('infinity'::pg_catalog.text)::pg_catalog.interval",
        " WHEN ", minus, " THEN ('-infinity'::pg_catalog.text)::pg_catalog.interval",
        " ELSE ", finite, " END",
    )  # fmt: skip


def _interval_sum(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", _span(state), " END")


def _interval_avg(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    mean = text("(", _span(state), ") / ", col(state["n"]), "::pg_catalog.float8")
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", mean, " END")


def _money_state(call: AggregateCall) -> tuple[StateColumn, ...]:
    number = text("(", call.args[0], ")::pg_catalog.money::pg_catalog.numeric")
    return (
        _not_null(call),
        StateColumn("sum", "pg_catalog.numeric", total(call, number)),
    )


def _money_sum(call: AggregateCall, state: Mapping[str, str]) -> Expr:
    return text("CASE WHEN ", col(state["n"]), " > 0 THEN ", col(state["sum"]), "::pg_catalog.money END")


INTERVAL_SUM = AggregateRule(_interval_state, _interval_sum, _is_interval)
INTERVAL_AVG = AggregateRule(_interval_state, _interval_avg, _is_interval)
MONEY_SUM = AggregateRule(_money_state, _money_sum, _is_money)
