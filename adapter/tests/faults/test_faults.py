"""Faults under load, one kind at a time: writers and a runner at work, then everything is right without a human."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.faults import faults, world
from tests.support.runners import RunnerProcess

Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.newest_only

#: The rest is tried with --run-slow, and all together by tools/chaos.py.
QUICK = ("terminate_backends", "conflict", "short_timeouts", "forget_runners")


@pytest.fixture(scope="module")
def living(module_db: str) -> Iterator[tuple[str, Connection]]:
    """A world that is refreshed all the time."""
    with psycopg.connect(module_db, autocommit=True) as conn:
        with PgTrickle.connect(module_db) as engine:
            world.create(conn, engine, schedule="continuous")
        yield module_db, conn


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(one, id=one.__name__, marks=() if one.__name__ in QUICK else pytest.mark.slow)
        for one in faults.FAULTS
    ],
)
def test_nothing_is_lost_or_stuck_after_a_fault(fault: faults.Fault, living: tuple[str, Connection]) -> None:
    dsn, conn = living
    with RunnerProcess(dsn) as process:
        process.started()
        harmed = 0
        for seed in range(2):
            worker = threading.Thread(target=world.change, args=(conn, seed, 12))
            worker.start()
            harmed += fault(dsn, random.Random(seed))
            worker.join()
        assert harmed
        world.follow(conn, process)
        assert process.stop() == 0
    with PgTrickle.connect(dsn) as engine:
        assert all(row.status == "ACTIVE" for row in engine.status())
        assert engine.verify("public.totals").proven
        assert engine.verify("public.regions").proven
