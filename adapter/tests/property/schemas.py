"""Random base tables: with and without primary key, partitioned or not, few values, many NULLs and duplicates."""

from __future__ import annotations

from dataclasses import dataclass

from tests.property.choices import Choices, chance, pick, weighted
from tests.property.values import COMMON, INT, RARE, STRUCTURED, TEXT, Type, literal

LONG = "a_name_of_as_many_bytes_as_a_name_can_have_and_then_one_letter_"
ODD_NAMES = (
    *('"select"', '"Mixed Case"', "__w", "__n", "__x", '"a""b"', '"%s"', '"{}"', "count", "c", "ctid_", '"ünï"'),
    *(f'"{LONG[:61]}ü"', f"{LONG[:62]}1", f"{LONG[:62]}2"),
)


#: What generated columns hold; some of it is not NULL where ``k`` is, which outer joins must not mistake.
GENERATED = ("k * 2", "nullif(k, 1)", "k % 2", "coalesce(k, -1)", "CASE WHEN k > 1 THEN 1 END")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a base table; ``virtual``: its expression is evaluated when it is read (PostgreSQL 18)."""

    name: str
    type: Type
    nullable: bool
    generated: str | None = None
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A base table in schema ``p``.

    Attributes:
        name: without schema.
        columns: those that queries read.
        key: its primary key's only column, or None.
        partitioned: by list of ``k``.
        front: columns before all others that nobody reads, so that attribute numbers are high.
        dropped: a column was dropped, so attribute numbers have a gap.
        heirs: a table inherits from it, with rows of its own.
    """

    name: str
    columns: tuple[TableColumn, ...]
    key: str | None
    partitioned: bool
    front: int = 0
    dropped: bool = False
    heirs: bool = False

    @property
    def written(self) -> tuple[TableColumn, ...]:
        """The columns that statements write: not the generated ones."""
        return tuple(column for column in self.columns if column.generated is None)

    @property
    def qualified(self) -> str:
        """Name with schema."""
        return f"p.{self.name}"

    @property
    def heir(self) -> str:
        """Name, with schema, of the table that inherits from it."""
        return f"{self.qualified}_heir"


def draw_table(choices: Choices, number: int) -> Table:
    """A table; column ``k`` is there always, so that joins find a partner."""
    keyed = chance(choices, 60)
    columns = [TableColumn("k", INT, not keyed)]
    kinds = [pick(choices, COMMON)]
    for _ in range(choices.integer(0, 3)):
        kinds.append(pick(choices, weighted(choices, [(3, COMMON), (2, RARE), (2, STRUCTURED)])))
    for number_of_column, kind in enumerate(kinds, 1):
        name = f"c{number_of_column}"
        if chance(choices, 8):
            odd = pick(choices, ODD_NAMES)
            name = odd if all(column.name != odd for column in columns) else name
        columns.append(TableColumn(name, kind, not chance(choices, 15)))
    if chance(choices, 12):
        columns.append(TableColumn("g", INT, True, pick(choices, GENERATED), chance(choices, 60)))
    partitioned = chance(choices, 12)
    front = weighted(choices, [(94, 0), (4, 3), (2, 70)])
    dropped = chance(choices, 6)
    # A key of the parent would say nothing about the rows of its children.
    heirs = not keyed and not partitioned and chance(choices, 35)
    return Table(f"t{number}", tuple(columns), "k" if keyed else None, partitioned, front, dropped, heirs)


def create_table(table: Table) -> list[str]:
    """The statements that create it."""
    parts = [f"f{number} integer DEFAULT 0" for number in range(1, table.front + 1)]
    parts += ["gone text"] if table.dropped else []
    parts += [_declaration(column) for column in table.columns]
    if table.key is not None:
        parts.append(f"PRIMARY KEY ({table.key})")
    body = f"CREATE TABLE {table.qualified} ({', '.join(parts)})"
    dropped = [f"ALTER TABLE {table.qualified} DROP COLUMN gone"] if table.dropped else []
    if table.heirs:
        return [body, f"CREATE TABLE {table.heir} (more integer) INHERITS ({table.qualified})", *dropped]
    if not table.partitioned:
        return [body, *dropped]
    return [
        f"{body} PARTITION BY LIST (k)",
        f"CREATE TABLE {table.qualified}_low PARTITION OF {table.qualified} FOR VALUES IN (0, 1)",
        *dropped,
        f"CREATE TABLE {table.qualified}_rest PARTITION OF {table.qualified} DEFAULT",
    ]


def _declaration(column: TableColumn) -> str:
    if column.generated is not None:
        kind = "VIRTUAL" if column.virtual else "STORED"
        return f"{column.name} {column.type.name} GENERATED ALWAYS AS ({column.generated}) {kind}"
    return f"{column.name} {column.type.name}{'' if column.nullable else ' NOT NULL'}"


def create_types(tables: list[Table]) -> list[str]:
    """The statements that create the types the tables use."""
    return sorted({column.type.setup for table in tables for column in table.columns if column.type.setup})


def draw_value(choices: Choices, column: TableColumn) -> str:
    """A literal for a column."""
    if column.nullable and chance(choices, 25):
        return literal(column.type, None)
    return literal(column.type, pick(choices, column.type.values))


def draw_row(choices: Choices, table: Table) -> str:
    """A row of literals; primary keys from a wider range, so that rows collide sometimes only."""
    values = [
        str(choices.integer(0, 9)) if column.name == table.key else draw_value(choices, column)
        for column in table.written
    ]
    return f"({', '.join(values)})"


def draw_insert(choices: Choices, table: Table, most: int) -> str:
    """An INSERT of some rows."""
    rows = [draw_row(choices, table) for _ in range(choices.integer(1, most))]
    name = table.heir if table.heirs and chance(choices, 50) else table.qualified
    return f"INSERT INTO {target(table, name)} VALUES {', '.join(rows)} ON CONFLICT DO NOTHING"


def target(table: Table, name: str) -> str:
    """The table, or its heir, as an INSERT names it: with its columns where there are others too."""
    if table.front or len(table.written) < len(table.columns):
        return f"{name} ({', '.join(column.name for column in table.written)})"
    return name


def reached(choices: Choices, table: Table) -> str:
    """The table as an UPDATE, DELETE or TRUNCATE names it: with its heir, without it, or the heir alone."""
    if not table.heirs:
        return table.qualified
    return weighted(choices, [(4, table.qualified), (1, f"ONLY {table.qualified}"), (1, table.heir)])


def draw_condition(choices: Choices, table: Table) -> str:
    """A condition on the rows of a table, for UPDATE and DELETE."""
    column = pick(choices, table.columns)
    if column.nullable and chance(choices, 15):
        return f"{column.name} IS NULL"
    if not column.type.equality:
        return "k = 1"
    operator = pick(choices, ("=", "<>")) if column.type not in (INT, TEXT) else pick(choices, ("=", "<=", ">"))
    value = literal(column.type, pick(choices, column.type.values))
    return f"{column.name} {operator} {value}"
