"""Random window functions, frames and windows over groups, with orders that leave nothing open."""

from __future__ import annotations

from tests.property.choices import chance, pick
from tests.property.expressions import Scope, Value, draw_predicate, fixed
from tests.property.queries import Grammar, Query
from tests.property.values import BIGINT, FLOAT, INT, NUMERIC

WHOLE_FRAME = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
ROWS_FRAMES = (
    "ROWS 1 PRECEDING",
    WHOLE_FRAME,
    "ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING",
    "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW",
)
VALUE_FRAMES = (
    "RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING EXCLUDE GROUP",
    "GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    "GROUPS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE TIES",
    "GROUPS CURRENT ROW",
)
"""Frames by value: peers are in them together, so any order that is not total will do."""


def total_order(columns: Scope) -> str:
    """An order in which only rows that look the same are peers."""
    return ", ".join(f'({column.sql})::text COLLATE "C"' for column in columns)


class WindowGrammar(Grammar):
    """Draws queries with window functions."""

    def windowed(self, depth: int) -> Query:
        """One to three window functions over the same rows."""
        source, scope = self.item(depth)
        usable = fixed(scope)
        if not usable:
            return self.select(depth)
        values = [pick(self.choices, usable)]
        for _ in range(self.choices.integer(1, 3)):
            values.append(self._call(scope))
            if values[-1].type in (INT, BIGINT) and chance(self.choices, 20):
                values[-1] = Value(f"coalesce({values[-1].sql}, 0) + 1", values[-1].type)
        return self._finish("SELECT", values, f" FROM {source}{self._where(scope)}")

    def _partition(self, usable: list[Value]) -> str:
        keys = [value for value in usable if value.type.equality]
        if not keys or chance(self.choices, 20):
            return ""
        if len(keys) > 1 and chance(self.choices, 20):
            return f"PARTITION BY {keys[0].sql}, {keys[-1].sql}"
        return f"PARTITION BY {pick(self.choices, keys).sql}"

    def _call(self, scope: Scope) -> Value:
        usable = fixed(scope)
        value, partition, order = pick(self.choices, usable), self._partition(usable), total_order(tuple(usable))
        text = f"({value.sql})::text"
        rows = pick(self.choices, ROWS_FRAMES)
        functions = [
            Value(f"row_number() OVER ({partition} ORDER BY {order})", BIGINT),
            Value(f"count(*) OVER ({partition})", BIGINT),
            Value(f"lag({value.sql}) OVER ({partition} ORDER BY {order})", value.type),
            Value(f"lead({value.sql}, 2) OVER ({partition} ORDER BY {order} DESC)", value.type),
            Value(f"count({value.sql}) OVER ({partition} ORDER BY {order} {rows})", BIGINT),
            Value(f"rank() OVER ({partition} ORDER BY {text})", BIGINT),
            Value(f"dense_rank() OVER ({partition} ORDER BY {text} DESC NULLS LAST)", BIGINT),
            Value(f"percent_rank() OVER ({partition} ORDER BY {text})", FLOAT),
            Value(f"cume_dist() OVER ({partition} ORDER BY {text} DESC)", FLOAT),
            Value(f"ntile(2) OVER ({partition} ORDER BY {order})", INT),
            Value(f"first_value({value.sql}) OVER ({partition} ORDER BY {order})", value.type),
            Value(f"last_value({value.sql}) OVER ({partition} ORDER BY {order} {WHOLE_FRAME})", value.type),
            Value(f"nth_value({value.sql}, 2) OVER ({partition} ORDER BY {order} {WHOLE_FRAME})", value.type),
            Value(f"sum(1) FILTER (WHERE {draw_predicate(self.choices, scope, 0)}) OVER ({partition})", BIGINT),
        ]
        if chance(self.choices, 5):
            partner, _ = self.item(0)
            asked = pick(self.choices, ("(SELECT 1)", f"(SELECT count(*) FROM {partner})"))
            return Value(f"count({value.sql}) OVER ({partition} ORDER BY {order} ROWS {asked} PRECEDING)", BIGINT)
        numbers = [each for each in usable if each.type is INT]
        if numbers:
            number, frame = pick(self.choices, numbers).sql, pick(self.choices, VALUE_FRAMES)
            functions += [
                Value(f"sum({number}) OVER ({partition} ORDER BY {number} {frame})", BIGINT),
                Value(f"max({number}) OVER ({partition} ORDER BY {number} DESC {frame})", INT),
                Value(f"avg({number}) OVER ({partition} ORDER BY {order} {rows})", NUMERIC),
            ]
        return pick(self.choices, functions)

    def named_windows(self, depth: int) -> Query:
        """Two named windows, one of them derived from the other."""
        source, scope = self.item(depth)
        usable = fixed(scope)
        if not usable:
            return self.select(depth)
        value, order = pick(self.choices, usable), total_order(tuple(usable))
        values = [
            value,
            Value("count(*) OVER w", BIGINT),
            Value("row_number() OVER o", BIGINT),
            Value(f"first_value({value.sql}) OVER (o {pick(self.choices, ROWS_FRAMES)})", value.type),
        ]
        windows = f" WINDOW w AS ({self._partition(usable)}), o AS (w ORDER BY {order})"
        return self._finish("SELECT", values, f" FROM {source}{self._where(scope)}{windows}")

    def top_of_each(self, depth: int) -> Query:
        """The first rows of each partition, as analysts write it."""
        source, scope = self.item(depth)
        usable = fixed(scope)
        if not usable:
            return self.select(depth)
        value, partition = pick(self.choices, usable), self._partition(usable)
        function = pick(self.choices, ("row_number()", "rank()", "dense_rank()"))
        inner = self._finish(
            "SELECT",
            [value, Value(f"{function} OVER ({partition} ORDER BY {total_order(tuple(usable))})", BIGINT)],
            f" FROM {source}{self._where(scope)}",
        )
        shown = inner.columns[: self.choices.integer(1, 2)]
        return self._finish("SELECT", list(shown), f" FROM ({inner.sql}) AS q WHERE x2 <= {self.choices.integer(1, 2)}")

    def ranked_groups(self, depth: int) -> Query:
        """A window function over the groups of an aggregation."""
        source, scope = self.joined(depth)
        keys = [value for value in fixed(scope) if value.type.equality and not value.type.coarse]
        if not keys:
            return self.select(depth)
        key = pick(self.choices, keys)
        functions = (
            "rank() OVER (ORDER BY count(*) DESC)",
            "sum(count(*)) OVER ()::bigint",
            f'row_number() OVER (ORDER BY ({key.sql})::text COLLATE "C")',
            "max(count(*)) OVER (ORDER BY count(*) GROUPS 1 PRECEDING)",
        )
        values = [key, Value("count(*)", BIGINT), Value(pick(self.choices, functions), BIGINT)]
        return self._finish("SELECT", values, f"{source}{self._where(scope)} GROUP BY {key.sql}")
