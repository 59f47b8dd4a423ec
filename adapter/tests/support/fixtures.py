"""The tables and queries of fixtures/sql, and random statements that change these tables."""

from __future__ import annotations

import random
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "sql"
TOPICS = sorted(path.stem for path in FIXTURES.glob("*.sql") if path.stem != "schema")

VALUES = {
    "k": ["NULL", "1", "2", "3", "4"],
    "v": ["NULL", "1.00", "2.50", "3.00", "7.25", "'NaN'"],
    "t": ["NULL", "'a'", "'b'", "'A'", "''"],
    "d": ["NULL", "'2024-01-05'", "'2024-02-01'"],
    "f": ["NULL", "0.1", "'-0'", "0", "1e10", "0.3", "'NaN'"],
    "n": ["NULL", "1.0", "1.00", "2.5", "2.50"],
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
    """Random statements over the tables of schema.sql; the same seed gives the same history."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._id = 0

    def draw(self, count: int) -> list[str]:
        """So many statements."""
        return [self._statement() for _ in range(count)]

    def _value(self, column: str) -> str:
        return self._random.choice(VALUES[column])

    def _statement(self) -> str:
        choose = self._random.choice
        if self._random.random() < 0.15:
            return choose(
                [
                    f"INSERT INTO edge VALUES ({choose('1234')}, {choose('12345')})",
                    f"INSERT INTO edge VALUES ({choose('1234')}, {choose('12345')})",
                    f"DELETE FROM edge WHERE s = {choose('1234')}",
                ]
            )
        table = choose("abce")
        kind = choose(["insert", "insert", "insert", "update", "update", "delete", "move"])
        if kind == "insert":
            return self._insert(table)
        if kind == "update":
            column = choose(COLUMNS[table])
            return (
                f"UPDATE {table} SET {column} = {self._value(column)} WHERE k IS NOT DISTINCT FROM {self._value('k')}"
            )
        if kind == "delete":
            return f"DELETE FROM {table} WHERE k IS NOT DISTINCT FROM {self._value('k')}"
        return f"UPDATE {table} SET k = k + 1 WHERE k < 3"

    def _insert(self, table: str) -> str:
        columns = list(COLUMNS[table])
        values = [self._value(column) for column in columns]
        if table != "c":
            self._id += 1
            columns, values = ["id", *columns], [str(self._id), *values]
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)})"
