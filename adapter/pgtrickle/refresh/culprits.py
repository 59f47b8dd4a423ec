"""Who writes to sources in a refresh: triggers on stream tables, foreign keys that reference them, called functions."""

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

_WRITERS = SQL(
    "SELECT pg_catalog.format('the function %%s', p.oid::pg_catalog.regprocedure) AS culprit FROM pg_catalog.pg_proc p"
    " WHERE p.oid = ANY (%(oids)s::oid[]) AND p.provolatile = 'v' ORDER BY 1"
)


def fetch(conn: db.Connection, relids: Sequence[int]) -> tuple[str, ...]:
    """User-made triggers and cascading foreign keys of these stream tables, for an error message."""
    return tuple(row["culprit"] for row in db.fetch_all(conn, _FIND, dict, {"relids": list(relids)}))


def writers(conn: db.Connection, oids: Sequence[int]) -> tuple[str, ...]:
    """Those of these functions that may write, for an error message."""
    return tuple(row["culprit"] for row in db.fetch_all(conn, _WRITERS, dict, {"oids": list(oids)}))
