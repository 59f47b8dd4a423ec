"""SQL for people is the same SQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from pglast import parse_sql, split

from pgtrickle.parse.pretty import pretty

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.mark.parametrize("path", sorted(FIXTURES.rglob("*.sql")), ids=lambda path: path.stem)
def test_a_pretty_statement_reads_as_the_statement_and_stays_as_it_is(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("--")]
    for statement in split("\n".join(lines)):
        shown = pretty(statement)
        assert parse_sql(shown) == parse_sql(statement)
        assert pretty(shown) == shown


def test_clauses_begin_lines_and_queries_are_indented() -> None:
    columns = ", ".join(f'"column number {number}"' for number in range(5))
    shown = pretty(
        f'SELECT {columns}, "plain" FROM (SELECT {columns} FROM "t" WHERE "a" IS DISTINCT FROM 1) AS q LIMIT 2'
    )
    assert shown.splitlines() == [
        'SELECT "column number 0", "column number 1", "column number 2", "column number 3",',
        '  "column number 4", plain',
        "FROM (",
        '  SELECT "column number 0", "column number 1", "column number 2", "column number 3",',
        '    "column number 4"',
        "  FROM t",
        "  WHERE a IS DISTINCT FROM 1",
        ") AS q",
        "LIMIT 2",
    ]


@pytest.mark.parametrize("name", ['"select"', '"Upper"', '"a b"', '"user"', '"char"', '"1st"', '"a""b"', '"ä"'])
def test_names_keep_the_quotes_that_they_need(name: str) -> None:
    assert pretty(f"SELECT x.{name}") == f"SELECT x.{name}"


def test_what_fits_on_a_line_stays_on_it() -> None:
    assert pretty("SELECT   1\n  WHERE (SELECT count(*) FROM t) > 1") == "SELECT 1\nWHERE (SELECT count(*) FROM t) > 1"
