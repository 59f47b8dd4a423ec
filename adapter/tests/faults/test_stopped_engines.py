"""An engine that is stopped in the middle of a refresh holds its locks for a minute: then it is the turn of others."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.faults import world
from tests.support.proxy import CuttingProxy
from tests.support.runners import ADAPTER, RunnerProcess, eventually

Connection = psycopg.Connection[Any]

pytestmark = [pytest.mark.slow, pytest.mark.edges_only]

#: The engine's own limit, and what a busy machine needs besides.
SECONDS = 120
IN_THE_MIDDLE = """
SELECT a.pid FROM pg_stat_activity a JOIN pg_locks l USING (pid)
WHERE l.relation = 'pgtrickle.frontiers'::regclass AND l.mode = 'RowShareLock' AND a.state = 'idle in transaction'
"""


def test_a_refresh_that_is_stopped_in_the_middle_is_ended_by_the_server_and_done_by_others(
    db: str, conn: Connection
) -> None:
    with PgTrickle.connect(db) as engine:
        world.create(conn, engine, schedule="1s")
    world.change(conn, 1)
    held, passes = threading.Event(), threading.Event()
    with psycopg.connect(db, autocommit=True) as looking, CuttingProxy(db) as proxy:

        def watch() -> None:
            if not held.is_set() and looking.execute(IN_THE_MIDDLE).fetchone() is not None:
                held.set()
                passes.wait()

        proxy.watch = watch
        command = [sys.executable, "-m", "pgtrickle", "refresh", "--all", "--dsn", proxy.dsn]
        stopped = subprocess.Popen(command, env={"PYTHONPATH": str(ADAPTER)}, stdout=subprocess.DEVNULL)
        try:
            assert held.wait(60)
            stopped.send_signal(signal.SIGSTOP)
            assert conn.execute(IN_THE_MIDDLE).fetchone() is not None
            with RunnerProcess(db) as runner:
                runner.started()
                world.change(conn, 2)
                eventually(lambda: conn.execute(IN_THE_MIDDLE).fetchone() is None, seconds=SECONDS)
                world.follow(conn, runner)
                stopped.send_signal(signal.SIGCONT)
                passes.set()
                assert stopped.wait(60) != 0
                world.change(conn, 3)
                world.follow(conn, runner)
                assert runner.stop() == 0
        finally:
            passes.set()
            stopped.kill()
            stopped.wait()
    with PgTrickle.connect(db) as engine:
        world.assert_well(conn, engine)
