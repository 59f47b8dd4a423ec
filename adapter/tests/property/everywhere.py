"""Subqueries where they are seldom written: in arguments, keys, frames and in each other, over whole rows and sets."""

from __future__ import annotations

from tests.property.choices import chance, pick
from tests.property.expressions import Scope, Value, fixed
from tests.property.queries import Query
from tests.property.subqueries import SubqueryGrammar
from tests.property.values import BIGINT, BOOL, INT, INTS, TEXT

NESTED = (
    "EXISTS (SELECT 1 FROM {b} WHERE {y} = {x} AND NOT EXISTS (SELECT 1 FROM {c} WHERE {z} = {y} AND {z} > {x} - 1))",
    "{x} IN (SELECT {y} FROM {b} WHERE {y} > ANY (SELECT {z} FROM {c} WHERE {z} <> {x}))",
    "{x} NOT IN (SELECT {y} FROM {b} WHERE {y} = (SELECT max({z}) FROM {c} WHERE {z} <= {x}))",
    "EXISTS (SELECT {y} FROM {b} WHERE {y} >= {x} EXCEPT SELECT {z} FROM {c} WHERE {z} <> {x})",
    "{x} = ANY (SELECT {y} FROM {b} UNION ALL SELECT {z} FROM {c} WHERE {z} = {x} + 1)",
    "EXISTS (SELECT 1 FROM {b} LEFT JOIN {c} ON {z} = {y} AND {z} = {x} WHERE {z} IS NULL AND {y} = {x})",
    "EXISTS (SELECT {y} FROM {b} JOIN {c} ON {z} = {y} WHERE {y} = {x} GROUP BY {y} HAVING count(*) > 1)",
    "({x}, {x}) < ANY (SELECT {y}, {z} FROM {b}, {c} WHERE {y} = {z})",
    "ROW({x}, 1) >= ALL (SELECT {y}, 2 FROM {b} WHERE {y} <> {x})",
    "({x}, 2) <> SOME (SELECT {y}, count(*) FROM {b} GROUP BY {y})",
    "({x}, 1::bigint) IN (SELECT {y}, count(*) FROM {b} GROUP BY {y})",
    "({x}, {x}) = (SELECT {y}, {y} FROM {b} WHERE {y} <= {x} ORDER BY {y} DESC LIMIT 1)",
    "{x} <= ALL (SELECT {y} FROM {b} WHERE {y} IS NOT NULL OR EXISTS (SELECT 1 FROM {c} WHERE {z} = {x}))",
)
"""Conditions; x is outside, y and z are in two tables inside."""
NUMBERS = (
    "(SELECT max({y}) FROM {b} WHERE {y} < {x})",
    "(SELECT count({z}) FROM {b} LEFT JOIN {c} ON {z} = {y} WHERE {y} = {x})",
    "(SELECT min({y}) FROM {b} WHERE {y} IN (SELECT {z} FROM {c} WHERE {z} > {x}))",
    "(SELECT {y} FROM {b} WHERE {y} >= {x} ORDER BY {y} LIMIT 1)",
    "(SELECT sum(q.n) FROM (SELECT count(*) AS n FROM {b} WHERE {y} <> {x} GROUP BY {y}) AS q)",
    "(SELECT count(DISTINCT {y}) FROM {b} WHERE {y} = {x} OR {x} IS NULL)",
    "(SELECT max({y} + {x}) FROM {b} WHERE {y} > (SELECT avg({z}) FROM {c} WHERE {z} <= {x}))",
    "(SELECT count(*) FROM (SELECT {y} AS v FROM {b} UNION SELECT {z} FROM {c} WHERE {z} = {x}) AS q WHERE q.v >= {x})",
    "(SELECT max(r) FROM (SELECT rank() OVER (ORDER BY {y}) AS r FROM {b} WHERE {y} <= {x}) AS q)",
    "(SELECT CASE WHEN count(*) = 0 THEN -1 ELSE max({y}) END FROM {b} WHERE {y} = {x} - 1)",
)
"""Numbers, likewise."""
LATERAL = (
    "(SELECT {y} AS n FROM {b} LEFT JOIN {c} ON {z} = {y} AND {z} = {x} WHERE {z} IS NULL AND {y} >= {x})",
    "(SELECT count({z}) AS n FROM {b} LEFT JOIN {c} ON {z} = {y} WHERE {y} = {x} GROUP BY {y})",
    "(SELECT {y} AS n FROM {b} WHERE {y} = {x} UNION SELECT {z} FROM {c} WHERE {z} > {x})",
    "(SELECT DISTINCT ON ({y}) {y} + {x} AS n FROM {b} WHERE {y} <> {x} ORDER BY {y})",
    "(SELECT {x} + 1 AS n WHERE {x} IN (SELECT {y} FROM {b}))",
    "(SELECT sum({y}) OVER (ORDER BY {y}) AS n FROM {b} WHERE {y} <= {x})",
)
"""Rows of a number each, likewise."""


