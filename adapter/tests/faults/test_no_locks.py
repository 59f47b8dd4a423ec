"""A server that has no room for another lock while definitions are compiled: that is not the query's fault."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import InvalidQuery, PgTrickleError, UnsupportedQuery
from tests.faults import world
from tests.support.runners import RunnerProcess

Connection = psycopg.Connection[Any]

pytestmark = [pytest.mark.slow, pytest.mark.newest_only]

QUERY = "SELECT o.id, o.customer, c.region FROM orders o JOIN customers c ON c.id = o.customer"
STEP = 200


def use_up(conn: Connection) -> int:
    """Take advisory locks until there is no room for another one; how many."""
    taken = 0
    while True:
        try:
            conn.execute(
                "SELECT pg_advisory_lock(g) FROM generate_series(%s::int, %s::int) g", (taken, taken + STEP - 1)
            )
        except psycopg.errors.OutOfMemory:
            break
        taken += STEP
    while True:
        try:
            conn.execute("SELECT pg_advisory_lock(%s)", (taken,))
        except psycopg.errors.OutOfMemory:
            return taken
        taken += 1


def test_a_definition_that_finds_no_room_for_locks_is_neither_refused_nor_computed_in_full_for_good(
    db: str, conn: Connection
) -> None:
    world.create_sources(conn)
    errors, made = list[PgTrickleError](), 0
    with PgTrickle.connect(db) as engine, psycopg.connect(db, autocommit=True) as eater:
        engine.install()
        for room in (4, 12, 30, 300):
            taken = use_up(eater)
            eater.execute(
                "SELECT pg_advisory_unlock(g) FROM generate_series(%s::int, %s::int) g", (taken - room, taken)
            )
            try:
                created = engine.create_stream_table("public.extra", QUERY)
            except PgTrickleError as error:
                errors.append(error)
            else:
                assert created.effective_mode == "DIFFERENTIAL", (room, created.mode_reason)
                made += 1
            eater.execute("SELECT pg_advisory_unlock_all()")
            engine.drop_stream_table("public.extra", if_exists=True)
            assert world.rubbish(conn) == [], room
    assert [error for error in errors if isinstance(error, (InvalidQuery, UnsupportedQuery))] == []
    assert errors
    assert made


def test_a_runner_that_comes_when_there_is_no_room_for_locks_suspends_nothing(db: str, conn: Connection) -> None:
    with PgTrickle.connect(db) as engine:
        world.create(conn, engine, schedule="1s")
    with psycopg.connect(db, autocommit=True) as eater, RunnerProcess(db) as runner:
        taken = use_up(eater)
        eater.execute("SELECT pg_advisory_unlock(g) FROM generate_series(%s::int, %s::int) g", (taken - 40, taken))
        errors = "SELECT count(*) FROM pgtrickle.stream_tables WHERE consecutive_errors > 3"
        for seed in range(30):
            with contextlib.suppress(psycopg.errors.OutOfMemory):
                eater.execute("UPDATE notes SET words = words || %s WHERE customer = 1", (str(seed),))
                eater.execute("UPDATE orders SET amount = amount + 1 WHERE id = 1")
                if eater.execute(errors).fetchone() != (0,):
                    break
            time.sleep(0.5)
        eater.execute("SELECT pg_advisory_unlock_all()")
        world.follow(conn, runner)
        assert conn.execute("SELECT DISTINCT status FROM pgtrickle.stream_tables").fetchall() == [("ACTIVE",)]
        modes = "SELECT table_name, effective_mode FROM pgtrickle.stream_tables"
        assert dict(conn.execute(modes).fetchall()) == {name: mode for name, (_, mode) in world.STREAM_TABLES.items()}
