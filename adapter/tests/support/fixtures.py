"""The tables and queries of fixtures/sql, and random statements that change these tables."""

from __future__ import annotations

import random
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "sql"
TOPICS = sorted(path.stem for path in FIXTURES.glob("*.sql") if path.stem != "schema")

VALUES = {
    "k": ["NULL", "1", "1", "2", "2", "3", "3", "4", "5", "6"],
    "v": ["NULL", *("1.00", "2.50", "3.00", "7.25") * 2, "'NaN'"],
    "t": ["NULL", "'a'", "'b'", "'A'", "''"],
    "d": ["NULL", "'2024-01-05'", "'2024-02-01'"],
    "f": ["NULL", *("0.1", "'-0'", "0", "1e10", "0.3") * 3, "'NaN'", "'Infinity'", "'-Infinity'"],
    "n": ["NULL", *("1.0", "1.00", "2.5", "2.50") * 4, "'NaN'", "'Infinity'", "'-Infinity'"],
    "j": ["NULL", '\'{"a": 1.0, "b": 2}\'', "'{\"a\": 1.00}'", "'{}'"],
    "w": ["NULL", "1", "2", "3"],
    "x": ["NULL", "1", "2", "3"],
    "arr": ["NULL", "'{1,2}'", "'{}'", "'{3,3,NULL}'"],
}
COLUMNS = {
    "a": ("k", "v", "t", "d", "f", "n", "j"),
    "b": ("k", "w", "t"),
    "c": ("k", "x", "t"),
    "e": ("k", "arr", "j"),
}


def schema() -> list[str]:
    """The statements that create the tables and views."""
    lines = (FIXTURES / "schema.sql").read_text().splitlines()
    return [line.removesuffix(";") for line in lines if line and not line.startswith("--")]


def queries_of(topic: str) -> list[str]:
    """The queries of a fixture file."""
    lines = (FIXTURES / f"{topic}.sql").read_text().splitlines()
    return [line.rstrip(";") for line in lines if line and not line.startswith("--")]


class Statements:
    """Random statements over the tables of schema.sql; the same seed gives the same history.

    Tables are filled so that groups have several rows, joins several partners, and tables without a key duplicates.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._id = 0

    def fill(self) -> list[str]:
        """The first rows."""
        edges = ", ".join(f"({s}, {d})" for s, d in ((1, 2), (2, 3), (3, 1), (3, 4)))
        return [*(self._insert(table, 10) for table in COLUMNS), f"INSERT INTO edge VALUES {edges}"]

    def draw(self, count: int) -> list[str]:
        """So many statements."""
        return [self._statement() for _ in range(count)]

    def window(self) -> list[str]:
        """The statements between two refreshes: on all tables, so that all sides of a join change at once, or some."""
        most = self._random.choice((0.5, 1.0))
        changed = [table for table in (*COLUMNS, *COLUMNS) if self._random.random() < most]
        statements = [*(self._of_table(table) for table in changed), self._of_edges()]
        self._random.shuffle(statements)
        return statements

    def _value(self, column: str) -> str:
        return self._random.choice(VALUES[column])

    def _statement(self) -> str:
        if self._random.random() < 0.15:
            return self._of_edges()
        return self._of_table(self._random.choice(tuple(COLUMNS)))

    def _of_edges(self) -> str:
        choose = self._random.choice
        return choose(
            [
                f"INSERT INTO edge VALUES ({choose('1234')}, {choose('12345')})",
                f"INSERT INTO edge VALUES ({choose('1234')}, {choose('12345')})",
                f"DELETE FROM edge WHERE s = {choose('1234')}",
                "DELETE FROM edge WHERE ctid = (SELECT min(ctid) FROM edge)",
            ]
        )

    def _of_table(self, table: str) -> str:
        choose = self._random.choice
        column = choose(COLUMNS[table])
        change = f"UPDATE {table} SET {column} = {self._value(column)}"
        group = f"WHERE k IS NOT DISTINCT FROM {self._value('k')}"
        one = f"WHERE ctid = (SELECT {choose(('min', 'max'))}(ctid) FROM {table})"
        few = f"WHERE id % 5 = {choose('01234')}" if table != "c" else one
        return choose(
            [
                *[self._insert(table, choose((1, 1, 2, 3)))] * 5,
                *[f"{change} {few}"] * 5,
                *[f"{change} {group}"] * 2,
                *[f"DELETE FROM {table} {few}"] * 2,
                f"DELETE FROM {table} {one}",
                f"DELETE FROM {table} {group}",
                f"UPDATE {table} SET k = k + 1 {few}",
                f"UPDATE {table} SET k = CASE k WHEN 1 THEN 2 ELSE 1 END WHERE k IN (1, 2)",
            ]
        )

    def _insert(self, table: str, rows: int) -> str:
        columns = list(COLUMNS[table]) if table == "c" else ["id", *COLUMNS[table]]
        written = []
        for _ in range(rows):
            self._id += 1
            values = [str(self._id) if column == "id" else self._value(column) for column in columns]
            written.append(f"({', '.join(values)})")
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join(written)}"
