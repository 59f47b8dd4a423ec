"""Random subqueries in every place where SQL allows one."""

from __future__ import annotations

from tests.property.choices import chance, pick
from tests.property.expressions import Scope, Value, draw_predicate, fixed
from tests.property.queries import Grammar, Query
from tests.property.values import BIGINT, BOOL, INT, INTS, TEXT

COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
PREDICATES = ("{0}", "NOT ({0})", "(({0}) OR {1})", "(({0}) AND {1})", "CASE WHEN {1} THEN {0} ELSE true END")
MORE_PREDICATES = ("coalesce({0}, false)", "(({0}) IS NOT TRUE)", "(({0}) = ({1}))", "(NOT (({0}) OR {1}))")


class SubqueryGrammar(Grammar):
    """Draws queries with subqueries in expressions and with LATERAL."""

    def sublink(self, depth: int) -> Query:
        """A condition with a subquery in WHERE."""
        source, scope = self.joined(0)
        values = [pick(self.choices, scope) for _ in range(self.choices.integer(1, 3))]
        condition = self._condition(scope, depth)
        return self._finish("SELECT", values, f"{source} WHERE {condition}") if condition else self.select(depth)

    def sublink_in_condition(self, depth: int) -> Query:
        """The same under OR, NOT, CASE and functions, in WHERE, ON, HAVING and the select list."""
        source, scope = self.item(depth)
        condition = self._condition(scope, 0)
        keys = [value for value in fixed(scope) if value.type is INT]
        if condition is None or not keys:
            return self.select(depth)
        shape = pick(self.choices, (*PREDICATES, *MORE_PREDICATES))
        condition = shape.format(condition, draw_predicate(self.choices, scope, 0))
        key, value = pick(self.choices, keys), pick(self.choices, scope)
        place = self.choices.integer(0, 4)
        if place <= 1:
            return self._finish("SELECT", [value, key], f" FROM {source} WHERE {condition}")
        if place == 2:
            return self._finish("SELECT", [value, Value(f"({condition})", BOOL)], f" FROM {source}")
        if place == 3:
            return self._having_subquery(source, key)
        return self._on_subquery(source, scope, value, condition)

    def _having_subquery(self, source: str, key: Value) -> Query:
        partner, columns = self.item(0)
        others = [value for value in fixed(columns) if value.type is INT]
        conditions = [f"count(*) > (SELECT count(*) FROM {partner}) / 4"]
        if others:
            other = pick(self.choices, others).sql
            conditions += [
                f"{key.sql} IN (SELECT {other} FROM {partner})",
                f"max({key.sql}) < ALL (SELECT {other} FROM {partner})",
            ]
        having = f" GROUP BY {key.sql} HAVING {pick(self.choices, conditions)}"
        return self._finish("SELECT", [key, Value("count(*)", BIGINT)], f" FROM {source}{having}")

    def _on_subquery(self, source: str, scope: Scope, value: Value, condition: str) -> Query:
        partner, columns = self.item(0)
        equalities = self._equalities(scope, columns)
        if not equalities:
            return self._finish("SELECT", [value], f" FROM {source} WHERE {condition}")
        kind = pick(self.choices, ("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
        shown = pick(self.choices, columns)
        if chance(self.choices, 40):
            condition = self._condition(scope + columns, 0) or condition
        on = f"{pick(self.choices, equalities)} AND {condition}"
        return self._finish("SELECT", [value, shown], f" FROM {source} {kind} {partner} ON {on}")

    def _condition(self, scope: Scope, depth: int) -> str | None:
        """EXISTS, IN, NOT IN, op ANY, op ALL; correlated or not. None if nothing can be compared."""
        partner, columns = self.item(max(0, depth - 1))
        pairs = [
            (left, right)
            for left in fixed(scope)
            for right in fixed(columns)
            if left.type is right.type and left.type.equality
        ]
        if not pairs:
            return None
        left, right = pick(self.choices, pairs)
        also, too = pick(self.choices, pairs)
        inner = f"FROM {partner} WHERE {draw_predicate(self.choices, columns, 0)}"
        correlated = f"{inner} AND {too.sql} = {also.sql}"
        operator = pick(self.choices, COMPARISONS if left.type.extremes else COMPARISONS[:2])
        width = f"CASE WHEN {right.sql} IS NULL OR {too.sql} IS NULL THEN 0 ELSE 1 END"
        options = (
            f"EXISTS (SELECT 1 {inner} AND {right.sql} = {left.sql})",
            f"NOT EXISTS (SELECT 1 {inner} AND {right.sql} = {left.sql})",
            f"{left.sql} IN (SELECT {right.sql} {inner})",
            f"{left.sql} NOT IN (SELECT {right.sql} {inner})",
            f"{left.sql} {operator} ALL (SELECT {right.sql} {inner})",
            f"{left.sql} {operator} ANY (SELECT {right.sql} {inner})",
            f"EXISTS (SELECT 1 {inner} AND {right.sql} <> {left.sql})",
            f"({left.sql} IS NULL OR {left.sql} IN (SELECT {right.sql} {inner}))",
            f"({left.sql}, {also.sql}) IN (SELECT {right.sql}, {too.sql} {inner})",
            f"({left.sql}, {also.sql}) NOT IN (SELECT {right.sql}, {too.sql} {inner})",
            f"{left.sql} NOT IN (SELECT {right.sql} {correlated})",
            f"{left.sql} IN (SELECT {right.sql} {correlated})",
            f"EXISTS (SELECT 1 {inner} LIMIT 1)",
            f"{left.sql} = (SELECT max({right.sql}) {correlated})"
            if left.type in (INT, TEXT)
            else f"EXISTS (SELECT 1 {inner})",
            f"{left.sql} = ANY (ARRAY(SELECT {right.sql} {inner}))",
            f"(SELECT count(*) {correlated}) > 1",
            f"EXISTS (SELECT generate_series(1, {width}) {inner} AND {right.sql} = {left.sql})",
            f"NOT EXISTS (SELECT generate_series(1, {width}) {correlated} OFFSET 0)",
            f"{left.sql} IN (SELECT {right.sql} {inner} ORDER BY generate_series(1, {width}))",
        )
        return pick(self.choices, options)

    def scalar_subquery(self, depth: int) -> Query:
        """Subqueries in the SELECT list, correlated or not, empty or NULL now and then."""
        source, scope = self.item(0)
        partner, columns = self.item(0)
        where = draw_predicate(self.choices, (*fixed(columns), *fixed(scope)), 1)
        calls = [Value(f"(SELECT count(*) FROM {partner} WHERE {where})", BIGINT)]
        for value in fixed(columns):
            if value.type in (INT, TEXT):
                calls.append(Value(f"(SELECT max({value.sql}) FROM {partner} WHERE {where})", value.type))
                first = f"SELECT {value.sql} FROM {partner} WHERE {where} ORDER BY 1 DESC LIMIT 1"
                calls.append(Value(f"({first})", value.type))
            if value.type is INT:
                calls.append(Value(f"ARRAY(SELECT {value.sql} FROM {partner} WHERE {where} ORDER BY 1)", INTS))
                calls.append(Value(f"coalesce((SELECT sum({value.sql}) FROM {partner} WHERE {where}), 0)", BIGINT))
        values = [pick(self.choices, scope), pick(self.choices, calls)]
        if chance(self.choices, 25):
            values.append(pick(self.choices, calls))
        return self._finish("SELECT", values, f" FROM {source}")

    def lateral(self, depth: int) -> Query:
        """A LATERAL subquery: an aggregate, a few rows, or all."""
        source, scope = self.item(0)
        partner, columns = self.item(0)
        where = draw_predicate(self.choices, (*fixed(columns), *fixed(scope)), 1)
        if chance(self.choices, 60) and (equalities := self._equalities(scope, columns)):
            where = pick(self.choices, equalities)
        self.aliases += 1
        alias = f"a{self.aliases}"
        side = pick(self.choices, ("CROSS JOIN LATERAL", "LEFT JOIN LATERAL", "LEFT JOIN LATERAL", "JOIN LATERAL"))
        on = "" if side.startswith("CROSS") else " ON true"
        inner, result = f"SELECT count(*) AS n FROM {partner} WHERE {where}", BIGINT
        numbers = [value for value in fixed(columns) if value.type is INT]
        if numbers and chance(self.choices, 60):
            number, result = pick(self.choices, numbers).sql, INT
            inner = f"SELECT {number} AS n FROM {partner} WHERE {where}"
            if chance(self.choices, 50):
                inner += f" ORDER BY 1 DESC NULLS LAST LIMIT {self.choices.integer(1, 2)}"
            elif on and chance(self.choices, 30):
                on = f" ON {alias}.n > 1"
        value = pick(self.choices, scope)
        rest = f" FROM {source} {side} ({inner}) AS {alias}{on}"
        shown = [Value(f"{alias}.n", result)]
        if chance(self.choices, 25):
            shown = [pick(self.choices, (Value(f"to_json({alias})::text", TEXT), Value(f"({alias})::text", TEXT)))]
        return self._finish("SELECT", [value, *shown], rest)
