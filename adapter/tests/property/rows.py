"""Random queries that use rows as a whole: shown, compared, counted, collected; and the place of a row."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tests.property.choices import chance, pick
from tests.property.expressions import Scope, Value, fixed
from tests.property.queries import Grammar, Query
from tests.property.values import BIGINT, BOOL, OID, TEXT, Type
from tests.property.windows import total_order

_STORED = re.compile(r"p\.(?:t\d+(?:_heir)?|s\d+|v\d+)")
_BASE = re.compile(r"(?:ONLY )?p\.t\d+(?:_heir)?")
IMAGES = (
    "({0})::text",
    "to_json({0})::text",
    "row_to_json({0})::text",
    "to_jsonb({0})::text",
    "jsonb_build_object('r', {0}, 'n', 1)::text",
    "json_build_array({0}, 1)::text",
    "format('%s', {0})",
    "ROW({0}.*, 1)::text",
    "coalesce(to_json({0})::text, 'none')",
    "CASE WHEN {0} IS NULL THEN 'none' ELSE ({0})::text END",
    "md5(({0})::text)",
)
"""Texts of a row."""
TESTS = ("({0} IS NULL)", "({0} IS NOT NULL)", "(NOT ({0} IS NULL))", "(num_nulls({0}) = 0)")
"""Conditions on a row, whatever is in it."""
COLLECTED = (
    "json_agg({0} ORDER BY {1})::text",
    "jsonb_agg({0} ORDER BY {1} DESC)::text",
    "array_agg({0} ORDER BY {1})::text",
    "string_agg(({0})::text, ';' ORDER BY {1})",
    "json_object_agg(coalesce({2}, 'none'), {0} ORDER BY {1})::text",
    "json_agg({0} ORDER BY {1}) FILTER (WHERE {0} IS NOT NULL)::text",
)
"""Aggregates of rows, in an order by their text; the last hole is a text of their own."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something in FROM of which rows are used as a whole."""

    source: str
    alias: str
    scope: Scope

    @property
    def shown(self) -> bool:
        """Whether the text of its rows is determined."""
        return all(value.fixed for value in self.scope)

    @property
    def comparable(self) -> bool:
        """Whether its rows can be grouped and compared."""
        return self.shown and all(value.type.equality for value in self.scope)

    @property
    def coarse(self) -> bool:
        """Whether rows that are equal may look different."""
        return any(value.type.coarse for value in self.scope)

    @property
    def order(self) -> str:
        """What its rows are ordered by, so that peers look the same."""
        return f'({self.alias})::text COLLATE "C"'

    @property
    def relation(self) -> str:
        """What stands before its alias."""
        return self.source.removesuffix(f" AS {self.alias}")

    def again(self, alias: str) -> Item:
        """The same relation under another name."""
        scope = tuple(replace(each, sql=alias + each.sql.removeprefix(self.alias)) for each in self.scope)
        return Item(f"{self.relation} AS {alias}", alias, scope)


