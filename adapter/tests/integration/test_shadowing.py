"""Operators and functions in schemas of the search_path never take the place of those that the engine means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

import pgtrickle
from pgtrickle.api import PgTrickle

pytestmark = pytest.mark.edges_only

#: Types that catalogs and our tables have. What pg_catalog compares after a conversion, the attacker compares exactly.
TYPES = (
    "smallint",
    "integer",
    "bigint",
    "oid",
    "name",
    "text",
    "character varying",
    '"char"',
    "numeric",
    "jsonb",
    "regclass",
    "regnamespace",
    "xid8",
    "xid",
    "smallint[]",
    "text[]",
    "oid[]",
    "int2vector",
)
OPERATORS = ("=", "<>", "<", ">", "||", "->", "->>", "@>", "-")
RESULTS = {"||": "text", "->": "text", "->>": "text", "-": "bigint"}
PAIRS = product(("text", "name", "regclass", "oid"), ("text", "name", "oid", "integer"))
ARGUMENTS = (*((one,) for one in TYPES), *PAIRS)

SCHEMA = """
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, region text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, amount numeric(10, 2)) PARTITION BY RANGE (id);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100);
CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (10000);
INSERT INTO customer SELECT g, 'c' || g, CASE g % 3 WHEN 0 THEN 'n' WHEN 1 THEN 's' END FROM generate_series(1, 20) g;
INSERT INTO orders SELECT g, g % 20 + 1, g FROM generate_series(1, 200) g;
CREATE FUNCTION doubled(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n + n; END';
"""

QUERIES = {
    "regions": "SELECT region, count(*) AS n, sum(amount) AS total"
    " FROM orders o JOIN customer c ON c.id = o.customer_id GROUP BY region",
    "best": "SELECT region, max(total) AS most FROM regions GROUP BY region",
    "numbered": "SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY amount) AS place FROM orders",
    "idle": "SELECT c.id, c.name FROM customer c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)",
    # The user's own function: statements with text of the query look names up in pg_catalog and then as the user does.
    "called": "SELECT doubled(id) AS twice, name FROM customer WHERE doubled(id) > 3",
}


def names_in_use() -> set[str]:
    """All that is called, or looks like it, in the engine's Python and SQL."""
    files = [path for path in Path(pgtrickle.__file__).parent.rglob("*") if path.suffix in (".py", ".sql")]
    return set(re.findall(r"\b([a-z_0-9]+)\(", " ".join(path.read_text(encoding="utf-8") for path in files)))


@pytest.fixture
def attacked(conn: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A database in whose schema public somebody waits for a statement to be looked up there."""
    conn.execute(SCHEMA.encode())
    conn.execute("CREATE ROLE shadow; CREATE SCHEMA trap; GRANT ALL ON SCHEMA public, trap TO shadow")
    conn.execute(SQL("ALTER DATABASE {} SET track_functions = 'pl'").format(Identifier(conn.info.dbname)))
    # A sequence, because what a transaction adds to it stays when it is rolled back.
    conn.execute("CREATE SEQUENCE trap.fallen; GRANT ALL ON SEQUENCE trap.fallen TO PUBLIC")
    conn.execute("GRANT USAGE ON SCHEMA trap TO PUBLIC")
    operands = "SELECT oprname, format_type(oprleft, NULL), format_type(oprright, NULL) FROM pg_operator"
    taken = set(conn.execute(operands).fetchall())
    functions = [row[0] for row in conn.execute("SELECT proname FROM pg_proc WHERE pronamespace = 11").fetchall()]
    conn.execute("SET ROLE shadow; SET search_path = public")
    made = 0
    for left, right, operator in product(TYPES, TYPES, OPERATORS):
        if (operator, left, right) not in taken:
            made += 1
            result = RESULTS.get(operator, "boolean")
            name = f"{left} {operator} {right}".replace('"', "")
            conn.execute(_trap(name, f"{left}, {right}", result))
            operands = f'LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = "{name}"'
            conn.execute(f"CREATE OPERATOR public.{operator} ({operands})".encode())
    for name, arguments in product(sorted(names_in_use() & set(functions)), ARGUMENTS):
        conn.execute(_trap(name, ", ".join(arguments), "text"))
    conn.execute("RESET ROLE; SET search_path = pg_catalog")
    assert made > 1000
    try:
        yield conn
    finally:
        conn.execute("DROP OWNED BY shadow CASCADE; DROP ROLE shadow")


def _trap(name: str, arguments: str, result: str) -> bytes:
    value = {"boolean": "true", "text": "'x'", "bigint": "1"}[result]
    body = f"BEGIN PERFORM pg_catalog.nextval('trap.fallen'::pg_catalog.regclass); RETURN {value}; END"
    quoted = f'"{name}"'
    return f"CREATE FUNCTION public.{quoted}({arguments}) RETURNS {result} LANGUAGE plpgsql AS $t${body}$t$".encode()


def test_nothing_in_public_is_called_instead_of_what_was_meant(attacked: psycopg.Connection[Any], db: str) -> None:
    def fallen(step: str) -> None:
        # Counted also where the transaction was rolled back; the statistics tell which, in their own time.
        caught = attacked.execute("SELECT last_value, is_called FROM trap.fallen").fetchone() != (1, False)
        which = attacked.execute("SELECT funcname, calls FROM pg_stat_user_functions").fetchall() if caught else []
        assert not caught, (step, which)

    with PgTrickle.connect(db) as engine:
        engine.install()
        fallen("install")
        for name, query in QUERIES.items():
            engine.create_stream_table(name, query)
            fallen(f"create {name}")
        for round_ in range(2):
            change = (
                "UPDATE public.orders SET amount = amount OPERATOR(pg_catalog.+) 1.0, customer_id = 7"
                " WHERE id OPERATOR(pg_catalog.<) 50; DELETE FROM public.customer WHERE id = {}"
            )
            attacked.execute(SQL(change).format(round_ + 1))
            fallen("capture")
            assert {result.action for result in engine.refresh_all()} <= {"DIFFERENTIAL", "FULL", "NO_DATA"}
            fallen("refresh")
        for name in QUERIES:
            assert engine.verify(name).proven
            engine.explain(name)
            fallen(f"verify and explain {name}")
        engine.status()
        engine.history()
        attacked.execute("ALTER TABLE public.customer RENAME TO client; ALTER TABLE public.orders ADD COLUMN note text")
        engine.refresh_all()
        fallen("a renamed source")
        engine.create_or_replace_stream_table("numbered", "SELECT id, amount FROM orders WHERE amount > 10.0")
        fallen("another query")
        engine.drop_stream_table("best")
        fallen("drop")
        engine.uninstall()
        fallen("uninstall")
