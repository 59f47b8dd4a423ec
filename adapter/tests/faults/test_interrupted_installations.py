"""Installing, migrating, uninstalling and recovering a copy die between any two statements: the next call finishes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.catalog import installation
from pgtrickle.errors import PgTrickleError
from tests.faults.moments import draw
from tests.support import servers
from tests.support.catalogs import restore
from tests.support.oracle import compare
from tests.support.proxy import CuttingProxy

Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.newest_only

QUERIES = {
    "totals": "SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k",
    "tip": "SELECT max(n) AS n FROM public.totals",
    "wide": "SELECT t.id, p.x FROM t JOIN p ON p.k = t.k",
}
OF_CATALOG_3 = {
    "by_region": "SELECT region, count(*) AS n, sum(amount) AS total"
    " FROM orders o JOIN customer c ON c.id = o.customer_id GROUP BY region",
    "kinds": "SELECT DISTINCT kind FROM event",
}
#: All that is ours, wherever it is.
TRACES = """
    SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'pgtrickle%'
    UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE '%pgtrickle%'
    UNION ALL SELECT 'index ' || indexrelid::regclass FROM pg_index WHERE indexrelid::regclass::text LIKE '%pgtrickle%'
    UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE proname LIKE '%pgtrickle%'
"""
_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Step:
    """What is interrupted.

    Attributes:
        prepare: what is there before; a connection of the application, and a connection string.
        act: what is interrupted, and done again.
        write: what the application does meanwhile: it must never fail.
        check: what must be true in the end.
        queries: of stream tables that must be right whenever a refresh says that they are.
        again: what is done after the interruption; None: the same.
    """

    prepare: Callable[[Connection, str], None]
    act: Callable[[PgTrickle], object]
    write: Callable[[Connection], None]
    check: Callable[[Connection, str], None]
    queries: dict[str, str]
    again: Callable[[PgTrickle], object] | None = None


def _tables(conn: Connection, dsn: str) -> None:
    conn.execute(
        "CREATE TABLE t (id int PRIMARY KEY, k int, v int);"
        "INSERT INTO t SELECT n, n % 3, n FROM generate_series(1, 20) n;"
        "CREATE TABLE p (k int, x int) PARTITION BY LIST (k); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);"
        "CREATE TABLE p_2 PARTITION OF p DEFAULT; INSERT INTO p SELECT n % 3, n FROM generate_series(1, 6) n"
    )


def _world(conn: Connection, dsn: str) -> None:
    _tables(conn, dsn)
    with PgTrickle.connect(dsn) as engine:
        engine.install()
        for name, query in QUERIES.items():
            engine.create_stream_table(f"public.{name}", query, refresh_mode="DIFFERENTIAL", schedule="1s")


def _foreign(conn: Connection, dsn: str) -> None:
    """As if the database had been restored elsewhere."""
    _world(conn, dsn)
    _write(conn)
    conn.execute("UPDATE pgtrickle.installation SET database_oid = 1")


def _write(conn: Connection) -> None:
    conn.execute("INSERT INTO t VALUES (100, 1, 1) ON CONFLICT (id) DO UPDATE SET v = t.v + 1")
    conn.execute("UPDATE t SET k = k + 1 WHERE id = 3")
    conn.execute("DELETE FROM t WHERE id = (SELECT max(id) FROM t WHERE id < 50)")
    conn.execute("INSERT INTO p VALUES (1, 9), (2, 9)")
    conn.execute("UPDATE p_2 SET x = x + 1")


def _write_orders(conn: Connection) -> None:
    conn.execute("UPDATE orders SET amount = amount * 2, customer_id = 5 WHERE id % 3 = 0")
    conn.execute("DELETE FROM event WHERE kind = 'k2'")
    conn.execute("INSERT INTO event SELECT * FROM event LIMIT 1")


def _well(queries: dict[str, str]) -> Callable[[Connection, str], None]:
    def check(conn: Connection, dsn: str) -> None:
        with PgTrickle.connect(dsn) as engine:
            engine.refresh_all()
            _equal(conn, queries)
            (_write_orders if queries is OF_CATALOG_3 else _write)(conn)
            actions = {result.name: result.action for result in engine.refresh_all()}
            assert {actions[f"public.{name}"] for name in queries} <= {"DIFFERENTIAL", "NO_DATA"}
            _equal(conn, queries)
            assert [one for one in engine.doctor() if one.severity != "NOTE"] == []

    return check


def _equal(conn: Connection, queries: dict[str, str]) -> None:
    assert [found for name, query in queries.items() if (found := compare(conn, f"public.{name}", query))] == []


def _installed(conn: Connection, dsn: str) -> None:
    with PgTrickle.connect(dsn) as engine:
        for name, query in QUERIES.items():
            engine.create_stream_table(f"public.{name}", query, refresh_mode="DIFFERENTIAL")
    _well(QUERIES)(conn, dsn)


def _gone(conn: Connection, dsn: str) -> None:
    assert conn.execute(TRACES).fetchall() == []
    for name in QUERIES:
        conn.execute(f"DELETE FROM public.{name}".encode())
    with PgTrickle.connect(dsn) as engine:
        assert engine.install() != ()


def _gone_with_tables(conn: Connection, dsn: str) -> None:
    assert conn.execute(TRACES).fetchall() == []
    assert conn.execute("SELECT count(*) FROM pg_class WHERE relname = ANY (%s)", (list(QUERIES),)).fetchone() == (0,)


def _uninstall(engine: PgTrickle, **options: bool) -> None:
    if engine.own_conn.execute("SELECT pg_catalog.to_regnamespace('pgtrickle') IS NOT NULL").fetchone() == (True,):
        engine.uninstall(**options)


def _think_better_of_it(engine: PgTrickle) -> None:
    """What is left of a half uninstalled catalog is made whole; where nothing is left, all is made anew."""
    engine.install()
    for name, query in QUERIES.items():
        if engine.is_stream_table(f"public.{name}"):
            engine.resume(f"public.{name}")
        else:
            engine.own_conn.execute(f"DROP TABLE public.{name}".encode())
            engine.create_stream_table(f"public.{name}", query, refresh_mode="DIFFERENTIAL", schedule="1s")
    # Some guards may be gone already.
    assert [one for one in engine.doctor(fix=True) if not one.fixed and one.severity != "NOTE"] == []


STEPS = {
    "install": Step(_tables, lambda engine: engine.install(), _write, _installed, {}),
    "migrate": Step(
        lambda conn, dsn: restore(conn, 3),
        lambda engine: engine.install(),
        _write_orders,
        _well(OF_CATALOG_3),
        OF_CATALOG_3,
    ),
    "uninstall": Step(_world, _uninstall, _write, _gone, QUERIES),
    "uninstall and drop": Step(
        _world, lambda engine: _uninstall(engine, drop_stream_tables=True), _write, _gone_with_tables, QUERIES
    ),
    "uninstall and resume": Step(_world, _uninstall, _write, _well(QUERIES), QUERIES, _think_better_of_it),
    "recover a copy": Step(_foreign, lambda engine: engine.refresh_all(), _write, _well(QUERIES), QUERIES),
}


#: What is tried in every run; the rest with --run-slow.
OFTEN = ("install", "uninstall")


@contextmanager
def prepared(server: servers.Server, step: Step) -> Iterator[tuple[Connection, str, CuttingProxy]]:
    """A database of its own."""
    with server.database(f"interrupted{next(_names)}") as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        step.prepare(conn, dsn)
        with CuttingProxy(dsn) as proxy:
            yield conn, dsn, proxy


def interrupt(proxy: CuttingProxy, step: Step, at: int | None, *, answered: bool) -> int:
    """Carry it out until the message of this number; how many there were."""
    try:
        with PgTrickle.connect(proxy.dsn) as engine:
            proxy.arm(at, answered=answered)
            step.act(engine)
    except (PgTrickleError, psycopg.Error):
        assert proxy.cut, "it failed without having been interrupted"
    return proxy.seen


def told_truly(conn: Connection, dsn: str, queries: dict[str, str]) -> None:
    """Somebody refreshes in between: whatever is said to be done is right."""
    with suppress(PgTrickleError), PgTrickle.connect(dsn) as engine:
        done = [result for result in engine.refresh_all() if result.action not in ("FAILED", "SKIPPED")]
        names = {result.name.removeprefix("public.") for result in done}
        _equal(conn, {name: query for name, query in queries.items() if name in names})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in STEPS]
)
def test_a_step_that_is_interrupted_anywhere_is_finished_by_the_next_call(
    name: str, server: servers.Server, request: pytest.FixtureRequest
) -> None:
    step = STEPS[name]
    with prepared(server, step) as (conn, dsn, proxy):
        messages = interrupt(proxy, step, None, answered=False)
        if step.again is not None:
            with PgTrickle.connect(dsn) as engine:
                step.again(engine)
        step.check(conn, dsn)
    for at, answered in draw(name, messages, request.config, few=1, many=8):
        with prepared(server, step) as (conn, dsn, proxy):
            interrupt(proxy, step, at, answered=answered)
            try:
                version = conn.execute("SELECT to_regclass('pgtrickle.schema_migrations') IS NOT NULL").fetchone()
                if name == "install" and version == (True,):
                    known = conn.execute("SELECT max(version) FROM pgtrickle.schema_migrations").fetchone()
                    assert known == (installation.migrations()[-1].version,)
                step.write(conn)
                told_truly(conn, dsn, step.queries)
                step.write(conn)
                with PgTrickle.connect(dsn) as engine:
                    (step.again or step.act)(engine)
                step.write(conn)
                step.check(conn, dsn)
            except (AssertionError, PgTrickleError, psycopg.Error) as error:
                raise AssertionError(f"interrupted {'after' if answered else 'before'} message {at}") from error