class RowGrammar(Grammar):
    """Draws queries over whole rows."""

    def whole_rows(self, depth: int) -> Query:
        """Rows of tables, views, subqueries, common table expressions and joins."""
        source, scope = self.item(depth)
        item = Item(source, scope[0].sql.split(".", 1)[0], scope)
        if not source.endswith(f" AS {item.alias}"):  # VALUES has names of columns behind its alias
            return self.select(depth)
        shapes = (
            self._shown_rows,
            self._joined_rows,
            self._collected_rows,
            self._grouped_rows,
            self._rows_in_windows,
            self._rows_in_subqueries,
            self._rows_of_names,
            self._rows_themselves,
        )
        return pick(self.choices, shapes)(item)

    def _facts(self, item: Item) -> list[Value]:
        """What can be said of a row."""
        facts = [Value(pick(self.choices, TESTS).format(item.alias), BOOL)]
        if item.shown:
            facts += [Value(pick(self.choices, IMAGES).format(item.alias), TEXT) for _ in range(2)]
        return facts

    def _other(self, item: Item) -> Item:
        self.aliases += 1
        return item.again(f"a{self.aliases}")

    def _shown_rows(self, item: Item) -> Query:
        values = [pick(self.choices, item.scope), pick(self.choices, self._facts(item))]
        where = f" WHERE {pick(self.choices, TESTS).format(item.alias)}" if chance(self.choices, 30) else ""
        return self._finish("SELECT", values, f" FROM {item.source}{where}")

    def _joined_rows(self, item: Item) -> Query:
        """An outer join fills rows as a whole; rows of one relation are compared."""
        other = self._other(item)
        if chance(self.choices, 40):
            source, scope = self.item(0)
            other = Item(source, scope[0].sql.split(".", 1)[0], scope)
        equalities = self._equalities(item.scope, other.scope)
        if not equalities or not other.source.endswith(f" AS {other.alias}"):
            return self._shown_rows(item)
        facts = [*self._facts(item), *self._facts(other)]
        condition = pick(self.choices, equalities)
        if item.relation == other.relation and item.comparable:
            comparisons = ("({0} = {1})", "({0} IS DISTINCT FROM {1})", "({0} <> {1})", "(({0}.*) < ({1}.*))")
            facts.append(Value(pick(self.choices, comparisons).format(item.alias, other.alias), BOOL))
            if chance(self.choices, 40):
                condition = f"{item.alias} = {other.alias}"
        kind = pick(self.choices, ("LEFT JOIN", "FULL JOIN", "RIGHT JOIN", "JOIN"))
        if kind != "FULL JOIN" and chance(self.choices, 20):
            condition = f"{condition} AND {pick(self.choices, TESTS).format(other.alias)}"
        values = [pick(self.choices, facts) for _ in range(self.choices.integer(1, 3))]
        where = f" WHERE {pick(self.choices, TESTS).format(other.alias)}" if chance(self.choices, 25) else ""
        source = f" FROM {item.source} {kind} {other.source} ON {condition}{where}"
        if chance(self.choices, 25):
            counted = [Value(f"count({each.alias})", BIGINT) for each in (item, other)]
            return self._finish("SELECT", counted, source)
        return self._finish("SELECT", values, source)

    def _collected_rows(self, item: Item) -> Query:
        keys = [value for value in fixed(item.scope) if value.type.equality and not value.type.coarse]
        row, image = item.alias, f"({item.alias})::text"
        calls = [Value(f"count({row})", BIGINT), Value(f"count(*) FILTER (WHERE {row} IS NULL)", BIGINT)]
        if item.shown:
            calls += [Value(call.format(row, item.order, image), TEXT) for call in COLLECTED]
        if item.comparable:
            calls += [Value(f"count(DISTINCT {row})", BIGINT)]
        values = [pick(self.choices, calls) for _ in range(self.choices.integer(1, 3))]
        if not keys or chance(self.choices, 25):
            return self._finish("SELECT", values, f" FROM {item.source}")
        key = pick(self.choices, keys)
        having = f" HAVING count({row}) > 1" if chance(self.choices, 20) else ""
        return self._finish("SELECT", [key, *values], f" FROM {item.source} GROUP BY {key.sql}{having}")

    def _grouped_rows(self, item: Item) -> Query:
        if not item.comparable:
            return self._collected_rows(item)
        count = Value("count(*)", BIGINT)
        if item.coarse:
            return self._finish("SELECT", [count], f" FROM {item.source} GROUP BY {item.alias}")
        shown = Value(pick(self.choices, IMAGES[:4]).format(item.alias), TEXT)
        if chance(self.choices, 30):
            return self._finish("SELECT DISTINCT", [shown], f" FROM {item.source}")
        if chance(self.choices, 40):
            other, word = self._other(item), pick(self.choices, ("UNION", "EXCEPT", "INTERSECT ALL", "UNION ALL"))
            arms = [f"SELECT {each.alias} AS r FROM {each.source}" for each in (item, other)]
            where = f" WHERE {pick(self.choices, TESTS).format(other.alias)}"
            return self._finish(
                "SELECT", [Value("(q.r)::text", TEXT)], f" FROM ({arms[0]} {word} {arms[1]}{where}) AS q"
            )
        return self._finish("SELECT", [shown, count], f" FROM {item.source} GROUP BY {item.alias}")

    def _rows_in_windows(self, item: Item) -> Query:
        if not item.shown:
            return self._shown_rows(item)
        keys = [value for value in item.scope if value.type.equality]
        partition = f"PARTITION BY {pick(self.choices, keys).sql} " if keys and chance(self.choices, 70) else ""
        over = f"OVER ({partition}ORDER BY {total_order(item.scope)})"
        calls = [
            Value(f"count({item.alias}) OVER ({partition.strip()})", BIGINT),
            Value(f"lag({item.alias}) {over}::text", TEXT),
            Value(f"to_json(first_value({item.alias}) {over})::text", TEXT),
            Value(f"row_number() OVER ({partition}ORDER BY {item.order})", BIGINT),
        ]
        if item.comparable:
            calls.append(Value(f"rank() OVER ({partition}ORDER BY {item.alias})", BIGINT))
            calls.append(Value(f"count(*) OVER (PARTITION BY {item.alias})", BIGINT))
        values = [pick(self.choices, item.scope), pick(self.choices, calls)]
        return self._finish("SELECT", values, f" FROM {item.source}")

    def _rows_in_subqueries(self, item: Item) -> Query:
        other = self._other(item)
        keys = [value for value in fixed(item.scope) if value.type.equality]
        if not keys or not item.shown:
            return self._shown_rows(item)
        key = pick(self.choices, keys)
        same = f"{other.alias}{key.sql.removeprefix(item.alias)} = {key.sql}"
        asked = f"FROM {other.source} WHERE {same}"
        values = [
            Value(f"(SELECT count({other.alias}) {asked})", BIGINT),
            Value(f"(SELECT to_json({other.alias}) {asked} ORDER BY {other.order} LIMIT 1)::text", TEXT),
            Value(f"(SELECT {other.alias} {asked} ORDER BY {other.order} DESC LIMIT 1)::text", TEXT),
            Value(f"ARRAY(SELECT ({other.alias})::text {asked} ORDER BY {other.order})::text", TEXT),
            Value(f"(SELECT json_agg({other.alias} ORDER BY {other.order}) {asked})::text", TEXT),
            Value(f"EXISTS (SELECT {other.alias} {asked} AND {other.alias} IS NOT NULL)", BOOL),
        ]
        where = ""
        if item.comparable:
            values.append(Value(f"({item.alias} = ANY (SELECT {other.alias} {asked}))", BOOL))
            if chance(self.choices, 40):
                word = pick(self.choices, ("IN", "NOT IN"))
                test = pick(self.choices, TESTS).format(other.alias)
                where = f" WHERE {item.alias} {word} (SELECT {other.alias} FROM {other.source} WHERE {test})"
        return self._finish("SELECT", [key, pick(self.choices, values)], f" FROM {item.source}{where}")

    def _rows_of_names(self, item: Item) -> Query:
        """Rows of common table expressions and of joins with an alias."""
        if not item.shown:
            return self._shown_rows(item)
        self.aliases += 1
        name = f"w{self.aliases}"
        names = [f"x{number}" for number in range(len(item.scope))]
        shown = ", ".join(f"{value.sql} AS {own}" for value, own in zip(item.scope, names, strict=True))
        value = Value(pick(self.choices, IMAGES).format(name), TEXT)
        if chance(self.choices, 50):
            hint = pick(self.choices, ("", "MATERIALIZED ", "NOT MATERIALIZED "))
            unused = ", unused AS (SELECT random())" if chance(self.choices, 20) else ""
            query = self._finish("SELECT", [value], f" FROM {name}")
            text = f"WITH {name} AS {hint}(SELECT {shown} FROM {item.source}){unused} {query.sql}"
            return Query(text, query.columns)
        source, scope = self.item(0)
        equalities = self._equalities(item.scope, scope)
        if not equalities or not all(each.fixed for each in scope):
            return self._shown_rows(item)
        names += [f"y{number}" for number in range(len(scope))]
        kind = pick(self.choices, ("JOIN", "LEFT JOIN", "FULL JOIN"))
        condition = pick(self.choices, equalities)
        joined = f"({item.source} {kind} {source} ON {condition}) AS {name}({', '.join(names)})"
        return self._finish("SELECT", [value], f" FROM {joined}")

    def _rows_themselves(self, item: Item) -> Query:
        """A column of which the type is that of a table's rows, or the place of the rows."""
        if _BASE.fullmatch(item.relation) and chance(self.choices, 50):
            return self._places(item)
        if not _STORED.fullmatch(item.relation) or not item.shown:
            return self._shown_rows(item)
        kind = row_type(item)
        where = f" WHERE {pick(self.choices, TESTS).format(item.alias)}" if chance(self.choices, 20) else ""
        values = [Value(item.alias, kind), pick(self.choices, item.scope)]
        return self._finish("SELECT", values, f" FROM {item.source}{where}")

    def _places(self, item: Item) -> Query:
        place = f"{item.alias}.tableoid::regclass::text"
        shapes = self.choices.integer(0, 4)
        if shapes == 0:
            values = [Value(place, TEXT), Value("count(*)", BIGINT)]
            return self._finish("SELECT", values, f" FROM {item.source} GROUP BY {item.alias}.tableoid")
        if shapes == 1:
            return self._finish(
                "SELECT", [Value(f"count(DISTINCT {item.alias}.tableoid)", BIGINT)], f" FROM {item.source}"
            )
        if shapes == 2:
            values = [pick(self.choices, item.scope), Value(f"{item.alias}.tableoid", OID)]
            return self._finish("SELECT", values, f" FROM {item.source}")
        if shapes == 3:
            value = Value(f"count(*) OVER (PARTITION BY {item.alias}.tableoid)", BIGINT)
            return self._finish("SELECT", [Value(place, TEXT), value], f" FROM {item.source}")
        source, scope = self.item(0)
        equalities = self._equalities(item.scope, scope)
        if not equalities:
            return self._shown_rows(item)
        condition = pick(self.choices, equalities)
        kind = pick(self.choices, ("LEFT JOIN", "FULL JOIN", "RIGHT JOIN"))
        values = [Value(place, TEXT), pick(self.choices, scope)]
        return self._finish("SELECT", values, f" FROM {item.source} {kind} {source} ON {condition}")


def row_type(item: Item) -> Type:
    """The type of the rows of a stored relation; its value is a row of NULLs, of which an heir has one more."""
    nulls = "," * (len(item.scope) - (not item.relation.endswith("_heir")))
    return Type(item.relation, (f"({nulls})",), coarse=item.coarse, equality=item.comparable, extremes=False)
