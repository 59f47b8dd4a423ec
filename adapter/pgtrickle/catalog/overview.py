"""The state of stream tables and how they depend on each other, for callers of the API."""

from __future__ import annotations

from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.results import StatusRow
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.catalog", "overview.sql")


@dataclass(frozen=True, slots=True)
class _Edge:
    source: int
    dependent: int


def fetch(conn: db.Connection, stream_table_id: int | None = None) -> tuple[StatusRow, ...]:
    """The state of one or, by schema and name, of all stream tables."""
    return db.fetch_all(conn, _QUERIES["fetch_overview"], StatusRow, {"id": stream_table_id})


def edges(conn: db.Connection) -> tuple[tuple[int, int], ...]:
    """Which stream table reads which: pairs of OIDs (source, dependent)."""
    return tuple((edge.source, edge.dependent) for edge in db.fetch_all(conn, _QUERIES["fetch_edges"], _Edge))


def missing_grant(conn: db.Connection) -> str | None:
    """The GRANT that makes this role one of the engine's; readable without any right on the catalog."""
    return db.fetch_value(conn, _QUERIES["fetch_grant"], {})
