"""Files of named queries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pgtrickle
from pgtrickle.sql import load_queries, parse_queries

PACKAGE = Path(pgtrickle.__file__).parent


def test_each_header_starts_a_query() -> None:
    queries = parse_queries("-- words\n-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT 2\n")
    assert list(queries) == ["one", "two"]
    assert queries["two"].as_string(None) == "-- why\nSELECT 2"


@pytest.mark.parametrize("text", ["-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "-- name: a\n-- name: b\nSELECT 1"])
def test_double_and_empty_queries_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'a'"):
        parse_queries(text)


@pytest.mark.parametrize("package", ["catalog", "capture"])
def test_every_query_is_used(package: str) -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    unused = [name for name in load_queries(f"pgtrickle.{package}") if not re.search(f'"{name}"', code)]
    assert unused == []
