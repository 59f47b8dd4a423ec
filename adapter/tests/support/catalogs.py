"""Databases in which earlier engines have worked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

CATALOGS = Path(__file__).parents[1] / "fixtures" / "catalogs"


def restore(conn: psycopg.Connection[Any], version: int) -> None:
    """Restore a fixture; every OID in its catalog becomes that of the table of the same name."""
    conn.execute((CATALOGS / f"{version}.sql").read_bytes())
    conn.execute("SET search_path = public")
    columns = conn.execute(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = 'pgtrickle'::regnamespace AND c.relkind = 'r' AND a.atttypid = 'oid'::regtype"
        " AND a.attnum > 0"
    ).fetchall()
    for table, column in columns:
        statement = SQL(
            "UPDATE {table} t SET {column} = to_regclass(format('%I.%I', o.schema, o.name))::oid"
            " FROM fixture_oids o WHERE o.old = t.{column}::bigint"
        )
        conn.execute(statement.format(table=Identifier("pgtrickle", table), column=Identifier(column)))
    for (buffer,) in conn.execute("SELECT name FROM fixture_oids WHERE schema = 'pgtrickle_changes'").fetchall():
        conn.execute(SQL("TRUNCATE {}").format(Identifier("pgtrickle_changes", buffer)))
