"""A slow line between engine and server: everything is right, and few messages go to and fro."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.faults import world
from tests.support.proxy import CuttingProxy
from tests.support.runners import RunnerProcess

pytestmark = pytest.mark.newest_only

User = psycopg.Connection[Any]

SECONDS = 0.02


@pytest.mark.slow
def test_over_a_slow_line_a_runner_follows_and_whoever_asks_gets_answers(db: str, conn: User) -> None:
    with PgTrickle.connect(db) as engine:
        world.create(conn, engine, schedule="continuous")
    with CuttingProxy(db) as proxy:
        proxy.watch = lambda: time.sleep(SECONDS)
        with RunnerProcess(proxy.dsn) as runner:
            runner.started()
            for seed in range(10):
                world.change(conn, seed)
            world.follow(conn, runner)
            assert runner.named("failed") == runner.named("connection_lost") == runner.named("job_failed") == []
            assert runner.stop() == 0
        with PgTrickle.connect(proxy.dsn) as engine:
            assert engine.verify("public.totals").proven
            engine.create_stream_table("public.extra", "SELECT id, customer FROM orders")
            engine.create_or_replace_stream_table("public.extra", "SELECT id, customer, amount FROM orders")
            assert world.compare(conn, "public.extra", "SELECT id, customer, amount FROM orders") is None
            engine.drop_stream_table("public.extra")
            assert engine.doctor() == ()
    assert world.rubbish(conn) == []


def test_messages_do_not_become_more(db: str, conn: User) -> None:
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int)")
    with PgTrickle.connect(db) as engine:
        engine.install()
        engine.create_stream_table("s", "SELECT k, count(*) AS n FROM t GROUP BY k")
    with CuttingProxy(db) as proxy, PgTrickle.connect(proxy.dsn) as engine:

        def messages(work: Callable[[], object]) -> int:
            proxy.arm(None)
            work()
            return proxy.seen

        for number in range(3):
            conn.execute("INSERT INTO t VALUES (%s, 1)", (number,))
            engine.refresh_stream_table("s")
        conn.execute("INSERT INTO t VALUES (4, 1)")
        assert messages(lambda: engine.refresh_stream_table("s")) <= 5
        assert messages(engine.status) <= 5
        assert messages(lambda: engine.verify("s")) <= 10
        # All checks are one message, but for those of the one source.
        assert messages(engine.doctor) <= 30
