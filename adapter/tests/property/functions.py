"""Random set-returning functions, aggregates that recompute their group, grouping sets and recursion."""

from __future__ import annotations

from dataclasses import replace

from tests.property.choices import chance, pick
from tests.property.expressions import Value, draw_aggregate, fixed
from tests.property.queries import Grammar, Query
from tests.property.values import (
    BIGINT,
    FLOAT,
    INT,
    INTS,
    JSONB,
    MULTIRANGE,
    NUMERIC,
    PAIR,
    RANGE,
    TEXT,
    TEXTS,
    TSVECTOR,
)
from tests.support.oracle import APPROXIMATE

OWN_OBJECTS = {
    "p.pair": PAIR.setup or "",
    "p.total(": "CREATE AGGREGATE p.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0')",
    "p.twice(": "CREATE FUNCTION p.twice(integer) RETURNS integer IMMUTABLE LANGUAGE sql RETURN $1 * 2",
    "p.upto(": "CREATE FUNCTION p.upto(integer) RETURNS SETOF integer IMMUTABLE LANGUAGE sql"
    " AS 'SELECT generate_series(1, least($1, 3))'",
}
"""What has to be created if a query calls it."""
WALKS = (
    "SELECT {to} FROM {edges} JOIN walk ON {by} = walk.x1",
    "SELECT least({to}, 5) FROM {edges}, walk WHERE {by} = walk.x1 + 1",
    "SELECT {by} FROM {edges} JOIN walk ON {to} = walk.x1",
)


