"""What the engine does while applications are watched for stalls, and the tables on which it does so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from tests.faults.agents import Agent, reader, writer
from tests.support.guard import past_guard

Connection = psycopg.Connection[Any]

TABLES = ("small", "big", "keyless", "parted", "many")
PARTITIONS = 40

SOURCES = (
    "CREATE TABLE small (id bigint PRIMARY KEY, k int, v int)",
    "CREATE TABLE big (id bigint PRIMARY KEY, k int, v int, t text)",
    "CREATE TABLE keyless (id bigint, k int, v int)",
    "CREATE INDEX ON keyless (id)",
    "CREATE TABLE parted (id bigint PRIMARY KEY, k int, v int) PARTITION BY RANGE (id)",
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000)",
    "CREATE TABLE parted_rest PARTITION OF parted FOR VALUES FROM (2000) TO (MAXVALUE)",
    "CREATE TABLE many (id bigint, k int, v int) PARTITION BY HASH (id)",
    *(
        f"CREATE TABLE many_{number} PARTITION OF many FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        for number in range(PARTITIONS)
    ),
    "CREATE INDEX ON many (id)",
    "INSERT INTO small SELECT i, i % 10, i FROM generate_series(1, 100) i",
    "INSERT INTO big SELECT i, i % 1000, i, 'text ' || i FROM generate_series(1, {rows}) i",
    "INSERT INTO keyless SELECT i, i % 10, i FROM generate_series(1, 1000) i",
    "INSERT INTO parted SELECT i, i % 10, i FROM generate_series(1, 900) i",
    "INSERT INTO many SELECT i, i % 10, i FROM generate_series(1, 2000) i",
    "ANALYZE",
)

QUERIES = {
    "of_small": "SELECT id, k, v FROM small",
    "of_big": "SELECT id, k, v FROM big",
    "totals": "SELECT k, count(*) AS n, sum(v) AS v FROM big GROUP BY k",
    "of_keyless": "SELECT k, v FROM keyless",
    "of_parted": "SELECT id, k, v FROM parted",
    "of_many": "SELECT k, count(*) AS n FROM many GROUP BY k",
    "joined": "SELECT b.id, b.v, s.v AS w FROM big b LEFT JOIN small s ON s.id = b.k",
    "above": "SELECT k, n FROM public.totals WHERE n > 1",
    "texts": "SELECT id, t FROM big",
    "whole": "SELECT k, max(t) AS t, random() AS r FROM big GROUP BY k",
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A database with agents at work, and the engine.

    Attributes:
        dsn: of the database.
        conn: somebody who prepares.
        engine: whose operations are measured.
        held: an old transaction has touched every table while an operation begins.
        rows: of the big source.
    """

    dsn: str
    conn: Connection
    engine: PgTrickle
    held: bool
    rows: int

    def create(self, name: str, **options: Any) -> None:
        """A stream table of `QUERIES`."""
        self.engine.create_stream_table(f"public.{name}", QUERIES[name], **options)

    def replace(self, name: str, query: str, **options: Any) -> None:
        """Another query."""
        self.engine.create_or_replace_stream_table(f"public.{name}", query, **options)

    def change(self, part: float = 0.1) -> None:
        """A part of the rows of every source, in one statement each; none of the agents'."""
        for table in TABLES:
            self.conn.execute(f"UPDATE {table} SET v = v + 1 WHERE id <= {int(self.rows * part)}".encode())


def world(conn: Connection, rows: int) -> None:
    """The sources."""
    for statement in SOURCES:
        conn.execute(statement.format(rows=rows).encode())


def agents_of_world() -> list[Agent]:
    """A writer and a reader of every source, a reader of every stream table."""
    return [*map(writer, TABLES), *map(reader, TABLES), *map(reader, QUERIES)]


