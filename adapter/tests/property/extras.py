"""Queries of the rest of SQL: whatever mode they get, they must be kept right."""

from __future__ import annotations

from dataclasses import replace

from tests.property.choices import chance, pick, weighted
from tests.property.everywhere import EverywhereGrammar
from tests.property.expressions import Value, fixed
from tests.property.functions import FunctionGrammar
from tests.property.queries import Query
from tests.property.rows import RowGrammar
from tests.property.windows import WindowGrammar, total_order


class ExtraGrammar(WindowGrammar, EverywhereGrammar, FunctionGrammar, RowGrammar):
    """Draws one query with a construct of the rest of SQL."""

    def query(self, depth: int) -> Query:
        """Also below joins, aggregates and in CTEs."""
        return self.extra(depth) if chance(self.choices, 35) else super().query(depth)

    def extra(self, depth: int) -> Query:
        """A query with a window, set operation, sublink, LIMIT, recursion, whole row and others."""
        return weighted(
            self.choices,
            [
                (4, self.windowed),
                (1, self.named_windows),
                (2, self.top_of_each),
                (1, self.ranked_groups),
                (3, self.set_operation),
                (2, self.chained_sets),
                (4, self.sublink),
                (3, self.sublink_in_condition),
                (2, self.scalar_subquery),
                (3, self.lateral),
                (3, self.limited),
                (2, self.distinct_on),
                (2, self.recursive),
                (2, self.grouping_sets),
                (2, self.set_returning),
                (2, self.recomputed),
                (5, self.everywhere),
                (6, self.whole_rows),
            ],
        )(depth)

    def set_operation(self, depth: int) -> Query:
        """UNION, INTERSECT or EXCEPT, with or without ALL."""
        first = self._exact_select(depth)
        if not first.columns or not all(column.type.equality for column in first.columns):
            return self.select(depth)
        second = self._arm_like(first, depth)
        operator = pick(self.choices, ("UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"))
        columns = tuple(_representative(column) for column in first.columns)
        return Query(f"({first.sql}) {operator} ({second.sql})", columns)

    def limited(self, depth: int) -> Query:
        """ORDER BY everything LIMIT n OFFSET m."""
        inner = self._exact_select(depth)
        if not inner.columns:
            return self.select(depth)
        offset = f" OFFSET {self.choices.integer(0, 2)}" if chance(self.choices, 30) else ""
        text = f"SELECT * FROM ({inner.sql}) AS q ORDER BY"
        if chance(self.choices, 25):
            order = total_order((pick(self.choices, inner.columns),))
            rows = self.choices.integer(1, 3)
            return Query(f"{text} {order} {offset} FETCH FIRST {rows} ROWS WITH TIES", inner.columns)
        total = total_order(inner.columns)
        rows = str(self.choices.integer(0, 4))
        if chance(self.choices, 20):
            return Query(f"SELECT * FROM ({inner.sql} OFFSET 0) AS q", inner.columns)
        if chance(self.choices, 20):
            shape = f"SELECT * FROM (SELECT * FROM ({inner.sql}) AS q ORDER BY {total}) AS ordered"
            return Query(f"{shape} LIMIT {rows}{offset}", inner.columns)
        if chance(self.choices, 25):
            partner, _ = self.item(0)
            rows = pick(
                self.choices, (f"(SELECT {rows})", f"(SELECT count(*) / 2 FROM {partner})", "(SELECT NULL::integer)")
            )
        return Query(f"{text} {total} LIMIT {rows}{offset}", inner.columns)

    def distinct_on(self, depth: int) -> Query:
        """DISTINCT ON a key, with a total order after it."""
        source, scope = self.item(depth)
        usable = fixed(scope)
        keys = [value for value in usable if value.type.equality and value.type.extremes and not value.type.coarse]
        if not keys:
            return self.select(depth)
        key, value = pick(self.choices, keys), pick(self.choices, usable)
        inner = self._finish(f"SELECT DISTINCT ON ({key.sql})", [key, value], f" FROM {source}")
        return Query(f"{inner.sql} ORDER BY {key.sql}, {total_order(tuple(usable))}", inner.columns)

    def chained_sets(self, depth: int) -> Query:
        """Three queries connected by set operations of different kinds."""
        first = self._exact_select(depth)
        if not first.columns or not all(column.type.equality for column in first.columns):
            return self.select(depth)
        second, third = self._arm_like(first, depth), self._arm_like(first, depth)
        operators = ("UNION", "INTERSECT", "EXCEPT", "UNION ALL", "EXCEPT ALL", "INTERSECT ALL")
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
    return replace(column, comparison=column.type.representative) if column.fixed else column
