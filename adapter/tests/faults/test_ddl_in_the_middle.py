"""DDL is committed between two statements of a refresh: it waits, or it is noticed; nothing wrong is called fresh."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support.oracle import assert_same_rows
from tests.support.proxy import CuttingProxy
from tests.support.used_objects import CASES, ERROR, Used, World

pytestmark = pytest.mark.newest_only

Connection = psycopg.Connection[Any]
#: What is tried by default, at one moment each; everything at every moment with --run-slow.
QUICK = frozenset({"rename_column", "swap", "attach", "label_shown", "body", "composite_as_text"})
WRITES = (
    "UPDATE app.t SET g = 1 - g WHERE id % 3 = 0",
    "INSERT INTO app.t (id, g, x) SELECT 1 + max(id), 1, 'Cats ran' FROM app.t",
    "DELETE FROM app.t WHERE id = (SELECT min(id) FROM app.t)",
)
_ROWS = "SELECT id, g, x FROM app.t WHERE g >= 0"
_PARTITIONED = World(
    "CREATE TABLE app.t (id int, g int, x text) PARTITION BY RANGE (id);"
    "CREATE TABLE app.t1 PARTITION OF app.t FOR VALUES FROM (0) TO (1000); ALTER TABLE app.t RENAME TO pt;"
)
#: Of what the queries read.
TABLES: Mapping[str, Used] = {
    "rename_column": Used("", _ROWS, "ALTER TABLE app.t RENAME g TO h", now="SELECT id, h AS g, x FROM app.t"),
    "rename_table": Used("", _ROWS, "ALTER TABLE app.t RENAME TO u", now="SELECT id, g, x FROM app.u"),
    "retype": Used("", _ROWS, "ALTER TABLE app.t ALTER x TYPE text USING upper(x)", view=False),
    "truncate": Used("", _ROWS, "TRUNCATE app.t"),
    "replace_column": Used(
        "", _ROWS, "ALTER TABLE app.t RENAME x TO y; ALTER TABLE app.t ADD x text DEFAULT 'new'", view=False
    ),
    "swap": Used(
        "",
        _ROWS,
        "CREATE TABLE app.n (LIKE app.t INCLUDING ALL); INSERT INTO app.n VALUES (1, 1, 'n');"
        "ALTER TABLE app.t RENAME TO o; ALTER TABLE app.n RENAME TO t; DROP TABLE app.o",
        view=False,
    ),
    "off_and_on": Used(
        "",
        _ROWS,
        "ALTER TABLE app.t DISABLE TRIGGER ALL; UPDATE app.t SET g = g + 5; ALTER TABLE app.t ENABLE TRIGGER ALL",
    ),
    "inherit": Used("", _ROWS, "CREATE TABLE app.c () INHERITS (app.t); INSERT INTO app.c VALUES (500, 1, 'child')"),
    "attach": Used(
        "",
        "SELECT g, count(*) AS n FROM app.pt GROUP BY g",
        "CREATE TABLE app.n (id int, g int, x text); INSERT INTO app.n VALUES (2000, 1, 'n');"
        "ALTER TABLE app.pt ATTACH PARTITION app.n FOR VALUES FROM (2000) TO (2001)",
        world=_PARTITIONED,
    ),
    "detach": Used(
        "",
        "SELECT g, count(*) AS n FROM app.pt GROUP BY g",
        "ALTER TABLE app.pt DETACH PARTITION app.t1",
        world=_PARTITIONED,
    ),
    "view": Used(
        "",
        "SELECT g, count(*) AS n FROM app.w GROUP BY g",
        "CREATE OR REPLACE VIEW app.w AS SELECT g, id FROM app.t2 WHERE id > 3",
        before="CREATE TABLE app.t2 (g int, id int); INSERT INTO app.t2 SELECT n, n FROM generate_series(1, 6) n;"
        "CREATE VIEW app.w AS SELECT g, id FROM app.t2;",
        view=False,
    ),
    "own_column": Used("", _ROWS, "ALTER TABLE middle RENAME g TO h"),
    "own_rows": Used(
        "",
        _ROWS,
        "ALTER TABLE middle DISABLE TRIGGER ALL; DELETE FROM middle WHERE g = 1; ALTER TABLE middle ENABLE TRIGGER ALL",
    ),
}
EVERY: Mapping[str, Used] = {**CASES, **TABLES}


@pytest.fixture(scope="module")
def proxied(module_db: str) -> Iterator[tuple[CuttingProxy, PgTrickle, Connection]]:
    """An engine whose messages can be held up, and an application."""
    with CuttingProxy(module_db) as proxy, psycopg.connect(module_db, autocommit=True, prepare_threshold=None) as conn:
        with PgTrickle.connect(module_db) as engine:
            engine.install()
        with PgTrickle.connect(proxy.dsn) as engine:
            yield proxy, engine, conn


def create(engine: PgTrickle, conn: Connection, case: Used, mode: str) -> None:
    conn.execute(case.setup)
    engine.create_stream_table("middle", case.query, refresh_mode=mode)
    for _ in range(2):
        write(conn)
        engine.refresh_stream_table("middle")
    write(conn)


def write(conn: Connection) -> None:
    if conn.execute("SELECT to_regclass('app.t')").fetchone() != (None,):
        columns = conn.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'app.t'::regclass").fetchall()
        for statement in WRITES if {("g",), ("x",)} <= set(columns) else ():
            conn.execute(statement)


def content(conn: Connection, query: str) -> list[Any]:
    return sorted(conn.execute(f"SELECT s::text FROM ({query}) AS s").fetchall())


class Change:
    """The DDL of a case, committed as soon as nothing is in its way."""

    def __init__(self, conn: Connection, case: Used) -> None:
        self.conn, self.left, self.blocked = conn, list(case.statements), False

    def __call__(self) -> None:
        self.conn.execute("SET lock_timeout = '100ms'")
        try:
            self.finish()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            self.blocked = True

    def finish(self) -> None:
        """Do what is left to be done."""
        while self.left:
            self.conn.execute(self.left[0])
            self.left.pop(0)


def interfere(proxy: CuttingProxy, engine: PgTrickle, conn: Connection, case: Used, at: int) -> None:
    """Refresh, with the DDL before the message of this number."""
    write(conn)
    old = content(conn, case.query)
    change = Change(conn, case)
    proxy.arm(at, act=change)
    try:
        engine.refresh_stream_table("middle")
        done = True
    except PgTrickleError:
        done = False
    proxy.arm(None)
    shown = content(conn, "SELECT * FROM middle")
    conn.execute("SET lock_timeout = 0")
    whole = not change.left
    change.finish()
    if case.outcome != ERROR:
        if done and "middle" not in str(case.ddl):
            # What was done in several messages may have been seen in between.
            expected = [old] if not whole else [old, content(conn, case.now or case.query)]
            assert shown in expected or len(case.statements) > 1, f"shown: {shown}, right: {expected}"
        engine.refresh_stream_table("middle")
        assert_same_rows(conn, "middle", case.now or case.query)
        assert engine.verify("middle").proven is not False
        return
    with pytest.raises(PgTrickleError):
        engine.refresh_stream_table("middle")


def moments(name: str) -> list[tuple[str, str, int]]:
    """Cases, modes, numbers of messages."""
    return [(name, mode, at) for mode in ("DIFFERENTIAL", "FULL") for at in range(1, 9)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in EVERY]
)
def test_ddl_between_two_statements_of_a_refresh(
    name: str, proxied: tuple[CuttingProxy, PgTrickle, Connection], request: pytest.FixtureRequest
) -> None:
    proxy, engine, conn = proxied
    chosen = moments(name)
    if not request.config.getoption("--run-slow"):
        chosen = random.Random(name).sample(chosen[:6], 1)
    for _, mode, at in chosen:
        try:
            create(engine, conn, EVERY[name], mode)
            interfere(proxy, engine, conn, EVERY[name], at)
        except (AssertionError, PgTrickleError) as error:
            raise AssertionError(f"{name}, {mode}, before message {at}: {error}") from error
        finally:
            proxy.arm(None)
            conn.execute("SET lock_timeout = 0")
            engine.drop_stream_table("middle", if_exists=True)
