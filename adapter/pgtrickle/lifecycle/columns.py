"""From the columns a stream table has to the columns its query has, with the least change. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table. ``collation`` is set where it is not the type's own."""

    attnum: int
    name: str
    type: str
    type_oid: int
    typmod: int
    collation: str | None

    @property
    def shape(self) -> tuple[int, int, str | None]:
        """What makes it another column under the same name."""
        return (self.type_oid, self.typmod, self.collation)


@dataclass(frozen=True, slots=True)
class ColumnChanges:
    """What to do with a table, in this order.

    Attributes:
        drop: columns to drop.
        alter: columns that stay, with the type they get.
        add: columns to append.
    """

    drop: tuple[TableColumn, ...] = ()
    alter: tuple[TableColumn, ...] = ()
    add: tuple[TableColumn, ...] = ()

    @property
    def none(self) -> bool:
        """The columns are the same already."""
        return not (self.drop or self.alter or self.add)


def compare_columns(
    old: Sequence[TableColumn], new: Sequence[TableColumn], *, keep_order: bool = True
) -> ColumnChanges:
    """What turns ``old`` into ``new``.

    PostgreSQL appends columns only. So that ``SELECT *`` has the query's order, everything behind the place where a
    column was inserted or moved is dropped and appended again; the content is recomputed anyway.

    Args:
        old: columns of the table in order.
        new: columns of the query in order.
        keep_order: False: leave columns where they are and append new ones (where something depends on the others).
    """
    positions = {column.name: number for number, column in enumerate(old)}
    kept: list[TableColumn] = []
    last = -1
    for column in new:
        position = positions.get(column.name)
        if position is None or (keep_order and position < last):
            if keep_order:
                break
            continue
        kept.append(column)
        last = position
    names = {column.name for column in kept}
    before = {column.name: column for column in old}
    return ColumnChanges(
        drop=tuple(column for column in old if column.name not in names),
        alter=tuple(column for column in kept if column.shape != before[column.name].shape),
        add=tuple(column for column in new if column.name not in names),
    )
