"""Building blocks for SQL text: qualified identifiers and files of named queries. No I/O but package data."""

from __future__ import annotations

from pgtrickle.sql.identifiers import comma_separated, qualified
from pgtrickle.sql.named import Queries, load_queries, parse_queries

__all__ = ["Queries", "comma_separated", "load_queries", "parse_queries", "qualified"]
