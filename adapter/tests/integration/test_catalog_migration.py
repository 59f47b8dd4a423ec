"""Migrating a catalog that is in use: runners, writers, several who migrate, and one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle import db as engine_db
from pgtrickle.api import PgTrickle
from pgtrickle.catalog import installation
from pgtrickle.errors import CatalogError
from tests.support.catalogs import restore
from tests.support.runners import ADAPTER, RunnerProcess, eventually

pytestmark = pytest.mark.newest_only

LATEST = installation.known_version()


def migrate_to_the_future(conn: psycopg.Connection[Any]) -> None:
    conn.execute("INSERT INTO pgtrickle.schema_migrations (version, name) VALUES (%s, 'of the future')", (LATEST + 1,))


def version(conn: psycopg.Connection[Any]) -> int:
    return (conn.execute("SELECT max(version) FROM pgtrickle.schema_migrations").fetchone() or (0,))[0]


def test_a_runner_whose_catalog_is_migrated_stops_with_a_message_and_touches_nothing(
    conn: psycopg.Connection[Any], engine: PgTrickle, db: str
) -> None:
    conn.execute("CREATE TABLE t (k int, v int)")
    for number in range(5):
        engine.create_stream_table(f"s{number}", "SELECT k, sum(v) AS v FROM t GROUP BY k", "continuous")
    with RunnerProcess(db, "--workers", "2") as runner:
        runner.started()
        conn.execute("INSERT INTO t VALUES (1, 1)")
        eventually(lambda: conn.execute("SELECT v FROM s4").fetchone())
        with conn.transaction():
            migrate_to_the_future(conn)
            conn.execute("INSERT INTO t VALUES (2, 2)")
        assert runner.end() == 1
        said = runner.said()
        assert f"the catalog has version {LATEST + 1}, this engine knows {LATEST}" in said
        assert "Upgrade dbt-pgtrickle" in said
        assert runner.named("runner_stopped")
        assert not runner.named("refresh_failed")
    assert conn.execute("SELECT count(*) FROM s0").fetchone() == (1,)
    assert conn.execute("SELECT sum(consecutive_errors) FROM pgtrickle.stream_tables").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM pgtrickle.refresh_history WHERE action = 'FAILED'").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM pgtrickle.runners").fetchone() == (0,)


def test_whoever_works_already_when_the_catalog_is_migrated_is_refused(
    conn: psycopg.Connection[Any], engine: PgTrickle
) -> None:
    conn.execute("CREATE TABLE t (k int)")
    engine.create_stream_table("s", "SELECT k FROM t")
    engine.refresh_stream_table("s")
    migrate_to_the_future(conn)
    conn.execute("INSERT INTO t VALUES (1)")
    relid = engine.status("s")[0].relid
    for call in (
        lambda: engine.refresh_stream_table("s"),
        lambda: engine.refresh_all(),
        lambda: engine.refresh_due([relid]),
        lambda: engine.verify("s"),
        lambda: engine.create_stream_table("u", "SELECT k FROM t"),
        lambda: engine.create_or_replace_stream_table("s", "SELECT k + 1 AS k FROM t"),
        lambda: engine.suspend("s"),
        lambda: engine.drop_stream_table("s"),
        lambda: engine.install(),
    ):
        with pytest.raises(CatalogError, match=f"the catalog has version {LATEST + 1}") as caught:
            call()
        assert "Upgrade" in (caught.value.hint or "")
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (0,)


def test_engines_that_do_not_ask_are_refused_too(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    assert engine.status() == ()
    with pytest.raises(psycopg.Error, match=f"the catalog has version {LATEST}, this engine is older"):
        conn.execute("SELECT * FROM pgtrickle.refresh_group(%s::oid[])", ([1],))


def test_what_is_written_during_a_migration_is_captured(conn: psycopg.Connection[Any], db: str) -> None:
    restore(conn, LATEST - 1)
    over = threading.Event()

    def write(number: int) -> int:
        written = 0
        with psycopg.connect(db, autocommit=True) as writer:
            while written < 20 or not over.is_set():
                written += 1
                writer.execute("INSERT INTO customer VALUES (%s, 'n', 'r')", (number * 1_000_000 + written,))
        return written

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in (1, 2, 3)]
        # Not by the engine, which would find that the database was restored, and empty the change buffers.
        with engine_db.connect(db) as migrating:
            assert len(installation.install(migrating)) == 1
        over.set()
        written = sum(writer.result(timeout=60) for writer in writers)
    found = conn.execute("SELECT 'b_' || id FROM pgtrickle.sources WHERE table_name = 'customer'").fetchone()
    assert found is not None
    count = SQL("SELECT count(*) FROM {}").format(Identifier("pgtrickle_changes", found[0]))
    assert conn.execute(count).fetchone() == (written,)


def test_a_migration_does_not_make_others_wait_for_who_holds_it_up(conn: psycopg.Connection[Any], db: str) -> None:
    restore(conn, LATEST - 1)
    with PgTrickle.connect(db) as engine, ThreadPoolExecutor(1) as pool, psycopg.connect(db) as holder:
        holder.execute("LOCK TABLE pgtrickle.schema_migrations IN SHARE MODE")
        migration = pool.submit(engine.install)
        for _ in range(20):
            conn.execute("SET statement_timeout = '5s'")
            conn.execute("SELECT count(*) FROM pgtrickle.stream_table_status")
        assert not migration.done()
        assert version(conn) == LATEST - 1
        holder.commit()
        assert len(migration.result(timeout=60)) == 1
    assert version(conn) == LATEST


def test_two_migrations_at_once_are_one(conn: psycopg.Connection[Any], db: str) -> None:
    restore(conn, 1)

    def migrate(_: int) -> int:
        with PgTrickle.connect(db) as engine:
            return len(engine.install())

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(migrate, range(3))) == [0, 0, LATEST - 1]
    assert version(conn) == LATEST


def test_a_migration_that_is_killed_leaves_the_old_catalog(conn: psycopg.Connection[Any], db: str) -> None:
    restore(conn, 1)
    before = conn.execute("SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgtrickle'::regnamespace").fetchone()
    with psycopg.connect(db) as holder:
        # Writing down the last step has to wait: all others are done by then.
        holder.execute("LOCK TABLE pgtrickle.schema_migrations IN SHARE MODE")
        process = subprocess.Popen(
            [sys.executable, "-m", "pgtrickle", "init", "--dsn", db],
            env={**os.environ, "PYTHONPATH": str(ADAPTER)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        eventually(lambda: conn.execute(waiting).fetchone())
        process.kill()
        process.wait(timeout=60)
        holder.rollback()
    eventually(lambda: not conn.execute(waiting).fetchone())
    assert version(conn) == 1
    after = conn.execute("SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgtrickle'::regnamespace").fetchone()
    assert after == before
    with PgTrickle.connect(db) as engine:
        assert len(engine.install()) == LATEST - 1
        assert {result.action for result in engine.refresh_all()} == {"FULL"}
