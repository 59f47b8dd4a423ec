"""A small world for fault tests: sources of every kind, stream tables over them, changes, what must be true of all."""

from __future__ import annotations

import random
import time
from typing import Any

import psycopg

from pgtrickle.api import PgTrickle
from tests.support.oracle import compare
from tests.support.runners import DEADLINE_SECONDS, RunnerProcess

Connection = psycopg.Connection[Any]

SOURCES = (
    "CREATE TYPE mood AS ENUM ('sad', 'fine', 'happy')",
    "CREATE TABLE orders (gone int, id int PRIMARY KEY, customer int NOT NULL, gone_too text, amount numeric(10,2))",
    "ALTER TABLE orders DROP COLUMN gone, DROP COLUMN gone_too",
    "CREATE TABLE customers (id int PRIMARY KEY, region text, mood mood)",
    "CREATE TABLE notes (customer int, words text)",
    "CREATE TABLE events (id int, kind text, n int) PARTITION BY LIST (kind)",
    "CREATE TABLE events_a PARTITION OF events FOR VALUES IN ('a')",
    "CREATE TABLE events_rest PARTITION OF events DEFAULT",
    "CREATE UNLOGGED TABLE scratch (id int, n int)",
    "CREATE VIEW big AS SELECT id, customer, amount FROM orders WHERE amount > 20",
    "INSERT INTO customers SELECT i, 'r' || i % 3, (enum_range(NULL::mood))[1 + i % 3] FROM generate_series(0, 9) i",
    "INSERT INTO orders SELECT i, i % 10, i FROM generate_series(1, 60) i",
    "INSERT INTO notes SELECT i % 10, 'word' || i % 4 FROM generate_series(1, 20) i",
    "INSERT INTO events SELECT i, (array['a','b','c'])[1 + i % 3], i FROM generate_series(1, 30) i",
    "INSERT INTO scratch SELECT i, i % 4 FROM generate_series(1, 10) i",
)

#: name -> (query, mode); in an order in which they can be created.
STREAM_TABLES = {
    "totals": ("SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer", "DIFFERENTIAL"),
    "regions": (
        "SELECT c.region, c.mood, sum(t.total) AS total FROM public.totals t JOIN customers c ON c.id = t.customer"
        " GROUP BY c.region, c.mood",
        "DIFFERENTIAL",
    ),
    "said": (
        "SELECT c.id, n.words FROM customers c LEFT JOIN notes n ON n.customer = c.id WHERE c.id < 8",
        "DIFFERENTIAL",
    ),
    "kinds": ("SELECT DISTINCT kind FROM events", "DIFFERENTIAL"),
    "large": ("SELECT id, amount FROM big", "DIFFERENTIAL"),
    "lost": ("SELECT n, count(*) AS many FROM scratch GROUP BY n", "DIFFERENTIAL"),
    "ranked": ("SELECT customer, total, rank() OVER (ORDER BY total DESC) AS place FROM public.totals", "FULL"),
}
QUERIES = {name: query for name, (query, _) in STREAM_TABLES.items()}

#: Everything of ours that nothing in the catalog knows: it would stay for ever.
_RUBBISH = r"""
    SELECT 'trigger ' || g.tgname || ' on ' || g.tgrelid::regclass FROM pg_trigger g
    WHERE g.tgname ~ '^zz_pgtrickle_[0-9]+_' AND substring(g.tgname FROM 'pgtrickle_([0-9]+)')::bigint
        NOT IN (SELECT id FROM pgtrickle.sources)
    UNION ALL
    SELECT 'guard on ' || g.tgrelid::regclass FROM pg_trigger g
    WHERE g.tgname = 'pgtrickle_guard' AND g.tgrelid NOT IN (SELECT relid FROM pgtrickle.stream_tables)
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'pgtrickle_changes'::regnamespace
        AND substring(p.proname FROM '_([0-9]+)$')::bigint NOT IN (SELECT id FROM pgtrickle.sources)
    UNION ALL
    SELECT 'buffer or log ' || c.relname FROM pg_class c
    WHERE c.relnamespace = 'pgtrickle_changes'::regnamespace AND c.relkind = 'r'
        AND c.relname NOT IN (SELECT 'b_' || id FROM pgtrickle.sources)
        AND c.relname NOT IN (SELECT 'o_' || source_stream_table_id FROM pgtrickle.dependencies
                              WHERE source_stream_table_id IS NOT NULL)
    UNION ALL
    SELECT 'state ' || c.relname FROM pg_class c
    WHERE c.relnamespace = 'pgtrickle_state'::regnamespace AND c.relkind = 'r'
        AND c.relname NOT IN (SELECT t FROM pgtrickle.stages, unnest(array[output_table, state_table, log_table]) t
                              WHERE t IS NOT NULL)
    UNION ALL
    SELECT 'source without a consumer: ' || s.table_name FROM pgtrickle.sources s
    WHERE s.id NOT IN (SELECT source_id FROM pgtrickle.dependencies WHERE source_id IS NOT NULL)
    UNION ALL
    SELECT 'unfinished: ' || st.table_name || ' ' || st.status FROM pgtrickle.stream_tables st
    WHERE st.status <> 'ACTIVE' OR NOT st.is_populated OR st.recompute_reason IS NOT NULL
    UNION ALL
    SELECT 'lease of nobody' FROM pgtrickle.leases l WHERE l.runner_id NOT IN (SELECT runner_id FROM pgtrickle.runners)
    UNION ALL
    SELECT 'trigger disabled: ' || g.tgname FROM pg_trigger g WHERE g.tgname ~ '^zz_pgtrickle' AND g.tgenabled <> 'A'
    UNION ALL
    SELECT 'table of a session: ' || c.relname FROM pg_class c
    WHERE c.relpersistence = 't' AND c.relname LIKE 'pgtrickle%'
    UNION ALL
    SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE database = current_database()
"""


