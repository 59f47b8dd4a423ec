"""The engine dies between any two of its statements: what it was doing, the next run finishes without a human."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from pgtrickle.refresh import Plans
from tests.faults import world
from tests.faults.moments import draw
from tests.faults.operations import OFTEN, OPERATIONS, Operation, disturb
from tests.support.proxy import CuttingProxy

Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.newest_only

#: Whoever recovers is a process that lives on, as a runner is, and has compiled the definitions before.
PLANS = Plans()


@pytest.fixture(scope="module")
def small_world(module_db: str) -> Iterator[tuple[str, Connection]]:
    """A world that all interruptions of this module leave as it was."""
    with psycopg.connect(module_db, autocommit=True) as conn:
        with PgTrickle.connect(module_db) as engine:
            world.create(conn, engine)
        yield module_db, conn


def interrupted(proxy: CuttingProxy, operation: Operation, at: int, *, answered: bool) -> bool:
    """Carry an operation out until the message of this number; False if it came through before."""
    try:
        with PgTrickle.connect(proxy.dsn) as engine:
            engine.status()
            proxy.arm(at, answered=answered)
            operation.act(engine)
    except (PgTrickleError, AssertionError):
        assert proxy.cut, "it failed without having been interrupted"
    return proxy.cut


def count(proxy: CuttingProxy, operation: Operation) -> int:
    """How many messages an operation takes."""
    with PgTrickle.connect(proxy.dsn) as engine:
        engine.status()
        proxy.arm(None)
        operation.act(engine)
    return proxy.seen


def assert_recovers(dsn: str, conn: Connection, operation: Operation, seed: int) -> None:
    """Somebody refreshes without knowing of anything, then the operation is done again; nothing is left behind."""
    # Writers never notice.
    world.change(conn, seed + 2, 3)
    with PgTrickle.connect(dsn, plans=PLANS) as engine:
        engine.refresh_all()
        world.change(conn, seed, 3)
        engine.refresh_all()
        if not operation.rests:
            assert world.differences(conn) == []
            if operation.adds is not None:
                assert_follows_if_there(conn, *operation.adds)
        (operation.again or operation.act)(engine)
        world.change(conn, seed + 1, 3)
        engine.refresh_all()
        assert world.differences(conn) == []
        if operation.adds is not None:
            name, query = operation.adds
            assert world.compare(conn, f"public.{name}", query) is None
            assert engine.verify(f"public.{name}").proven is not False
        operation.undo(engine)
        assert world.rubbish(conn) == []
        assert [one for one in engine.doctor() if one.severity != "NOTE"] == []


def assert_follows_if_there(conn: Connection, name: str, query: str) -> None:
    """A stream table that says it is loaded shows one of the queries that it may have by now."""
    row = conn.execute(
        "SELECT canonical_query FROM pgtrickle.stream_tables WHERE table_name = %s AND is_populated", (name,)
    ).fetchone()
    if row is not None:
        assert world.compare(conn, f"public.{name}", row[0]) is None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in OPERATIONS]
)
def test_an_operation_that_is_interrupted_anywhere_is_finished_by_the_next_run(
    name: str, small_world: tuple[str, Connection], request: pytest.FixtureRequest
) -> None:
    dsn, conn = small_world
    operation = OPERATIONS[name]
    with CuttingProxy(dsn) as proxy:
        with PgTrickle.connect(dsn, plans=PLANS) as engine:
            operation.prepare(engine)
        disturb(conn, 1)
        messages = count(proxy, operation)
        assert messages > 0
        with PgTrickle.connect(dsn, plans=PLANS) as engine:
            operation.undo(engine)
        for number, (at, answered) in enumerate(draw(name, messages, request.config, few=2, many=8)):
            with PgTrickle.connect(dsn, plans=PLANS) as engine:
                operation.prepare(engine)
            disturb(conn, 10 * number + 2)
            if interrupted(proxy, operation, at, answered=answered):
                try:
                    assert_recovers(dsn, conn, operation, 10 * number + 3)
                except (AssertionError, PgTrickleError) as error:
                    raise AssertionError(f"interrupted {'after' if answered else 'before'} message {at}") from error
            else:
                with PgTrickle.connect(dsn, plans=PLANS) as engine:
                    operation.undo(engine)
