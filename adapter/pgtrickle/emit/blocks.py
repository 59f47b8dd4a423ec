"""A SELECT in the making: projections, filters, joins and (anti) semi joins of each other share one.

PostgreSQL would pull nested subqueries of that kind up by itself, but copies all that is below each time: for a deep
tree, making the plan took longer than executing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable, Composed

from pgtrickle.emit.fragments import WEIGHT, Name, commas, conjunction, verbatim
from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, Ref
from pgtrickle.ir.schema import Column

#: An expression with more holes than that is not put in the place of the columns that show it: they may be many.
_MOST_HOLES = 12


@dataclass(frozen=True, slots=True)
class Value:
    """What a column shows.

    Attributes:
        sql: to be put into any expression.
        holes: columns of FROM items in it, each as often as it is read; 1 for a column itself, 0 for a constant.
        plain: it is a column of a FROM item.
    """

    sql: Composable
    holes: int = 1
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Block:
    """FROM, WHERE and what the columns show; all names are qualified.

    Attributes:
        sources: FROM items, joined without a condition.
        values: column -> its value.
        conditions: of WHERE, in no order.
        weight: the weight of a row; None if the rows are plain.
    """

    sources: tuple[Composable, ...]
    values: Mapping[str, Value]
    conditions: tuple[Composable, ...] = ()
    weight: Composable | None = None

    @classmethod
    def of(cls, source: Composable, alias: str, columns: Iterable[Column], *, weighted: bool) -> Block:
        """A FROM item with this alias that has these columns under their names."""
        values = {column.name: Value(Name(alias, column.name)) for column in columns}
        return cls((source,), values, weight=Name(alias, "__w") if weighted else None)

    def where(self, *conditions: Composable) -> Block:
        """The same with more conditions."""
        return replace(self, conditions=(*self.conditions, *conditions))

    def shows(self, expr: Expr) -> Value:
        """The value of an expression over the columns."""
        if expr.column is not None:
            return self.values[expr.column]
        holes = sum(self.values[part.name].holes for part in expr.parts if isinstance(part, Ref))
        return Value(SQL("({})").format(self.filled(expr)), holes, plain=False)

    def filled(self, expr: Expr) -> Composed:
        """An expression over the columns."""
        return Composed(
            [self.values[part.name].sql if isinstance(part, Ref) else verbatim(part) for part in expr.parts]
        )

    @property
    def tables(self) -> Composable:
        """The FROM list, as joins: beyond the planner's collapse limits they are joined in this order."""
        return SQL(" CROSS JOIN ").join(self.sources)

    def select(self, columns: Iterable[Column], given: Iterable[Column] | None = None) -> Composed:
        """The SELECT of these columns; with a weight, that is the last one.

        Args:
            columns: under these names they are shown.
            given: under these names they are known here, if those are others.
        """
        pairs = zip(columns, columns if given is None else given, strict=True)
        shown: list[Composable] = [
            SQL("{} AS {}").format(self.values[mine.name].sql, Name(name.name)) for name, mine in pairs
        ]
        if self.weight is not None:
            shown.append(SQL("{} AS {}").format(self.weight, WEIGHT))
        query = SQL("SELECT {} FROM {}").format(commas(shown), self.tables)
        return SQL("{} WHERE {}").format(query, conjunction(self.conditions)) if self.conditions else query


def joined(blocks: Iterable[Block]) -> Block:
    """All combinations of rows; their weights are multiplied."""
    sources: tuple[Composable, ...] = ()
    conditions: tuple[Composable, ...] = ()
    values: dict[str, Value] = {}
    weights: list[Composable] = []
    for block in blocks:
        sources += block.sources
        conditions += block.conditions
        if values.keys() & block.values.keys():
            raise InternalError("two inputs of a join have a column of one name")
        values.update(block.values)
        weights += [] if block.weight is None else [block.weight]
    return Block(sources, values, conditions, SQL(" * ").join(weights) if weights else None)


def is_inlined(expr: Expr, value: Value) -> bool:
    """Whether the value may be written wherever its column is read.

    A literal has a type only where a SELECT shows it: inside other expressions it may get another one.
    """
    if value.plain:
        return True
    first = expr.parts[0] if expr.parts else ""
    untyped = len(expr.parts) == 1 and isinstance(first, str) and (first[:1] in "'$" or first.upper() == "NULL")
    return 0 <= value.holes <= _MOST_HOLES and not untyped
