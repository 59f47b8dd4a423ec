"""Random scalar expressions, predicates and aggregates over the columns of a scope."""

from __future__ import annotations

from dataclasses import dataclass

from tests.property.choices import Choices, chance, pick, weighted
from tests.property.templates import TEMPLATES
from tests.property.values import (
    BIGINT,
    BOOL,
    DOMAIN,
    FLOAT,
    INT,
    INTERVAL,
    INTS,
    MONEY,
    MONEY_LIKE,
    NUMERIC,
    SMALL,
    TEXT,
    TEXTS,
    VARCHAR,
    Type,
    literal,
)
from tests.support.oracle import APPROXIMATE, EQUAL, EXACT

WHOLE = (INT, BIGINT, SMALL, DOMAIN)
DECIMAL = (NUMERIC, MONEY_LIKE)
OF_PAIRS = (
    *("covar_pop", "covar_samp", "regr_sxx", "regr_sxy", "regr_syy", "regr_avgx", "regr_avgy"),
    *("corr", "regr_r2", "regr_slope", "regr_intercept"),
)
"""Aggregates over two numbers."""


@dataclass(frozen=True, slots=True)
class Value:
    """An expression: its text, type and how its result is to be compared."""

    sql: str
    type: Type
    comparison: str = EXACT

    @property
    def fixed(self) -> bool:
        """Whether its text is determined by the rows alone, so that anything may be computed from it."""
        return self.comparison == EXACT


Scope = tuple[Value, ...]


def keyable(scope: Scope) -> list[Value]:
    """The columns that may be grouped, joined or made distinct."""
    return [value for value in scope if value.type.equality and value.comparison != APPROXIMATE]


def fixed(scope: Scope) -> list[Value]:
    """The columns that may be computed with."""
    return [value for value in scope if value.fixed]


def draw_value(choices: Choices, scope: Scope, depth: int = 2) -> Value:
    """An expression over the scope: mostly a column."""
    candidates = fixed(scope)
    if depth == 0 or not candidates or chance(choices, 55):
        return pick(choices, scope)
    return draw_computed(choices, scope, pick(choices, candidates), depth)


def draw_computed(choices: Choices, scope: Scope, value: Value, depth: int) -> Value:
    """An expression around a column."""
    sql, kind = value.sql, value.type
    templates = TEMPLATES.get(kind.name)
    if templates and chance(choices, 40):
        template, result = pick(choices, templates)
        return Value(template.format(sql), result)
    options = [f"{sql}", f"coalesce({sql}, {literal(kind, kind.values[0])})"]
    if kind in WHOLE:
        options += [f"({sql} + 1)", f"(- {sql})", f"abs({sql})", f"({sql} % 2)"]
    if kind in (INT, BIGINT):
        other = pick(choices, [each for each in fixed(scope) if each.type is kind])
        options += [f"({sql} + {other.sql})", f"(100 / nullif({sql}, 0))", f"greatest({sql}, {other.sql})"]
    if kind in DECIMAL:
        return Value(pick(choices, (f"({sql} + 1)", f"({sql} * 2.50)", f"round({sql}, 1)")), NUMERIC)
    if kind is FLOAT:
        return Value(pick(choices, (f"({sql} + 1)", f"(- {sql})", f"({sql} * 2)")), FLOAT)
    if kind is TEXT:
        options += [f"upper({sql})", f"({sql} || 'x')", f"left({sql}, 1)", f"replace({sql}, 'a', '%')"]
    if kind is BOOL:
        options += [f"(NOT {sql})", draw_predicate(choices, scope, depth - 1)]
    if kind in (INTS, TEXTS):
        return Value(pick(choices, (f"cardinality({sql})", f"array_length({sql}, 1)")), INT)
    if chance(choices, 25):
        return _reshape(choices, scope, value, depth)
    if kind in (SMALL, DOMAIN):
        return Value(f"({pick(choices, options)})::integer", INT)
    return Value(pick(choices, options), kind)


def _reshape(choices: Choices, scope: Scope, value: Value, depth: int) -> Value:
    """Expressions whose type is another one."""
    sql, kind = value.sql, value.type
    shape = choices.integer(0, 3)
    if shape == 0:
        return Value(f"({sql})::text", TEXT)
    if shape == 1:
        return Value(f"({sql} IS NULL)", BOOL)
    predicate = draw_predicate(choices, scope, depth - 1)
    if shape == 2:
        return Value(f"CASE WHEN {predicate} THEN {sql} END", kind)
    return Value(f"CASE WHEN {predicate} THEN 1 WHEN {sql} IS NULL THEN 2 ELSE 0 END", INT)


def draw_predicate(choices: Choices, scope: Scope, depth: int = 2) -> str:
    """A condition over the scope."""
    candidates = [value for value in fixed(scope) if value.type.equality]
    if not candidates:
        return "true"
    if depth > 0 and chance(choices, 30):
        left, right = (draw_predicate(choices, scope, depth - 1) for _ in range(2))
        return pick(choices, (f"({left} AND {right})", f"({left} OR {right})", f"(NOT {left})"))
    value = pick(choices, candidates)
    constants = [literal(value.type, each) for each in value.type.values]
    partners = [other.sql for other in candidates if other.type is value.type]
    other = pick(choices, partners if chance(choices, 35) else constants)
    options = [f"({value.sql} = {other})", f"({value.sql} <> {other})", f"({value.sql} IS NOT NULL)"]
    options += [f"({value.sql} IS NULL)", f"({value.sql} IS DISTINCT FROM {other})"]
    options += [f"({value.sql} IN ({constants[0]}, {constants[-1]}))"]
    if value.type.extremes:
        options += [f"({value.sql} < {other})", f"({value.sql} >= {other})"]
        options += [f"({value.sql} BETWEEN {constants[-1]} AND {constants[0]})"]
    if value.type is TEXT:
        options += [f"({value.sql} LIKE '%a%')", f"({value.sql} = ANY (ARRAY['a', 'b']))"]
    if value.type is BOOL:
        options += [value.sql]
    for template, result in TEMPLATES.get(value.type.name, ()):
        if result is BOOL and chance(choices, 20):
            return template.format(value.sql)
    return pick(choices, options)