Act = Callable[[Bench], object]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the engine does.

    Attributes:
        name: for the report.
        act: what is measured.
        before: what comes before it, and is not.
        silent: nobody ever waits for it, not even shortly.
        readers_wait: of these stream tables; it is documented that their readers do.
    """

    name: str
    act: Act
    before: Act | None = None
    silent: bool = False
    readers_wait: tuple[str, ...] = ()


def _damage(bench: Bench) -> None:
    row = bench.conn.execute(
        "SELECT 'pgtrickle_changes.f_' || id FROM pgtrickle.sources WHERE table_name = 'keyless'"
    ).fetchone()
    assert row is not None
    bench.conn.execute("ALTER TABLE small DISABLE TRIGGER USER")
    bench.conn.execute(f"DROP FUNCTION {row[0]} CASCADE".encode())
    bench.conn.execute("DROP TRIGGER pgtrickle_guard ON totals")
    bench.conn.execute("DELETE FROM pgtrickle.frontiers")


def _swap(bench: Bench) -> None:
    with bench.conn.transaction():
        bench.conn.execute(
            "CREATE TABLE fresh (LIKE small INCLUDING ALL); INSERT INTO fresh SELECT * FROM small;"
            " DROP TABLE small; ALTER TABLE fresh RENAME TO small"
        )


def _attach(bench: Bench) -> None:
    bench.conn.execute("CREATE TABLE parted_2 (LIKE parted INCLUDING ALL)")
    bench.conn.execute("INSERT INTO parted_2 SELECT i, i % 10, i FROM generate_series(1000, 1500) i")
    bench.conn.execute("ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (1000) TO (2000)")


def _refresh(name: str, *, full: bool = False) -> Act:
    return lambda bench: bench.engine.refresh_stream_table(f"public.{name}", full=full)


def _create(name: str, **options: Any) -> Operation:
    return Operation(f"create {name}", lambda bench: bench.create(name, **options))


def _drop(name: str) -> Operation:
    return Operation(f"drop {name}", lambda bench: bench.engine.drop_stream_table(f"public.{name}"))


def _replace(what: str, query: str, *, waits: bool = False) -> Operation:
    return Operation(
        f"alter the query: {what}",
        lambda bench: bench.replace("of_big", query),
        readers_wait=("of_big",) if waits else (),
    )


#: In an order in which they can be done.
OPERATIONS = (
    Operation("nothing", lambda bench: time.sleep(2), silent=True),
    Operation("install", lambda bench: bench.engine.install(), silent=True),
    *map(_create, QUERIES),
    Operation("refresh 10 %", lambda bench: bench.engine.refresh_all(), Bench.change, silent=True),
    Operation("refresh FULL", _refresh("whole"), Bench.change, silent=True),
    Operation("recompute", _refresh("of_big", full=True), Bench.change, silent=True),
    Operation("trim", lambda bench: capture.trim(bench.engine.own_conn), Bench.change),
    Operation("verify", lambda bench: bench.engine.verify("public.joined"), Bench.change, silent=True),
    Operation(
        "verify --repair",
        lambda bench: bench.engine.verify("public.of_big", repair=True),
        lambda bench: past_guard(bench.conn, "UPDATE of_big SET v = v + 1 WHERE id % 7 = 0"),
    ),
    Operation("suspend", lambda bench: bench.engine.suspend("public.of_big"), silent=True),
    Operation("resume", lambda bench: bench.engine.resume("public.of_big"), silent=True),
    Operation("let go", lambda bench: bench.engine.let_go("public.of_big"), silent=True),
    Operation("refresh after let go", _refresh("of_big"), silent=True),
    Operation("doctor", lambda bench: bench.engine.doctor(), silent=True),
    Operation("doctor --fix", lambda bench: bench.engine.doctor(fix=True), _damage),
    Operation("refresh after doctor", lambda bench: bench.engine.refresh_all()),
    Operation("refresh after a swap of a source", _refresh("of_small"), _swap),
    Operation("refresh after ATTACH PARTITION", _refresh("of_parted"), _attach),
    Operation(
        "alter the schedule", lambda bench: bench.engine.alter_stream_table("public.of_big", schedule="5s"), silent=True
    ),
    Operation(
        "alter indexes",
        lambda bench: bench.engine.alter_stream_table("public.of_big", indexes=[{"columns": ["k"]}]),
        silent=True,
    ),
    Operation(
        "alter the mode",
        lambda bench: bench.replace("texts", QUERIES["texts"], refresh_mode="FULL"),
    ),
    _replace("fewer rows", "SELECT id, k, v FROM big WHERE v > 5"),
    _replace("a column more", "SELECT id, k, v, t FROM big", waits=True),
    _replace("a column less", "SELECT id, k, t FROM big"),
    _replace("another type", "SELECT id, k::bigint AS k, t FROM big", waits=True),
    _replace("another key", "SELECT k, count(*) AS n FROM big GROUP BY k", waits=True),
    _drop("texts"),
    _drop("above"),
    _drop("of_many"),
    _drop("of_parted"),
    _drop("joined"),
    Operation("uninstall", lambda bench: bench.engine.uninstall()),
)
