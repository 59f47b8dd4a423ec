"""The status of stream tables as people see it."""

from __future__ import annotations

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import Status


def fetch_all(conn: db.Connection) -> tuple[Status, ...]:
    """Every stream table, by schema and name."""
    return access.rows(conn, "fetch_status", Status)


def fetch(conn: db.Connection, name: str) -> tuple[Status, ...]:
    """Those called ``name`` or ``schema.name``; one row with status ``NOT_FOUND`` if there is none."""
    return access.rows(conn, "fetch_status_of", Status, name=name)