class FunctionGrammar(Grammar):
    """Draws queries with functions that return rows, aggregates of every kind and recursion."""

    def set_returning(self, depth: int) -> Query:
        """A function that returns rows, in FROM or in the SELECT list."""
        source, scope = self.item(depth)
        value = pick(self.choices, scope)
        self.aliases += 1
        alias = f"a{self.aliases}"
        numbers = [each for each in fixed(scope) if each.type is INT]
        documents = [each for each in fixed(scope) if each.type is JSONB]
        sets = [each for each in fixed(scope) if each.type in (MULTIRANGE, TSVECTOR, TEXTS, TEXT)]
        functions: list[tuple[str, Value]] = []
        if numbers:
            bounded = f"least({pick(self.choices, numbers).sql}, 3)"
            if chance(self.choices, 30):
                series = Value(f"generate_series(1, {bounded})", INT)
                return self._finish("SELECT", [value, series], f" FROM {source}{self._where(scope)}")
            functions += _of_numbers(bounded, alias)
        for each in documents:
            functions += _of_documents(each.sql, alias)
        for each in sets:
            functions += _of_sets(each, alias)
        if not functions:
            return self.select(depth)
        function, shown = pick(self.choices, functions)
        joins = [f"CROSS JOIN {function}", f", {function}", f"LEFT JOIN {function} ON true"]
        if shown.type is INT:
            joins.append(f"LEFT JOIN {function} ON {shown.sql} > 1")
        return self._finish("SELECT", [value, shown], f" FROM {source} {pick(self.choices, joins)}")

    def recomputed(self, depth: int) -> Query:
        """Aggregates that look at their whole group: ordered-set, hypothetical, of the user's own."""
        source, scope = self.joined(depth)
        numbers = [value for value in fixed(scope) if value.type is INT]
        keys = [value for value in fixed(scope) if value.type.equality and not value.type.coarse]
        if not numbers or not keys:
            return self.grouped(depth)
        number, key = pick(self.choices, numbers).sql, pick(self.choices, keys)
        calls = (
            Value(f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {number})", FLOAT, APPROXIMATE),
            Value(f"percentile_disc(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY {number})::text", TEXT),
            Value(f"mode() WITHIN GROUP (ORDER BY {number})", INT),
            Value(f"rank(2) WITHIN GROUP (ORDER BY {number})", BIGINT),
            Value(f"dense_rank(1, 2) WITHIN GROUP (ORDER BY {number} DESC, {number})", BIGINT),
            Value(f"cume_dist(1) WITHIN GROUP (ORDER BY {number})", FLOAT),
            Value(f"p.total({number})", INT),
            Value(f"p.total(DISTINCT {number} ORDER BY {number})", INT),
            Value(f"range_agg(int4range({number}, {number} + 2)) FILTER (WHERE {number} < 9)::text", TEXT),
            Value(f"jsonb_object_agg(coalesce({number}, 0), 1 ORDER BY {number})::text", TEXT),
            Value(f"json_agg({number} ORDER BY {number} DESC)::text", TEXT),
            Value(f"corr({number}, {number} % 3)", FLOAT, APPROXIMATE),
            Value(f"regr_slope({number}, {number} % 2)", FLOAT, APPROXIMATE),
            Value(f"array_agg(DISTINCT {number} ORDER BY {number} NULLS FIRST)", INTS),
            Value(f"bit_xor({number})", INT),
            Value(f"sum(p.twice({number})) FILTER (WHERE {number} < 1000)", BIGINT),
            Value(f"sum({number}) + count(*) * 2 - min({number})", BIGINT),
            Value(f"avg({number}) FILTER (WHERE {number} > 1)", NUMERIC),
            Value(f"JSON_ARRAYAGG({number} ORDER BY {number} NULL ON NULL)::text", TEXT),
            Value(f"range_intersect_agg(int4range({number}, 9)) FILTER (WHERE {number} < 9)::text", TEXT),
        )
        picked = [pick(self.choices, calls) for _ in range(self.choices.integer(1, 3))]
        if chance(self.choices, 15):
            return self._finish("SELECT", picked, f"{source}{self._where(scope)}")
        return self._finish("SELECT", [key, *picked], f"{source}{self._where(scope)} GROUP BY {key.sql}")

    def grouping_sets(self, depth: int) -> Query:
        """ROLLUP, CUBE, GROUPING SETS and their products, with GROUPING() and HAVING."""
        source, scope = self.joined(0)
        keys = [value for value in fixed(scope) if value.type.equality and not value.type.coarse][:4]
        if len(keys) < 2:
            return self.grouped(depth)
        left, right = keys[0], keys[-1]
        a, b = left.sql, right.sql
        sets = (
            f"ROLLUP ({a}, {b})",
            f"CUBE ({a}, {b})",
            f"GROUPING SETS (({a}), ({b}), ())",
            f"{a}, ROLLUP ({b})",
            f"GROUPING SETS (({a}, {b}), ROLLUP ({b}), ({a}))",
            f"DISTINCT ROLLUP ({a}), CUBE ({a}, {b})",
        )
        marker = Value(f"GROUPING({b}, {a})", INT)
        values = [left, right, Value("count(*)", BIGINT)]
        marker = replace(marker, sql=f"(SELECT {marker.sql})") if chance(self.choices, 20) else marker
        values += [marker] if chance(self.choices, 50) else []
        values += [draw_aggregate(self.choices, scope)] if chance(self.choices, 30) else []
        having = " HAVING count(*) > 1" if chance(self.choices, 20) else ""
        chosen = pick(self.choices, sets)
        if chance(self.choices, 12):
            values.append(Value("9", INT))
            chosen = f"GROUPING SETS ((9::integer), ({a}, 9::integer), ({b}))"
        text = f"{source}{self._where(scope)} GROUP BY {chosen}{having}"
        return self._finish("SELECT", values, text)

    def recursive(self, depth: int) -> Query:
        """Walks over a relation as a graph, which may have cycles; what is reached is joined or counted."""
        source, scope = self.item(0)
        keys = [value for value in fixed(scope) if value.type is INT]
        if not keys:
            return self.select(depth)
        by, to = pick(self.choices, keys).sql, pick(self.choices, keys).sql
        start = f"SELECT {by} AS x1 FROM {source} WHERE {by} < 2"
        shape = self.choices.integer(0, 3)
        if shape == 0:
            step = pick(self.choices, WALKS).format(to=to, by=by, edges=source)
            text = f"WITH RECURSIVE walk AS ({start} UNION {step})"
        elif shape == 1:
            text = (
                f"WITH RECURSIVE walk(x1, d) AS (SELECT {by}, 1 FROM {source} WHERE {by} < 2"
                f" UNION ALL SELECT walk.x1 + 1, d + 1 FROM walk WHERE d < 3)"
            )
        elif shape == 2:
            text = (
                f"WITH RECURSIVE pairs(x1, x2) AS (SELECT {by}, {to} FROM {source} WHERE {by} < 50"
                f" UNION SELECT pairs.x1, {to} FROM pairs JOIN {source} ON {by} = pairs.x2),"
                " walk AS (SELECT x1 FROM pairs WHERE x2 IS NOT NULL)"
            )
        else:
            clause = pick(
                self.choices,
                ("CYCLE x1 SET looped USING path", "SEARCH DEPTH FIRST BY x1 SET place CYCLE x1 SET l USING p"),
            )
            step = f"SELECT {to} FROM {source} JOIN walk ON {by} = walk.x1"
            text = f"WITH RECURSIVE walk AS (SELECT 1 AS x1 UNION {step}) {clause}"
        if chance(self.choices, 30):
            return Query(
                f"{text} SELECT x1, count(*) AS x2 FROM walk GROUP BY x1", (Value("x1", INT), Value("x2", BIGINT))
            )
        return Query(f"{text} SELECT x1 FROM walk", (Value("x1", INT),))