class EverywhereGrammar(SubqueryGrammar):
    """Draws queries with subqueries in places that few queries have them in."""

    def everywhere(self, depth: int) -> Query:
        """A subquery in an argument, FILTER, key, frame, CASE, ORDER BY, the select list or under LATERAL."""
        source, scope = self.item(depth)
        numbers = [value for value in fixed(scope) if value.type is INT]
        if not numbers:
            return self.select(depth)
        key = pick(self.choices, numbers)
        number, condition = self._inner(NUMBERS, key), self._inner(NESTED, key)
        if number is None or condition is None:
            return self.select(depth)
        shapes = (self._aggregated, self._keyed, self._framed, self._cased, self._first, self._beside)
        return pick(self.choices, shapes)(source, scope, key, number, condition)

    def _inner(self, shapes: tuple[str, ...], key: Value) -> str | None:
        """One of the shapes over two tables of which a number is compared."""
        found = []
        for _ in range(2):
            partner, columns = self.item(0)
            numbers = [value for value in fixed(columns) if value.type is INT]
            if not numbers:
                return None
            found.append((partner, pick(self.choices, numbers).sql))
        (b, y), (c, z) = found
        return pick(self.choices, shapes).format(x=key.sql, b=b, y=y, c=c, z=z)

    def _aggregated(self, source: str, scope: Scope, key: Value, number: str, condition: str) -> Query:
        calls = (
            Value(f"count({number})", BIGINT),
            Value(f"max({number})::bigint", BIGINT),
            Value(f"sum({number}::bigint)::bigint", BIGINT),
            Value(f"count(*) FILTER (WHERE {condition})", BIGINT),
            Value(f"bool_or({condition})", BOOL),
            Value(f"count(DISTINCT {number})", BIGINT),
            Value(f"array_agg({number}::integer ORDER BY {number} NULLS FIRST)", INTS),
            Value(f"(SELECT count(*) FROM (VALUES (1), (2)) AS v (c) WHERE c <= max({key.sql}))", BIGINT),
        )
        picked = [pick(self.choices, calls) for _ in range(self.choices.integer(1, 2))]
        if chance(self.choices, 25):
            return self._finish("SELECT", picked, f" FROM {source}")
        having = f" HAVING bool_or({condition}) OR count(*) > 1" if chance(self.choices, 25) else ""
        return self._finish("SELECT", [key, *picked], f" FROM {source} GROUP BY {key.sql}{having}")

    def _keyed(self, source: str, scope: Scope, key: Value, number: str, condition: str) -> Query:
        shown = Value(f"({number})::bigint", BIGINT) if chance(self.choices, 50) else Value(f"({condition})", BOOL)
        if chance(self.choices, 30):
            return self._finish("SELECT DISTINCT", [shown, key], f" FROM {source}")
        return self._finish("SELECT", [shown, Value("count(*)", BIGINT)], f" FROM {source} GROUP BY {shown.sql}")

    def _framed(self, source: str, scope: Scope, key: Value, number: str, condition: str) -> Query:
        window = pick(
            self.choices,
            (
                f"(PARTITION BY {number})",
                f"(PARTITION BY {key.sql} ORDER BY {number})",
                f"(PARTITION BY ({condition}) ORDER BY {key.sql} RANGE UNBOUNDED PRECEDING)",
                f"(ORDER BY {number}, {key.sql})",
            ),
        )
        calls = (
            Value(f"count(*) OVER {window}", BIGINT),
            Value(f"sum({key.sql}) OVER {window}", BIGINT),
            Value(f"max({number}) OVER (PARTITION BY {key.sql})::bigint", BIGINT),
            Value(f"rank() OVER {window}", BIGINT),
        )
        return self._finish("SELECT", [key, pick(self.choices, calls)], f" FROM {source}")

    def _cased(self, source: str, scope: Scope, key: Value, number: str, condition: str) -> Query:
        values = (
            Value(f"CASE WHEN {condition} THEN ({number})::bigint ELSE {key.sql} END", BIGINT),
            Value(f"coalesce(({number})::bigint, {key.sql}, -1)", BIGINT),
            Value(f"(NOT ({condition}) OR ({number}) > 1)", BOOL),
            Value(f"format('%s %s', {number}, {condition})", TEXT),
            Value(f"(ARRAY[{key.sql}, ({number})::integer])[2]", INT),
        )
        where = f" WHERE {condition}" if chance(self.choices, 30) else ""
        return self._finish("SELECT", [key, pick(self.choices, values)], f" FROM {source}{where}")

    def _first(self, source: str, scope: Scope, key: Value, number: str, condition: str) -> Query:
        shown = self._finish("SELECT", [key, Value(f"({number})::bigint", BIGINT)], f" FROM {source}")
        order = f"ORDER BY {number}, {key.sql} LIMIT {self.choices.integer(1, 3)}"
        return Query(f"{shown.sql} {order}", shown.columns)

    def _beside(self, source: str, scope: Scope, key: Value, number: str, condition: str) -> Query:
        inner = self._inner(LATERAL, key)
        if inner is None:
            return self._cased(source, scope, key, number, condition)
        self.aliases += 1
        alias = f"a{self.aliases}"
        shown = Value(f"({alias}.n)::bigint", BIGINT)
        join = f"LEFT JOIN LATERAL {inner} AS {alias} ON true"
        if chance(self.choices, 50):
            join = f"CROSS JOIN LATERAL {inner} AS {alias}"
        where = f" WHERE {alias}.n IS NOT NULL OR {condition}" if chance(self.choices, 30) else ""
        if chance(self.choices, 30):
            return self._finish(
                "SELECT",
                [key, Value(f"count({alias}.n)", BIGINT)],
                f" FROM {source} {join}{where} GROUP BY {key.sql}",
            )
        return self._finish("SELECT", [key, shown], f" FROM {source} {join}{where}")
