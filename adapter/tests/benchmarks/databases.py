"""Databases of the suite: TPC-H is loaded once into a template, every scenario works on a copy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.support import tpch

Connection = psycopg.Connection[Any]


class NoData(Exception):
    """The data generator is missing."""


def on(dsn: str, dbname: str) -> str:
    """The connection string of another database of the same server."""
    return make_conninfo(dsn, dbname=dbname)


def template(dsn: str, scale: float) -> str:
    """Name of the database that holds TPC-H of this scale; loads it if it is missing.

    Raises:
        NoData: tpchgen-cli is not installed.
    """
    name = f"tpch_{scale:g}".replace(".", "_")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))
        if conn.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).rowcount:
            return name
        program = tpch.generator()
        if program is None:
            raise NoData("tpchgen-cli is missing: pip install tpchgen-cli")
        loading = f"{name}_loading"
        conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(loading)))
        conn.execute(SQL("CREATE DATABASE {}").format(Identifier(loading)))
        with psycopg.connect(on(dsn, loading), autocommit=True) as inside:
            tpch.load(inside, program, scale)
        conn.execute(SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(loading), Identifier(name)))
        conn.execute("CHECKPOINT")
    return name


@contextmanager
def copy_of(dsn: str, original: str | None) -> Iterator[str]:
    """Connection string of a fresh database, dropped afterwards.

    Args:
        original: the template; None: an empty database.
    """
    name = f"bench_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        if original is None:
            conn.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
        else:
            create = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
            conn.execute("SELECT pg_advisory_lock(hashtext(%s))", (original,))
            conn.execute(create.format(Identifier(name), Identifier(original)))
            conn.execute("SELECT pg_advisory_unlock_all()")
    try:
        yield on(dsn, name)
    finally:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))


def sweep(dsn: str) -> None:
    """Drop the databases of runs that were killed."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        rows = conn.execute("SELECT datname FROM pg_database WHERE datname ~ '^bench_[0-9]+_[0-9]+$'").fetchall()
        for (name,) in rows:
            if not Path(f"/proc/{name.split('_')[1]}").exists():
                conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))


def since(conn: Connection) -> str:
    """A transaction id that no later transaction is below."""
    row = conn.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
    assert row is not None
    return row[0]


def windows(conn: Connection) -> dict[str, str]:
    """Captured table -> its change buffer with the columns called as in the table and the weight ``w``, as SELECT."""
    found: dict[str, list[str]] = {}
    rows = conn.execute(
        "SELECT s.id, c.relname, b.attname, a.attname FROM pgtrickle.sources s JOIN pg_class c ON c.oid = s.relid "
        "JOIN pg_attribute b ON b.attrelid = to_regclass('pgtrickle_changes.b_' || s.id) AND b.attname ~ '^c[0-9]+$' "
        "JOIN pg_attribute a ON a.attrelid = s.relid AND a.attnum = substr(b.attname, 2)::int ORDER BY 1, b.attnum"
    ).fetchall()
    buffers = {name: number for number, name, _, _ in rows}
    for _, name, column, called in rows:
        found.setdefault(name, []).append(f"{column} AS {called}")
    return {
        name: f"SELECT {', '.join(columns)}, __w AS w FROM pgtrickle_changes.b_{buffers[name]}"
        for name, columns in found.items()
    }