def _of_numbers(bounded: str, alias: str) -> list[tuple[str, Value]]:
    shown = Value(f"{alias}.n", INT)
    return [
        (f"generate_series(1, {bounded}) AS {alias}(n)", shown),
        (f"unnest(ARRAY[{bounded}, 7]) AS {alias}(n)", shown),
        (f"unnest(ARRAY[1, 2]) WITH ORDINALITY AS {alias}(n, o)", shown),
        (f"generate_series({bounded}, 3) WITH ORDINALITY AS {alias}(m, n)", Value(f"{alias}.n", BIGINT)),
        (f"ROWS FROM (generate_series(1, {bounded}), unnest(ARRAY[5, 6])) AS {alias}(m, n)", shown),
        (f"unnest(ARRAY[1, {bounded}], ARRAY['a', NULL, 'c']) AS {alias}(m, n)", Value(f"{alias}.n", TEXT)),
        (f"p.upto({bounded}) AS {alias}(n)", shown),
        (f"unnest(ARRAY[{bounded}, 4]) WITH ORDINALITY AS {alias}(n, o)", Value(f"to_json({alias})::text", TEXT)),
        (f"string_to_table(({bounded})::text || ',x', ',') AS {alias}(n)", Value(f"{alias}.n", TEXT)),
        (
            f"JSON_TABLE(jsonb_build_array({bounded}, 2), '$[*]' COLUMNS (m integer PATH '$')) AS {alias}(n)",
            shown,
        ),
    ]


def _of_documents(sql: str, alias: str) -> list[tuple[str, Value]]:
    an_object = f"CASE jsonb_typeof({sql}) WHEN 'object' THEN {sql} ELSE '{{\"z\": [1]}}' END"
    return [
        (f"jsonb_each_text({an_object}) AS {alias}(m, n)", Value(f"{alias}.n", TEXT)),
        (f"jsonb_object_keys({an_object}) AS {alias}(n)", Value(f"{alias}.n", TEXT)),
        (f"jsonb_array_elements(jsonb_build_array({sql}, 1)) AS {alias}(n)", Value(f"({alias}.n)::text", TEXT)),
        (f"jsonb_to_record({an_object}) AS {alias}(a numeric, n text)", Value(f"{alias}.n", TEXT)),
        (f"jsonb_path_query({sql}, '$.a') AS {alias}(n)", Value(f"({alias}.n)::text", TEXT)),
        (f"jsonb_populate_record(NULL::p.pair, {an_object}) AS {alias}(m, n)", Value(f"to_json({alias})::text", TEXT)),
        (
            f"JSON_TABLE({an_object}, '$' COLUMNS (i FOR ORDINALITY, n text PATH '$.a' DEFAULT 'none' ON EMPTY,"
            f" NESTED PATH '$.z[*]' COLUMNS (m integer PATH '$'))) AS {alias}",
            Value(f"concat({alias}.i, {alias}.n, {alias}.m)", TEXT),
        ),
    ]


def _of_sets(value: Value, alias: str) -> list[tuple[str, Value]]:
    """What unpacks a value of several parts."""
    sql, shown = value.sql, Value(f"{alias}.n", TEXT)
    if value.type is MULTIRANGE:
        return [(f"unnest({sql}) AS {alias}(n)", Value(f"{alias}.n", RANGE))]
    if value.type is TSVECTOR:
        return [(f"unnest({sql}) AS {alias}(n, positions, weights)", shown)]
    if value.type is TEXTS:
        return [(f"unnest({sql}) WITH ORDINALITY AS {alias}(n, o)", shown)]
    return [
        (f"regexp_split_to_table({sql}, '') WITH ORDINALITY AS {alias}(n, o)", shown),
        (f"ts_parse('default', {sql}) AS {alias}(t, n)", shown),
    ]