def draw_aggregate(choices: Choices, scope: Scope) -> Value:
    """An aggregate call whose result is determined by the rows, whatever their order."""
    filtered = f" FILTER (WHERE {draw_predicate(choices, scope, 1)})" if chance(choices, 20) else ""
    candidates = fixed(scope)
    if not candidates or chance(choices, 15):
        return Value(f"count(*){filtered}", BIGINT)
    value = pick(choices, candidates)
    if chance(choices, 15):
        value = draw_computed(choices, scope, value, 1)
    family = weighted(choices, [(5, _numbers), (3, _any_type), (2, _collecting)])
    call = family(choices, value, scope) or _any_type(choices, value, scope)
    bare = call.sql.removesuffix("::text")
    cast = call.sql[len(bare) :]
    return Value(f"{bare}{filtered}{cast}", call.type, call.comparison)


def aggregated(kind: Type) -> Type:
    """The type of min and max."""
    return {DOMAIN: INT, VARCHAR: TEXT, MONEY_LIKE: NUMERIC}.get(kind, kind)


def _numbers(choices: Choices, value: Value, scope: Scope) -> Value | None:
    sql, kind = value.sql, value.type
    if kind is INTERVAL:
        return Value(f"{pick(choices, ('sum', 'avg'))}({sql})", INTERVAL)
    if kind is MONEY:
        return Value(f"sum({sql})", MONEY)
    if not kind.number:
        return None
    distinct = "DISTINCT " if chance(choices, 10) else ""
    if kind is FLOAT:
        name = pick(choices, ("sum", "avg", "stddev", "var_pop", "min", "max"))
        return Value(f"{name}({distinct}{sql})", FLOAT, APPROXIMATE)
    if kind in WHOLE:
        base = aggregated(kind)
        options = [("sum", NUMERIC if kind is BIGINT else BIGINT), ("avg", NUMERIC), ("min", base), ("max", base)]
        name, result = pick(choices, options)
        if chance(choices, 15):
            return _moments(choices, sql)
        return Value(f"{name}({distinct}{sql})", result)
    name = pick(choices, ("sum", "avg", "min", "max"))
    if name in ("min", "max") or distinct:
        return Value(f"{name}({distinct}{sql})", NUMERIC, EQUAL)
    if chance(choices, 15):
        return _moments(choices, sql)
    return Value(f"{name}({sql})", NUMERIC)


def _moments(choices: Choices, sql: str) -> Value:
    name = pick(choices, ("stddev", "variance", "stddev_pop", "var_pop"))
    return Value(f"{name}({sql})", NUMERIC, APPROXIMATE)


def _any_type(choices: Choices, value: Value, scope: Scope) -> Value:
    sql, kind = value.sql, value.type
    options = [Value(f"count({sql})", BIGINT)]
    if kind.equality:
        options.append(Value(f"count(DISTINCT {sql})", BIGINT))
    if kind.extremes and kind not in (FLOAT, DOMAIN):
        comparison = kind.representative
        result = aggregated(kind)
        options += [Value(f"min({sql})", result, comparison), Value(f"max({sql})", result, comparison)]
    if kind is BOOL:
        options += [Value(f"bool_and({sql})", BOOL), Value(f"bool_or({sql})", BOOL), Value(f"every({sql})", BOOL)]
    if kind in (INT, BIGINT):
        options += [Value(f"bit_or({sql})", kind), Value(f"bit_and({sql})", kind)]
        other = pick(choices, [each for each in fixed(scope) if each.type is kind] or [value]).sql
        options += [Value(f"regr_count({sql}, {other})", BIGINT)]
        options += [Value(f"{pick(choices, OF_PAIRS)}({sql}, {other} % 3)", FLOAT, APPROXIMATE)]
    return pick(choices, options)


def _collecting(choices: Choices, value: Value, scope: Scope) -> Value | None:
    sql, kind = value.sql, value.type
    order = f'({sql})::text COLLATE "C"'
    options = [
        Value(f"string_agg(({sql})::text, ',' ORDER BY {order})", TEXT),
        Value(f"array_agg(({sql})::text ORDER BY {order} DESC NULLS FIRST)", TEXTS),
        Value(f"string_agg(DISTINCT {order}, '|' ORDER BY {order})", TEXT),
    ]
    if not kind.name.endswith("[]"):  # arrays of different lengths cannot be collected into one
        options.append(Value(f"array_agg({sql} ORDER BY {order})::text", TEXT))
    if kind in WHOLE:
        options.append(Value(f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {sql})", aggregated(kind)))
        options.append(Value(f"jsonb_agg({sql} ORDER BY {sql})::text", TEXT))
    return pick(choices, options)
