"""A source that logical replication writes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle import db as engine_db
from pgtrickle.capture import Severity
from tests.support import servers
from tests.support.consumers import Consumer, need_of

User = psycopg.Connection[Any]

TABLES = "CREATE TABLE r (k integer PRIMARY KEY, v text)"


@pytest.fixture
def publisher(server: servers.Server) -> Iterator[User]:
    """Another database, which publishes ``r`` through a slot of its own."""
    with server.connect() as admin:
        admin.execute("CREATE DATABASE publisher")
        with psycopg.connect(server.dsn("publisher"), autocommit=True) as conn:
            conn.execute(TABLES)
            conn.execute("INSERT INTO r SELECT g, 'copied' FROM generate_series(1, 3) g")
            conn.execute("CREATE PUBLICATION p FOR TABLE r")
            conn.execute("SELECT pg_create_logical_replication_slot('pgtrickle_test', 'pgoutput')")
            yield conn
            wait_for(conn, "SELECT bool_and(NOT active) FROM pg_replication_slots WHERE database = 'publisher'")
            conn.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        admin.execute("DROP DATABASE publisher WITH (FORCE)")


@pytest.fixture
def subscribe(conn: User, publisher: User) -> Iterator[Callable[[], None]]:
    """Create the subscription; it is removed after the test."""
    # Not all options that libpq here knows are known to the libpq in the server.
    info = publisher.info
    dsn = psycopg.conninfo.make_conninfo(host=info.host, port=info.port, user=info.user, dbname=info.dbname)

    def create() -> None:
        conn.execute(
            f"CREATE SUBSCRIPTION s CONNECTION '{dsn}' PUBLICATION p"
            " WITH (create_slot = false, slot_name = 'pgtrickle_test')"
        )
        wait_for(conn, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel")

    yield create
    if conn.execute("SELECT count(*) FROM pg_subscription WHERE subname = 's'").fetchone() != (0,):
        conn.execute("ALTER SUBSCRIPTION s DISABLE")
        conn.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
        conn.execute("DROP SUBSCRIPTION s")


def wait_for(conn: User, query: str) -> None:
    """Poll until the query says true."""
    end = time.monotonic() + 30
    while conn.execute(query).fetchone() != (True,):
        assert time.monotonic() < end, query
        time.sleep(0.05)


def write(publisher: User, conn: User, number: int) -> None:
    """Change the published table in every way, and wait until it has arrived."""
    publisher.execute(f"INSERT INTO r VALUES ({number}, 'new'), ({number + 1}, 'gone')")
    publisher.execute(f"UPDATE r SET v = 'changed' WHERE k = {number}; DELETE FROM r WHERE k = {number + 1}")
    publisher.execute(f"INSERT INTO r VALUES ({number + 2}, 'last')")
    wait_for(conn, f"SELECT count(*) = 1 FROM r WHERE k = {number + 2}")


def test_target_of_a_subscription_is_captured_row_by_row(
    storage: engine_db.Connection, conn: User, publisher: User, subscribe: Callable[[], None]
) -> None:
    conn.execute(TABLES)
    subscribe()
    consumer = Consumer(storage, need_of(conn, "r")).install().load()
    assert consumer.source.trigger_level == "row"
    write(publisher, conn, 10)
    conn.execute("UPDATE r SET v = 'local' WHERE k = 1")
    consumer.assert_exact()
    publisher.execute("TRUNCATE r")
    wait_for(conn, "SELECT count(*) = 0 FROM r")
    consumer.assert_exact()


def test_subscription_that_comes_later_asks_for_a_repair(
    storage: engine_db.Connection, conn: User, publisher: User, subscribe: Callable[[], None]
) -> None:
    conn.execute(TABLES)
    consumer = Consumer(storage, need_of(conn, "r")).install().load()
    recorded = capture.fingerprint(storage, [consumer.id])[consumer.id]
    subscribe()
    (difference,) = capture.compare(recorded, capture.fingerprint(storage, [consumer.id])[consumer.id])
    assert difference.severity == Severity.REPAIR
    assert len(capture.repair(storage, [consumer.id])) == 1
    consumer.load()
    write(publisher, conn, 20)
    conn.execute("DELETE FROM r WHERE k = 2")
    consumer.assert_exact()
