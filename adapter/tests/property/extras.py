"""Queries outside the incremental grammar: AUTO must keep them right too, however it refreshes them."""

from __future__ import annotations

from dataclasses import replace

from tests.property.choices import chance, pick, weighted
from tests.property.expressions import Scope, Value, draw_predicate, fixed
from tests.property.queries import Grammar, Query
from tests.property.values import BIGINT, INT, TEXT

WHOLE_FRAME = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"


class ExtraGrammar(Grammar):
    """Draws one query with a construct of the rest of SQL."""

    def query(self, depth: int) -> Query:
        """Also below joins, aggregates and in CTEs."""
        return self.extra(depth) if chance(self.choices, 35) else super().query(depth)

    def extra(self, depth: int) -> Query:
        """A query with a window, set operation, sublink, LIMIT, recursion, DISTINCT ON, LATERAL or grouping sets."""
        return weighted(
            self.choices,
            [
                (3, self.windowed),
                (3, self.set_operation),
                (4, self.sublink),
                (2, self.limited),
                (1, self.recursive),
                (1, self.distinct_on),
                (2, self.lateral),
                (2, self.grouping_sets),
                (2, self.scalar_subquery),
                (1, self.set_returning),
                (1, self.ranked_groups),
                (1, self.sublink_in_condition),
                (1, self.chained_sets),
            ],
        )(depth)

    def windowed(self, depth: int) -> Query:
        """A window function, with an order that leaves nothing open."""
        source, scope = self.item(depth)
        usable = fixed(scope)
        if not usable:
            return self.select(depth)
        key, value = pick(self.choices, usable), pick(self.choices, usable)
        partition = f"PARTITION BY {key.sql}" if key.type.equality and not chance(self.choices, 20) else ""
        order = _total_order(tuple(usable))
        functions = [
            Value(f"row_number() OVER ({partition} ORDER BY {order})", BIGINT),
            Value(f"count(*) OVER ({partition})", BIGINT),
            Value(f"lag({value.sql}) OVER ({partition} ORDER BY {order})", value.type),
            Value(f"count({value.sql}) OVER ({partition} ORDER BY {order} ROWS 1 PRECEDING)", BIGINT),
            Value(f"rank() OVER ({partition} ORDER BY ({value.sql})::text)", BIGINT),
            Value(f"dense_rank() OVER ({partition} ORDER BY ({value.sql})::text DESC NULLS LAST)", BIGINT),
            Value(f"ntile(2) OVER ({partition} ORDER BY {order})", INT),
            Value(f"first_value({value.sql}) OVER ({partition} ORDER BY {order})", value.type),
            Value(f"nth_value({value.sql}, 2) OVER ({partition} ORDER BY {order} {WHOLE_FRAME})", value.type),
            Value(f"sum(1) FILTER (WHERE {draw_predicate(self.choices, scope, 0)}) OVER ({partition})", BIGINT),
        ]
        return self._finish("SELECT", [value, pick(self.choices, functions)], f" FROM {source}{self._where(scope)}")

    def set_operation(self, depth: int) -> Query:
        """UNION, INTERSECT or EXCEPT, with or without ALL."""
        first = self._exact_select(depth)
        if not first.columns or not all(column.type.equality for column in first.columns):
            return self.select(depth)
        second = self._arm_like(first, depth)
        operator = pick(self.choices, ("UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"))
        columns = tuple(_representative(column) for column in first.columns)
        return Query(f"({first.sql}) {operator} ({second.sql})", columns)

    def sublink(self, depth: int) -> Query:
        """EXISTS, IN, NOT IN, ANY, ALL in WHERE."""
        source, scope = self.joined(0)
        partner, columns = self.item(max(0, depth - 1))
        pairs = [
            (left, right)
            for left in fixed(scope)
            for right in fixed(columns)
            if left.type is right.type and left.type.equality
        ]
        if not pairs:
            return self.select(depth)
        left, right = pick(self.choices, pairs)
        inner = f"FROM {partner} WHERE {draw_predicate(self.choices, columns, 0)}"
        condition = pick(
            self.choices,
            (
                f"EXISTS (SELECT 1 {inner} AND {right.sql} = {left.sql})",
                f"NOT EXISTS (SELECT 1 {inner} AND {right.sql} = {left.sql})",
                f"{left.sql} IN (SELECT {right.sql} {inner})",
                f"{left.sql} NOT IN (SELECT {right.sql} {inner})",
                f"{left.sql} <> ALL (SELECT {right.sql} {inner})",
                f"EXISTS (SELECT 1 {inner} AND {right.sql} <> {left.sql})",
                f"({left.sql} IS NULL OR {left.sql} IN (SELECT {right.sql} {inner}))",
            ),
        )
        values = [pick(self.choices, scope) for _ in range(self.choices.integer(1, 3))]
        return self._finish("SELECT", values, f"{source} WHERE {condition}")

    def scalar_subquery(self, depth: int) -> Query:
        """A subquery in the SELECT list, correlated or not."""
        source, scope = self.item(0)
        partner, columns = self.item(0)
        where = draw_predicate(self.choices, (*fixed(columns), *fixed(scope)), 1)
        calls = [Value(f"(SELECT count(*) FROM {partner} WHERE {where})", BIGINT)]
        calls += [
            Value(f"(SELECT max({value.sql}) FROM {partner} WHERE {where})", value.type)
            for value in fixed(columns)
            if value.type in (INT, TEXT)
        ]
        value = pick(self.choices, scope)
        return self._finish("SELECT", [value, pick(self.choices, calls)], f" FROM {source}")

    def limited(self, depth: int) -> Query:
        """ORDER BY everything LIMIT n OFFSET m."""
        inner = self._exact_select(depth)
        if not inner.columns:
            return self.select(depth)
        offset = f" OFFSET {self.choices.integer(0, 2)}" if chance(self.choices, 30) else ""
        text = f"SELECT * FROM ({inner.sql}) AS q ORDER BY {_total_order(inner.columns)}"
        return Query(f"{text} LIMIT {self.choices.integer(0, 4)}{offset}", inner.columns)

    def recursive(self, depth: int) -> Query:
        """A walk over the keys of a relation."""
        source, scope = self.item(0)
        keys = [value for value in fixed(scope) if value.type is INT]
        if not keys:
            return self.select(depth)
        key = pick(self.choices, keys)
        text = (
            f"WITH RECURSIVE walk AS (SELECT {key.sql} AS x1 FROM {source} WHERE {key.sql} < 2"
            f" UNION SELECT {key.sql} FROM {source} JOIN walk ON {key.sql} = walk.x1 + 1) SELECT x1 FROM walk"
        )
        return Query(text, (Value("x1", INT),))

    def distinct_on(self, depth: int) -> Query:
        """DISTINCT ON a key, with a total order after it."""
        source, scope = self.item(depth)
        usable = fixed(scope)
        keys = [value for value in usable if value.type.equality and value.type.extremes and not value.type.coarse]
        if not keys:
            return self.select(depth)
        key, value = pick(self.choices, keys), pick(self.choices, usable)
        inner = self._finish(f"SELECT DISTINCT ON ({key.sql})", [key, value], f" FROM {source}")
        return Query(f"{inner.sql} ORDER BY {key.sql}, {_total_order(tuple(usable))}", inner.columns)

    def lateral(self, depth: int) -> Query:
        """A LATERAL subquery per row."""
        source, scope = self.item(0)
        partner, columns = self.item(0)
        where = draw_predicate(self.choices, (*fixed(columns), *fixed(scope)), 1)
        self.aliases += 1
        alias = f"a{self.aliases}"
        side = pick(self.choices, ("CROSS JOIN LATERAL", "LEFT JOIN LATERAL"))
        on = " ON true" if side.startswith("LEFT") else ""
        value = pick(self.choices, scope)
        rest = f" FROM {source} {side} (SELECT count(*) AS n FROM {partner} WHERE {where}) AS {alias}{on}"
        return self._finish("SELECT", [value, Value(f"{alias}.n", BIGINT)], rest)

    def grouping_sets(self, depth: int) -> Query:
        """ROLLUP, CUBE or GROUPING SETS."""
        source, scope = self.joined(0)
        keys = [value for value in fixed(scope) if value.type.equality and not value.type.coarse][:4]
        if len(keys) < 2:
            return self.grouped(depth)
        left, right = keys[0], keys[-1]
        sets = pick(
            self.choices,
            (
                f"ROLLUP ({left.sql}, {right.sql})",
                f"CUBE ({left.sql}, {right.sql})",
                f"GROUPING SETS (({left.sql}), ({right.sql}), ())",
            ),
        )
        total = Value("count(*)", BIGINT)
        return self._finish("SELECT", [left, right, total], f"{source}{self._where(scope)} GROUP BY {sets}")

    def set_returning(self, depth: int) -> Query:
        """A function that returns rows, in FROM or in the SELECT list."""
        source, scope = self.item(depth)
        numbers = [value for value in fixed(scope) if value.type is INT]
        if not numbers:
            return self.select(depth)
        number, value = pick(self.choices, numbers), pick(self.choices, scope)
        self.aliases += 1
        alias = f"a{self.aliases}"
        bounded = f"least({number.sql}, 3)"
        if chance(self.choices, 40):
            series = Value(f"generate_series(1, {bounded})", INT)
            return self._finish("SELECT", [value, series], f" FROM {source}{self._where(scope)}")
        function = pick(
            self.choices,
            (
                f"generate_series(1, {bounded}) AS {alias}(n)",
                f"unnest(ARRAY[{number.sql}, 7]) AS {alias}(n)",
                f"unnest(ARRAY[1, 2]) WITH ORDINALITY AS {alias}(n, o)",
            ),
        )
        join = pick(self.choices, (f"CROSS JOIN {function}", f"LEFT JOIN {function} ON {alias}.n > 1"))
        return self._finish("SELECT", [value, Value(f"{alias}.n", INT)], f" FROM {source} {join}")

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
        )
        values = [key, Value("count(*)", BIGINT), Value(pick(self.choices, functions), BIGINT)]
        return self._finish("SELECT", values, f"{source}{self._where(scope)} GROUP BY {key.sql}")

    def sublink_in_condition(self, depth: int) -> Query:
        """A subquery inside OR, CASE or HAVING."""
        source, scope = self.item(depth)
        partner, columns = self.item(0)
        keys = [value for value in fixed(scope) if value.type is INT]
        others = [value for value in fixed(columns) if value.type is INT]
        if not keys or not others:
            return self.select(depth)
        key, other = pick(self.choices, keys), pick(self.choices, others)
        inner = f"SELECT {other.sql} FROM {partner}{self._where(columns)}"
        if chance(self.choices, 30):
            having = f" GROUP BY {key.sql} HAVING count(*) > (SELECT count(*) FROM {partner}) / 4"
            return self._finish("SELECT", [key, Value("count(*)", BIGINT)], f" FROM {source}{having}")
        conditions = (
            f"({draw_predicate(self.choices, scope, 0)} OR {key.sql} IN ({inner}))",
            f"(EXISTS ({inner} LIMIT 1) AND {draw_predicate(self.choices, scope, 0)})",
            f"CASE WHEN {key.sql} > 1 THEN {key.sql} IN ({inner}) ELSE true END",
            f"({key.sql}, {key.sql}) IN (SELECT {other.sql}, {other.sql} FROM {partner})",
            f"{key.sql} = (SELECT max({other.sql}) FROM {partner} WHERE {other.sql} <= {key.sql})",
            f"{key.sql} > ANY (ARRAY(SELECT {other.sql} FROM {partner} ORDER BY 1))",
        )
        values = [pick(self.choices, scope), key]
        return self._finish("SELECT", values, f" FROM {source} WHERE {pick(self.choices, conditions)}")

    def chained_sets(self, depth: int) -> Query:
        """Three queries connected by set operations of different kinds."""
        first = self._exact_select(depth)
        if not first.columns or not all(column.type.equality for column in first.columns):
            return self.select(depth)
        second, third = self._arm_like(first, depth), self._arm_like(first, depth)
        operators = ("UNION", "INTERSECT", "EXCEPT", "UNION ALL", "EXCEPT ALL")
        left, right = pick(self.choices, operators), pick(self.choices, operators)
        columns = tuple(_representative(column) for column in first.columns)
        text = f"({first.sql}) {left} ({second.sql}) {right} ({third.sql})"
        if chance(self.choices, 40):
            text = f"({first.sql}) {left} (({second.sql}) {right} ({third.sql}))"
        return Query(text, columns)

    def _exact_select(self, depth: int) -> Query:
        """A plain query over columns that are determined up to their text."""
        source, scope = self.joined(depth)
        usable = fixed(scope)
        values = [pick(self.choices, usable) for _ in range(self.choices.integer(1, 3))] if usable else []
        return self._finish("SELECT", values, f"{source}{self._where(scope)}")


def _representative(column: Value) -> Value:
    return replace(column, comparison="equal") if column.type.coarse else column


def _total_order(columns: Scope) -> str:
    return ", ".join(f'({column.sql})::text COLLATE "C"' for column in columns)
