"""Identifiers, always schema-qualified."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.sql import SQL, Composable, Composed, Identifier


def qualified(schema: str, name: str) -> Identifier:
    """``"schema"."name"``, quoted."""
    return Identifier(schema, name)


def comma_separated(parts: Iterable[Composable]) -> Composed:
    """Join SQL fragments with commas."""
    return SQL(", ").join(parts)
