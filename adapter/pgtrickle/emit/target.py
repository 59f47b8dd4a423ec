"""The table a stage writes: its columns, and how its rows are found again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable

from pgtrickle.emit.fragments import Name, conjunction, equal, hashed, identical, same
from pgtrickle.ir.schema import Column, Equality
from pgtrickle.plan import Bindings, Plan, Relation, Stage


@dataclass(frozen=True, slots=True)
class Target:
    """A table of rows that statements look up by ``locator`` columns.

    Attributes:
        relation: the table.
        columns: its columns, under the names they have in the table.
        key: the columns that identify a row, or None if rows may be duplicates of each other.
    """

    relation: Relation
    columns: tuple[Column, ...]
    key: tuple[Column, ...] | None

    @property
    def locator(self) -> tuple[Column, ...]:
        """The columns by which rows are found: the key, or all."""
        return self.columns if self.key is None else self.key

    @property
    def plain_index(self) -> bool:
        """Whether a btree on the locator finds rows: never NULL, always short, and equal means the same."""
        usable = all(not c.nullable and c.type.fixed and c.type.equality is Equality.EXACT for c in self.locator)
        return self.key is not None and 0 < len(self.locator) <= _MAX_INDEX_COLUMNS and usable

    def match(self, stored: str, other: str) -> Composable:
        """A row of the table (alias ``stored``) has the locator of a row of ``other``.

        The other relation has the columns under their `neutral` names, and the hash of the locator in ``__h``.
        """
        pairs = [(c, Name(stored, c.name), Name(other, n.name)) for c, n in self._neutral_locator()]
        if self.plain_index:
            return conjunction(equal(*pair) for pair in pairs)
        found = SQL("{} = {}").format(hashed(self.locator, stored), Name(other, "__h"))
        checked = [identical(*pair) if self.key is None else same(*pair) for pair in pairs]
        return conjunction([found, *checked])

    @property
    def neutral(self) -> tuple[Column, ...]:
        """The columns under the names ``c1..cn``, which cannot clash with those that statements add."""
        return tuple(replace(column, name=f"c{i + 1}") for i, column in enumerate(self.columns))

    @property
    def neutral_key(self) -> tuple[Column, ...]:
        """The key columns under their neutral names."""
        return tuple(neutral for _, neutral in self._neutral_locator()) if self.key is not None else ()

    def hash(self, alias: str) -> Composable:
        """The value of ``__h`` for a row under this alias, with neutral names."""
        return hashed([neutral for _, neutral in self._neutral_locator()], alias)

    def _neutral_locator(self) -> tuple[tuple[Column, Column], ...]:
        by_name = {column.name: neutral for column, neutral in zip(self.columns, self.neutral, strict=True)}
        return tuple((column, by_name[column.name]) for column in self.locator)


_MAX_INDEX_COLUMNS = 32


def output_target(plan: Plan, stage: Stage, bindings: Bindings) -> Target:
    """The output table of a stage; for the root that is the stream table itself."""
    columns = stored_columns(plan, stage)
    by_name = {c.name: stored for c, stored in zip(stage.columns, columns, strict=True)}
    key = None if stage.key is None else tuple(by_name[name] for name in stage.key)
    return Target(bindings.stages[stage.number].output, columns, key)


def finder(target: Target, stage: Stage) -> Target:
    """The same table, its rows looked up by the columns that show the keys of the stage's grouping."""
    positions = [[column.name for column in stage.columns].index(name) for name in stage.group or ()]
    return replace(target, key=tuple(target.columns[i] for i in positions))


def stored_columns(plan: Plan, stage: Stage) -> tuple[Column, ...]:
    """A stage's columns under their names in the output table: ``c1..cn``, for the root the user's own."""
    if stage is plan.root:
        return stage.columns
    return tuple(Column(f"c{i + 1}", c.type, c.nullable) for i, c in enumerate(stage.columns))
