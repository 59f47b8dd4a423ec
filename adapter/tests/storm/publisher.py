"""Logical replication into a source: another database publishes, with an initial copy, while all goes on."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from tests.storm.log import Dice, Log
from tests.storm.world import EMPTIED
from tests.support.servers import Server

DEADLINE = 60.0
_COPIED = "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"


class Publisher:
    """A database with one published table, and the subscription to it."""

    def __init__(self, server: Server, subscriber: psycopg.Connection[Any], name: str) -> None:
        """Create database and publication; the slot is made by hand, since it is on the same server."""
        self.server, self.subscriber, self.name = server, subscriber, name
        self.slot = f"{name}_slot"
        with server.connect() as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        self.conn = psycopg.connect(server.dsn(name), autocommit=True)
        self.conn.execute("CREATE TABLE feed (id int PRIMARY KEY, v int, txt text)")
        self.conn.execute(EMPTIED)
        self.conn.execute("CREATE PUBLICATION p FOR TABLE feed")
        self.conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (self.slot,))

    def subscribe(self) -> None:
        """From now on another process writes to the source: first a copy, then what is published."""
        info = self.conn.info
        dsn = make_conninfo(host=info.host, port=info.port, user=info.user, dbname=self.name)
        self.subscriber.execute(
            f"CREATE SUBSCRIPTION storm CONNECTION '{dsn}' PUBLICATION p"
            f" WITH (create_slot = false, slot_name = '{self.slot}')"
        )

    def write(self, dice: Dice, log: Log) -> None:
        """One transaction on the publisher."""
        with self.conn.transaction():
            for _ in range(dice.randint(1, 4)):
                key = dice.randint(1, 500)
                match dice.randint(0, 4):
                    case 0 | 1:
                        self.conn.execute(
                            "INSERT INTO feed VALUES (%s, %s, 'new') ON CONFLICT (id) DO UPDATE SET v = feed.v + 1",
                            (key, dice.randint(0, 9)),
                        )
                    case 2:
                        self.conn.execute(
                            "UPDATE feed SET v = (v + 1) %% 12, txt = 'moved' WHERE id %% 50 = %s", (key % 50,)
                        )
                    case 3:
                        self.conn.execute("DELETE FROM feed WHERE id = %s", (key,))
                    case _:
                        self.conn.execute(
                            "UPDATE feed SET id = -id WHERE id = %s"
                            " AND NOT EXISTS (SELECT FROM feed f WHERE f.id = -feed.id)",
                            (dice.choice((key, -key)),),
                        )
        # While the copy runs, PostgreSQL's own two workers would wait for each other, unseen by its deadlock detector.
        if dice.happens(0.05) and self.subscriber.execute(_COPIED).fetchone() == (True,):
            self.conn.execute("TRUNCATE feed")
        log.count("transactions", "replicated")

    def caught_up(self, seconds: float = DEADLINE) -> bool:
        """Whether the subscriber gets everything within this time; copies wait for all that is open on the server."""
        end = time.monotonic() + seconds
        target = self.conn.execute("SELECT pg_current_wal_lsn()").fetchone()
        assert target is not None
        while not (
            self.subscriber.execute(_COPIED).fetchone() == (True,)
            and self.conn.execute(
                "SELECT confirmed_flush_lsn >= %s FROM pg_replication_slots WHERE slot_name = %s",
                (target[0], self.slot),
            ).fetchone()
            == (True,)
        ):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """Drop subscription, slot and database."""
        with suppress(psycopg.Error):
            self.subscriber.execute("ALTER SUBSCRIPTION storm DISABLE")
            self.subscriber.execute("ALTER SUBSCRIPTION storm SET (slot_name = NONE)")
            self.subscriber.execute("DROP SUBSCRIPTION storm")
        end = time.monotonic() + DEADLINE
        active = "SELECT count(*) FROM pg_replication_slots WHERE active AND database = %s"
        while self.conn.execute(active, (self.name,)).fetchone() != (0,) and time.monotonic() < end:
            time.sleep(0.05)
        self.conn.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (self.name,)
        )
        self.conn.close()
        with self.server.connect() as admin:
            admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