def create_sources(conn: Connection) -> None:
    """The tables that the stream tables read, with some rows."""
    for statement in SOURCES:
        conn.execute(statement)  # type: ignore[call-overload]


def create(conn: Connection, engine: PgTrickle, *, schedule: str = "1s") -> None:
    """Sources, catalog and stream tables."""
    create_sources(conn)
    engine.install()
    for name, (query, mode) in STREAM_TABLES.items():
        engine.create_stream_table(f"public.{name}", query, schedule=schedule, refresh_mode=mode)


def change(conn: Connection, seed: int, count: int = 6) -> int:
    """Change the sources, the same for the same seed; each statement is a transaction. The number of statements."""
    chance = random.Random(seed)
    for number in range(count):
        key = 1000 + seed * 100 + number
        statement = chance.choice(
            (
                f"INSERT INTO orders VALUES ({key}, {chance.randrange(10)}, {chance.randrange(90)})"
                " ON CONFLICT (id) DO UPDATE SET amount = excluded.amount",
                f"UPDATE orders SET amount = amount + 1 WHERE customer = {chance.randrange(10)}",
                f"UPDATE orders SET customer = {chance.randrange(10)} WHERE id % 7 = {chance.randrange(7)}",
                f"DELETE FROM orders WHERE id % 11 = {chance.randrange(11)} AND id > 40",
                f"UPDATE customers SET region = 'r{chance.randrange(4)}' WHERE id = {chance.randrange(10)}",
                f"INSERT INTO notes VALUES ({chance.randrange(12)}, 'word{chance.randrange(5)}')",
                f"DELETE FROM notes WHERE customer = {chance.randrange(12)}",
                f"INSERT INTO events VALUES ({key}, '{chance.choice('abcd')}', 1)",
                f"UPDATE events SET kind = '{chance.choice('abcd')}' WHERE id % 5 = {chance.randrange(5)}",
                f"DELETE FROM events WHERE kind = '{chance.choice('abcd')}'",
                f"INSERT INTO scratch VALUES ({key}, {chance.randrange(4)})",
                f"DELETE FROM scratch WHERE n = {chance.randrange(4)}",
            )
        )
        conn.execute(statement)
    return count


def differences(conn: Connection) -> list[str]:
    """The stream tables that do not show their query's rows, with what differs."""
    found = (compare(conn, f"public.{name}", query) for name, query in QUERIES.items())
    return [difference for difference in found if difference is not None]


def rubbish(conn: Connection) -> list[str]:
    """What somebody has left behind."""
    return [row[0] for row in conn.execute(_RUBBISH).fetchall()]


def assert_well(conn: Connection, engine: PgTrickle, *, proofs: bool = True) -> None:
    """Fail unless after one refresh everything is right, nothing is left over, and changes are maintained again."""
    failed = [result for result in engine.refresh_all() if result.action in ("FAILED", "SKIPPED")]
    assert failed == []
    assert differences(conn) == []
    assert rubbish(conn) == []
    change(conn, 777)
    results = {result.name: result for result in engine.refresh_all()}
    wrong = [r for r in results.values() if r.action not in ("DIFFERENTIAL", "NO_DATA") and r.name != "public.ranked"]
    assert wrong == []
    assert differences(conn) == []
    for name, (_, mode) in STREAM_TABLES.items() if proofs else ():
        assert engine.verify(f"public.{name}").proven is (True if mode == "DIFFERENTIAL" else None), name


def follow(conn: Connection, process: RunnerProcess, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until a runner has made everything right, and nothing is left over; fail with what is wrong."""
    end = time.monotonic() + seconds
    while wrong := [*differences(conn), *rubbish(conn)]:
        assert time.monotonic() < end, "\n".join([*wrong, process.said()])
        time.sleep(0.05)
