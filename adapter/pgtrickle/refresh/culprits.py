"""Who writes to sources when a stream table is written: triggers on it, foreign keys that reference it."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL

from pgtrickle import db

#: ``tgname`` of our own guard begins like this.
_FIND = SQL(
    """
    SELECT pg_catalog.format('trigger %%I on %%s', t.tgname, t.tgrelid::pg_catalog.regclass) AS culprit
    FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid = ANY (%(relids)s::oid[]) AND NOT t.tgisinternal AND t.tgname NOT LIKE 'pgtrickle%%'
    UNION ALL
    SELECT pg_catalog.format('foreign key %%I of %%s', c.conname, c.conrelid::pg_catalog.regclass)
    FROM pg_catalog.pg_constraint c
    WHERE c.contype = 'f' AND c.confrelid = ANY (%(relids)s::oid[]) AND (c.confdeltype <> 'a' OR c.confupdtype <> 'a')
    ORDER BY 1
    """
)


def fetch(conn: db.Connection, relids: Sequence[int]) -> tuple[str, ...]:
    """User-made triggers and cascading foreign keys of these stream tables, for an error message."""
    return tuple(row["culprit"] for row in db.fetch_all(conn, _FIND, dict, {"relids": list(relids)}))
