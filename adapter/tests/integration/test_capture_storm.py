"""Everything at once: writers, DDL, refreshes and trims; in the end every stream table is its query."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from pgtrickle.errors import LockTimeout, RefreshBusy, TransactionConflict

User = psycopg.Connection[Any]

pytestmark = pytest.mark.newest_only

SECONDS = 5.0

TABLES = """
    CREATE TABLE o (id serial PRIMARY KEY, c integer, amt numeric, note text);
    CREATE TABLE c (id integer PRIMARY KEY, n text);
    CREATE TABLE nk (k integer, v integer);
    CREATE TABLE pt (k integer, v text) PARTITION BY RANGE (k);
    CREATE TABLE p1 PARTITION OF pt FOR VALUES FROM (0) TO (50);
    CREATE TABLE p2 PARTITION OF pt FOR VALUES FROM (50) TO (200);
    INSERT INTO c SELECT g, 'n' || (g % 7) FROM generate_series(1, 20) g;
    INSERT INTO o (c, amt) SELECT g % 25, g FROM generate_series(1, 200) g;
    INSERT INTO nk SELECT g % 10, g % 3 FROM generate_series(1, 50) g;
    INSERT INTO pt SELECT g % 100, 'x' FROM generate_series(1, 100) g
"""

STREAM_TABLES = {
    "by_name": "SELECT c.n, sum(o.amt) AS s, count(*) AS k, max(o.amt) AS m FROM o JOIN c ON c.id = o.c GROUP BY c.n",
    "chain": "SELECT n, s FROM by_name WHERE k > 2",
    "padded": "SELECT o.id, c.n, o.amt FROM o LEFT JOIN c ON c.id = o.c",
    "distinct_keys": "SELECT DISTINCT k FROM nk",
    "partitioned": "SELECT k % 10 AS b, count(*) AS c, min(v) AS m FROM pt GROUP BY 1",
    "diamond": (
        "SELECT a.n, a.s, d.cnt FROM by_name a JOIN (SELECT n, count(*) AS cnt FROM padded GROUP BY n) d ON d.n = a.n"
    ),
}

WRITES = (
    "INSERT INTO o (c, amt) SELECT {k}, g FROM generate_series(1, {k} % 4) g",
    "UPDATE o SET amt = amt + 1 WHERE c = {k}",
    "UPDATE o SET c = {k} WHERE id % 40 = {k}",
    "UPDATE o SET note = 'unread' WHERE id = {k}",
    "DELETE FROM o WHERE id % 97 = {k}",
    "UPDATE c SET n = 'n{k}' WHERE id = {k}",
    "DELETE FROM c WHERE id = {k}",
    "INSERT INTO c VALUES ({k}, 'new') ON CONFLICT (id) DO UPDATE SET n = excluded.n || 'u'",
    "INSERT INTO nk VALUES ({k} % 10, 1)",
    "DELETE FROM nk WHERE k = {k} % 10",
    "INSERT INTO pt VALUES ({k} * 6, 'q')",
    "UPDATE pt SET k = (k + {k}) % 200 WHERE k < 200",
    "DELETE FROM p1 WHERE k = {k}",
)

DDL = (
    "CREATE TABLE q{n} (k integer, v text); INSERT INTO q{n} VALUES (1000 + {n}, 'before');"
    "ALTER TABLE pt ATTACH PARTITION q{n} FOR VALUES FROM (1000 + {n}) TO (1001 + {n})",
    "CREATE TABLE q{n} PARTITION OF pt FOR VALUES FROM (1000 + {n}) TO (1001 + {n})",
    "ALTER TABLE pt DETACH PARTITION q{last}",
    "DROP TABLE q{last}",
    "ALTER TABLE nk DISABLE TRIGGER ALL; INSERT INTO nk VALUES (77, 1); ALTER TABLE nk ENABLE TRIGGER ALL",
    "ALTER TABLE o ALTER amt TYPE numeric(12,2)",
    "ALTER TABLE o ALTER amt TYPE numeric",
    "ALTER TABLE o DROP COLUMN IF EXISTS note; ALTER TABLE o ADD COLUMN note text",
    "TRUNCATE nk",
    "TRUNCATE p1",
    "VACUUM FULL nk",
)


def write(conn: User, seed: int, until: float) -> None:
    """Transactions of all kinds; an error of one statement is undone."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        conn.execute("BEGIN")
        try:
            for _ in range(chance.randint(1, 4)):
                with conn.transaction():
                    conn.execute(chance.choice(WRITES).format(k=chance.randint(1, 30)))
                    if chance.random() < 0.2:
                        raise psycopg.Rollback
                time.sleep(chance.choice((0, 0, 0.005, 0.05)))
        except psycopg.Error:
            conn.execute("ROLLBACK")
            continue
        if chance.random() < 0.25:
            conn.execute(f"PREPARE TRANSACTION 'storm{seed}'")
            time.sleep(chance.random() / 10)
            conn.execute(chance.choice(("COMMIT PREPARED 'storm{}'", "ROLLBACK PREPARED 'storm{}'")).format(seed))
        else:
            conn.execute(chance.choice(("COMMIT", "COMMIT", "ROLLBACK")))


def define(conn: User, seed: int, until: float) -> None:
    """DDL that does not always get its lock, and that does not always make sense."""
    chance, number = random.Random(seed), 1
    conn.execute("SET lock_timeout = '200ms'")
    while time.monotonic() < until:
        number += 1
        try:
            conn.execute(chance.choice(DDL).format(n=number, last=chance.randint(1, number)))
        except psycopg.Error:
            conn.execute("ROLLBACK")
        time.sleep(chance.random() / 8)


def refresh(db: str, seed: int, until: float) -> None:
    """Refresh one after the other, trim now and then; to have to begin again is no failure."""
    chance = random.Random(seed)
    with PgTrickle.connect(db) as engine:
        while time.monotonic() < until:
            try:
                engine.refresh_stream_table(chance.choice(list(STREAM_TABLES)))
                if chance.random() < 0.2:
                    capture.trim(engine.conn)
            except (TransactionConflict, LockTimeout, RefreshBusy):
                continue


def test_every_stream_table_is_its_query_after_a_storm(
    db: str, engine: PgTrickle, conn: User, connect: Callable[..., User], oracle: Callable[..., None]
) -> None:
    conn.execute(TABLES)
    for name, query in STREAM_TABLES.items():
        engine.create_stream_table(name, query)
    until, failures = time.monotonic() + SECONDS, []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell
            failures.append(error)

    works = [partial(write, connect(), seed, until) for seed in range(3)]
    works += [partial(define, connect(), 9, until)]
    works += [partial(refresh, db, seed, until) for seed in range(2)]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine.refresh_all()
    for name, query in STREAM_TABLES.items():
        oracle(conn, name, query)
        assert engine.verify(name).proven
