"""Random defining queries of the grammar that must be maintained incrementally.

Every query is valid SQL whose result is determined by the rows: where SQL leaves freedom (float sums, the
representative of a group) the column's comparison says so, and such a column is never computed with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.property.choices import Choices, chance, pick, weighted
from tests.property.expressions import (
    Scope,
    Value,
    draw_aggregate,
    draw_predicate,
    draw_value,
    fixed,
    keyable,
)
from tests.property.values import BIGINT, INT, NUMERIC, TEXT, literal
from tests.support.oracle import APPROXIMATE, EQUAL, EXACT, FOLDED

MAX_PRODUCTS = 1
"""Joins without an equality in one query: more would make it explode."""
NEVER = ("false", "NULL", "(1 = 0)")
"""Join conditions that read no column and are never met."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query and its output columns (their ``sql`` is the column's name)."""

    sql: str
    columns: Scope

    @property
    def classes(self) -> tuple[str, ...]:
        """How each column is to be compared."""
        return tuple(column.comparison for column in self.columns)


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that can stand in FROM: a table, a view, a stream table or a query in parentheses.

    ``key`` is the primary key of a base table, or None.
    """

    sql: str
    columns: Scope
    key: str | None = None


class Grammar:
    """Draws queries over some relations.

    Args:
        choices: where decisions come from.
        relations: base tables, views and stream tables.
    """

    def __init__(self, choices: Choices, relations: list[Relation]) -> None:
        self.choices = choices
        self.relations = relations
        self.aliases = 0
        self.products = 0

    def query(self, depth: int) -> Query:
        """A query whose output columns have distinct names."""
        return weighted(
            self.choices,
            [
                (5, self.select),
                (6, self.grouped),
                (2, self.distinct),
                (2, self.union_all),
                (2, self.with_cte),
                (1, self.using),
                (1, self.comma),
                (1, self.grouped_by_key),
                (1, self.star),
            ],
        )(depth)

    # --- the shapes ------------------------------------------------------------------------------------------------

    def select(self, depth: int) -> Query:
        """SELECT list FROM joins WHERE."""
        source, scope = self.joined(depth)
        values = [draw_value(self.choices, scope) for _ in range(self.choices.integer(1, 4))]
        return self._finish("SELECT", values, f"{source}{self._where(scope)}")

    def distinct(self, depth: int) -> Query:
        """SELECT DISTINCT."""
        source, scope = self.joined(depth)
        values = [draw_value(self.choices, scope) for _ in range(self.choices.integer(1, 3))]
        keys = [_as_key(value) for value in values if value in keyable(tuple(values))]
        if not keys:
            return self.select(depth)
        return self._finish("SELECT DISTINCT", keys, f"{source}{self._where(scope)}")

    def grouped(self, depth: int) -> Query:
        """GROUP BY with aggregates, or aggregates over everything."""
        source, scope = self.joined(depth)
        candidates = keyable(scope)
        keys = []
        for _ in range(weighted(self.choices, [(6, 1), (3, 2), (1, 0)])):
            if candidates:
                key = pick(self.choices, candidates)
                if key.fixed and chance(self.choices, 20):
                    key = draw_value(self.choices, (key,), 1)
                if key not in keys and key.type.equality and key.comparison != APPROXIMATE:
                    keys.append(key)
        aggregates = [draw_aggregate(self.choices, scope) for _ in range(self.choices.integer(1, 3))]
        having = ""
        if chance(self.choices, 20):
            having = self._having(scope)
        group = f" GROUP BY {', '.join(key.sql for key in keys)}" if keys else ""
        shown = [_as_key(key) for key in keys if not chance(self.choices, 10)]
        return self._finish("SELECT", [*shown, *aggregates], f"{source}{self._where(scope)}{group}{having}")

    def union_all(self, depth: int) -> Query:
        """Two or three queries one after the other."""
        first = self.select(depth) if chance(self.choices, 70) else self.grouped(depth)
        arms = [first]
        for _ in range(self.choices.integer(1, 2)):
            arms.append(self._arm_like(first, depth))
        columns = tuple(
            replace(column, comparison=_worst([arm.columns[position].comparison for arm in arms]))
            for position, column in enumerate(first.columns)
        )
        return Query(" UNION ALL ".join(f"({arm.sql})" for arm in arms), columns)

    def with_cte(self, depth: int) -> Query:
        """WITH: the CTE is read once or twice."""
        inner = self.query(max(0, depth - 1))
        self.aliases += 1
        name = f"w{self.aliases}"
        hint = pick(self.choices, ("", "", "MATERIALIZED ", "NOT MATERIALIZED "))
        nested = Grammar(self.choices, [Relation(name, inner.columns), *self.relations[:1]])
        nested.aliases = self.aliases + 10
        nested.products = self.products
        outer = pick(self.choices, (nested.select, nested.grouped, nested.distinct))(0)
        self.aliases = nested.aliases
        return Query(f"WITH {name} AS {hint}({inner.sql}) {outer.sql}", outer.columns)

    def using(self, depth: int) -> Query:
        """JOIN USING: the merged column is read without a qualifier."""
        left, right = pick(self.choices, self.relations), pick(self.choices, self.relations)
        shared = [
            each
            for each in fixed(left.columns)
            if each.type in (INT, TEXT) and any(each == other for other in right.columns)
        ]
        if not shared:
            return self.select(depth)
        merged = pick(self.choices, shared)
        kind = pick(self.choices, ("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
        values = [merged]
        values += [replace(each, sql=f"l.{each.sql}") for each in left.columns if each != merged][:2]
        values += [replace(each, sql=f"r.{each.sql}") for each in right.columns if each != merged][:2]
        if chance(self.choices, 25):
            return self._natural(left, right, merged, kind)
        source = f" FROM {left.sql} AS l {kind} {right.sql} AS r USING ({merged.sql})"
        return self._finish("SELECT", values, f"{source}{self._where((merged,))}")

    def _natural(self, left: Relation, right: Relation, merged: Value, kind: str) -> Query:
        """The same by NATURAL JOIN: the other columns get names of their own."""
        sides = []
        for side, relation in (("l", left), ("r", right)):
            others = [each for each in relation.columns if each.sql != merged.sql][:2]
            named = [replace(each, sql=f"{side}{number}") for number, each in enumerate(others)]
            shown = "".join(f", {each.sql} AS {own.sql}" for each, own in zip(others, named, strict=True))
            sides.append((f"(SELECT {merged.sql}{shown} FROM {relation.sql}) AS {side}", named))
        source = f" FROM {sides[0][0]} NATURAL {kind} {sides[1][0]}"
        return self._finish("SELECT", [merged, *sides[0][1], *sides[1][1]], f"{source}{self._where((merged,))}")

    def comma(self, depth: int) -> Query:
        """Relations separated by commas, the join condition in WHERE."""
        left, scope = self.item(depth)
        right, columns = self.item(0)
        equalities = self._equalities(scope, columns)
        if not equalities:
            return self.select(depth)
        values = [draw_value(self.choices, scope + columns) for _ in range(self.choices.integer(1, 3))]
        condition = f"{pick(self.choices, equalities)} AND {draw_predicate(self.choices, scope + columns, 0)}"
        return self._finish("SELECT", values, f" FROM {left}, {right} WHERE {condition}")

    def grouped_by_key(self, depth: int) -> Query:
        """GROUP BY a primary key: the other columns depend on it."""
        keyed = [relation for relation in self.relations if relation.key is not None]
        if not keyed:
            return self.grouped(depth)
        relation = pick(self.choices, keyed)
        self.aliases += 1
        alias = f"a{self.aliases}"
        own = tuple(replace(column, sql=f"{alias}.{column.sql}") for column in relation.columns)
        partner, columns = self.item(0)
        equalities = self._equalities(own, columns)
        if not equalities:
            return self.grouped(depth)
        kind = pick(self.choices, ("LEFT JOIN", "JOIN"))
        source = f" FROM {relation.sql} AS {alias} {kind} {partner} ON {pick(self.choices, equalities)}"
        shown = [pick(self.choices, own) for _ in range(self.choices.integer(1, 3))]
        values = [*shown, draw_aggregate(self.choices, own + columns)]
        return self._finish("SELECT", values, f"{source} GROUP BY {alias}.{relation.key}")

    def star(self, depth: int) -> Query:
        """SELECT * from one relation."""
        relation = pick(self.choices, self.relations)
        scope = tuple(replace(column, sql=f"a.{column.sql}") for column in relation.columns)
        shape = pick(self.choices, ("*", "a.*"))
        return Query(f"SELECT {shape} FROM {relation.sql} AS a{self._where(scope)}", relation.columns)

    # --- FROM ------------------------------------------------------------------------------------------------------

    def joined(self, depth: int) -> tuple[str, Scope]:
        """A FROM clause of one to four relations and the columns it offers."""
        source, scope = self.item(depth)
        for _ in range(weighted(self.choices, [(5, 0), (6, 1), (2, 2), (1, 3)])):
            partner, columns = self.item(max(0, depth - 1))
            source, scope = self._join(source, scope, partner, columns)
        return f" FROM {source}", scope

    def item(self, depth: int) -> tuple[str, Scope]:
        """One relation with an alias."""
        self.aliases += 1
        alias = f"a{self.aliases}"
        if depth > 0 and chance(self.choices, 35):
            inner = self.query(depth - 1)
            relation = Relation(f"({inner.sql})", inner.columns)
        elif chance(self.choices, 4):
            rows = "(1, 'a'), (2, NULL), (2, NULL), (NULL, 'b')"
            columns = (Value(f"{alias}.k", INT), Value(f"{alias}.v", TEXT))
            return f"(VALUES {rows}) AS {alias}(k, v)", columns
        else:
            relation = pick(self.choices, self.relations)
        scope = tuple(replace(column, sql=f"{alias}.{column.sql}") for column in relation.columns)
        return f"{relation.sql} AS {alias}", scope

    def _join(self, source: str, scope: Scope, partner: str, columns: Scope) -> tuple[str, Scope]:
        both = scope + columns
        kind = weighted(
            self.choices, [(4, "JOIN"), (4, "LEFT JOIN"), (2, "FULL JOIN"), (2, "RIGHT JOIN"), (1, "CROSS JOIN")]
        )
        equalities = self._equalities(scope, columns)
        if kind == "CROSS JOIN" or not equalities:
            self.products += 1
            if self.products > MAX_PRODUCTS:
                return source, scope
            return f"({source} CROSS JOIN {partner})", both
        condition = pick(self.choices, equalities)
        if chance(self.choices, 4):
            return f"({source} {kind} {partner} ON {pick(self.choices, NEVER)})", both
        if chance(self.choices, 15):
            condition = f"{condition} AND {pick(self.choices, equalities)}"
        if kind != "FULL JOIN" and chance(self.choices, 15):
            condition = f"{condition} AND {draw_predicate(self.choices, both, 0)}"
        if kind != "FULL JOIN" and chance(self.choices, 10):
            condition = "a_non_equi"
        if condition == "a_non_equi":
            self.products += 1
            if self.products > MAX_PRODUCTS:
                return source, scope
            condition = draw_predicate(self.choices, both, 1)
        return f"({source} {kind} {partner} ON {condition})", both

    def _equalities(self, scope: Scope, columns: Scope) -> list[str]:
        pairs = [
            (f"{left.sql} = {right.sql}", left.type)
            for left in keyable(scope)
            for right in keyable(columns)
            if left.type is right.type or {left.type.name, right.type.name} <= {"integer", "bigint", "numeric"}
        ]
        simple = [text for text, kind in pairs if kind is INT]
        return simple if simple and chance(self.choices, 60) else [text for text, _ in pairs]

    # --- small parts -----------------------------------------------------------------------------------------------

    def _where(self, scope: Scope) -> str:
        return f" WHERE {draw_predicate(self.choices, scope)}" if chance(self.choices, 35) else ""

    def _having(self, scope: Scope) -> str:
        aggregate = draw_aggregate(self.choices, scope)
        if not aggregate.fixed:
            return " HAVING count(*) > 1"
        if aggregate.type in (INT, BIGINT, NUMERIC):
            return f" HAVING {aggregate.sql} {pick(self.choices, ('>', '<=', '<>'))} 1"
        return f" HAVING {aggregate.sql} IS NOT NULL"

    def _finish(self, verb: str, values: list[Value], rest: str) -> Query:
        names = [f"x{number}" for number in range(1, len(values) + 1)]
        outputs = ", ".join(f"{value.sql} AS {name}" for value, name in zip(values, names, strict=True))
        columns = tuple(replace(value, sql=name) for value, name in zip(values, names, strict=True))
        return Query(f"{verb} {outputs}{rest}", columns)

    def _arm_like(self, first: Query, depth: int) -> Query:
        """A query with the column types of another one."""
        source, scope = self.joined(max(0, depth - 1))
        values = []
        for column in first.columns:
            same = [value for value in fixed(scope) if value.type is column.type]
            values.append(pick(self.choices, same) if same else Value(literal(column.type, None), column.type))
        return self._finish("SELECT", values, f"{source}{self._where(scope)}")


def _as_key(value: Value) -> Value:
    """A value after grouping: a representative if ``=`` is coarser than the output."""
    return replace(value, comparison=value.type.representative) if value.fixed else value


def _worst(comparisons: list[str]) -> str:
    return max(comparisons, key=(EXACT, EQUAL, FOLDED, APPROXIMATE).index)
