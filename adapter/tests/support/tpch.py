"""The TPC-H benchmark as a test: its tables, its 22 queries, and windows of changes that reach all of them.

The data comes from tpchgen-cli; the queries stand in fixtures/tpch with the parameters of the specification's
validation run. The refresh functions are the specification's: RF1 inserts orders with their line items, RF2 deletes old
ones. What the benchmark never changes (customers, parts, suppliers, nations) changes here too: a stream table has to
follow every table that it reads.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from tests.support.benchmarks import query_in, statements

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "tpch"
TABLES = ("region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem")
SCALE = 0.01
"""The scale factor that fixtures/tpch is written for: 60,000 line items."""


def queries(scale: float = SCALE) -> dict[str, str]:
    """The 22 queries by name, ``q01`` to ``q22``.

    Args:
        scale: scale factor of the data; Q11's threshold depends on it.
    """
    texts = {path.stem: query_in(path) for path in sorted(FIXTURES.glob("q*.sql"))}
    fraction = "* 0.01"
    assert fraction in texts["q11"]
    texts["q11"] = texts["q11"].replace(fraction, f"* {0.0001 / scale:.8f}")
    return texts


def generator() -> str | None:
    """Path of the data generator, next to this Python's other programs or on the search path; None if it is missing."""
    name = "tpchgen-cli"
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def load(conn: psycopg.Connection[Any], program: str, scale: float = SCALE) -> None:
    """Create the tables and fill them.

    Args:
        conn: autocommit.
        program: what `generator` found.
        scale: scale factor; 1 is a gigabyte.
    """
    conn.execute((FIXTURES / "schema.sql").read_bytes())
    for table in TABLES:
        command = [program, "csv", "--scale-factor", str(scale), "--tables", table, "--stdout", "--quiet"]
        copy = SQL("COPY {} FROM STDIN WITH (FORMAT csv, HEADER true)").format(Identifier(table))
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE) as process,
            conn.cursor() as cursor,
            cursor.copy(copy) as into,
        ):
            assert process.stdout is not None
            while block := process.stdout.read(1 << 20):
                into.write(block)
        assert process.returncode == 0, command
    conn.execute("VACUUM ANALYZE")


def refresh_functions(conn: psycopg.Connection[Any], number: int, every: int = 100) -> None:
    """RF1 and RF2, each in a transaction of its own.

    Args:
        conn: autocommit.
        number: of the cycle, from 1; each takes other orders.
        every: one order in this many is inserted, and one is deleted.
    """
    gap = 8 * ((number - 1) % 3 + 1)
    conn.execute("UPDATE cycle SET number = %s, every = %s, gap = %s", (number, every, gap))
    for name in ("refresh_1", "refresh_2"):
        with conn.transaction():
            for statement in statements(FIXTURES / f"{name}.sql"):
                conn.execute(statement)


def change_dimensions(conn: psycopg.Connection[Any], number: int) -> None:
    """Updates of suppliers, nations, parts, their prices and customers, each statement a transaction of its own."""
    conn.execute("UPDATE cycle SET number = %s", (number,))
    for statement in statements(FIXTURES / "dimensions.sql"):
        conn.execute(statement)


def change_facts(conn: psycopg.Connection[Any], number: int) -> None:
    """Updates and deletes of orders and line items, each statement a transaction of its own."""
    conn.execute("UPDATE cycle SET number = %s", (number,))
    for statement in statements(FIXTURES / "facts.sql"):
        conn.execute(statement)


def roll_back(conn: psycopg.Connection[Any]) -> None:
    """Delete everything that was ever sold, and think better of it."""
    with conn.transaction(force_rollback=True):
        conn.execute("DELETE FROM lineitem; DELETE FROM orders")
