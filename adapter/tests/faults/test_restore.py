"""Copies of a database: what the catalog knows is of another one; everything is found by name again and recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgtrickle.api import PgTrickle
from pgtrickle.errors import CatalogError, PgTrickleError
from pgtrickle.monitor.health import fetch_health
from tests.faults import copies, world
from tests.support.programs import run
from tests.support.runners import RunnerProcess

Connection = psycopg.Connection[Any]

pytestmark = [pytest.mark.newest_only, pytest.mark.usefixtures("client_programs")]

#: The rest is tried with --run-slow.
QUICK = ("custom", "without_our_tables")


def live(dsn: str) -> None:
    """Build the world, with changes that no refresh has seen, and leave it."""
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        world.create(conn, engine)
        world.change(conn, 1)
        engine.refresh_all()
        world.change(conn, 2)


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(copy, id=copy.__name__, marks=() if copy.__name__ in QUICK else pytest.mark.slow)
        for copy in copies.COPIES
    ],
)
def test_a_copy_recovers_with_its_first_refresh(copy: copies.Copy, db: str, target: str, place: Path) -> None:
    live(db)
    with psycopg.connect(target, autocommit=True) as conn:
        # Other OIDs than in the source.
        conn.execute("CREATE TABLE stranger (id int)")
    copy(db, target, place)
    with psycopg.connect(target, autocommit=True) as conn, PgTrickle.connect(target) as engine:
        # Applications may be faster than any runner.
        world.change(conn, 3)
        assert "restored or copied" in fetch_health(engine.own_conn).problems[0].text
        assert engine.status("public.totals")[0].is_populated
        assert {problem.hint for problem in fetch_health(engine.own_conn).problems} >= {
            "pgtrickle refresh public.totals"
        }
        world.assert_well(conn, engine)
        assert [problem.object_name for problem in fetch_health(engine.own_conn).problems] == ["runner"]


@pytest.mark.slow
def test_a_runner_recovers_a_copy_by_itself(db: str, target: str, place: Path) -> None:
    live(db)
    copies.custom(db, target, place)
    with RunnerProcess(target) as process, psycopg.connect(target, autocommit=True) as conn:
        process.started()
        world.change(conn, 3)
        world.follow(conn, process)
        assert process.stop() == 0


def test_what_was_renamed_before_the_dump_is_found_by_what_hangs_on_it(db: str, target: str, place: Path) -> None:
    live(db)
    with psycopg.connect(db, autocommit=True) as conn:
        conn.execute("ALTER TABLE notes RENAME TO remarks")
        conn.execute("CREATE SCHEMA archive")
        conn.execute("ALTER TABLE said SET SCHEMA archive")
        conn.execute("CREATE TABLE said (id int)")
        conn.execute("INSERT INTO said VALUES (1)")
    copies.custom(db, target, place)
    with psycopg.connect(target, autocommit=True) as conn, PgTrickle.connect(target) as engine:
        engine.refresh_all()
        query = world.QUERIES["said"].replace("notes", "remarks")
        assert world.compare(conn, "archive.said", query) is None
        assert conn.execute("SELECT id FROM said").fetchall() == [(1,)]
        conn.execute("INSERT INTO remarks VALUES (1, 'new')")
        assert engine.refresh_stream_table("archive.said").action == "DIFFERENTIAL"
        assert world.compare(conn, "archive.said", query) is None


def test_what_is_missing_in_a_copy_stops_only_what_reads_it(db: str, target: str, place: Path) -> None:
    live(db)
    run("pg_dump", "-Fc", "--exclude-table=public.notes", "-f", str(place / "dump"), dsn=db)
    run("pg_restore", "-d", copies._name(target), str(place / "dump"), dsn=target)
    with psycopg.connect(target, autocommit=True) as conn, PgTrickle.connect(target) as engine:
        failed = {result.name for result in engine.refresh_all() if result.action == "FAILED"}
        assert failed == {"public.said"}
        assert conn.execute("SELECT count(*) > 0 FROM said").fetchone() == (True,)
        conn.execute("CREATE TABLE notes (customer int, words text)")
        engine.resume("public.said")
        world.assert_well(conn, engine)


def test_a_dump_restored_into_its_own_database_under_a_runner(db: str, place: Path) -> None:
    live(db)
    run("pg_dump", "-Fc", "-f", str(place / "dump"), dsn=db)
    with RunnerProcess(db) as process, psycopg.connect(db, autocommit=True) as conn:
        process.started()
        world.change(conn, 3)
        world.follow(conn, process)
        arguments = ("--clean", "--if-exists", "--single-transaction")
        run("pg_restore", "-d", copies._name(db), *arguments, str(place / "dump"), dsn=db)
        world.change(conn, 4)
        world.follow(conn, process)
        assert process.stop() == 0


def test_nobody_touches_a_database_that_is_being_restored(db: str, target: str, place: Path) -> None:
    live(db)
    run("pg_dump", "-Fc", "-f", str(place / "dump"), dsn=db)
    for section in ("pre-data", "data"):
        run("pg_restore", "-d", copies._name(target), f"--section={section}", str(place / "dump"), dsn=target)
    with PgTrickle.connect(target) as engine, pytest.raises(PgTrickleError, match="being restored"):
        engine.refresh_all()
    with RunnerProcess(target) as process, psycopg.connect(target, autocommit=True) as conn:
        process.wait_for("waiting_for_server")
        run("pg_restore", "-d", copies._name(target), "--section=post-data", str(place / "dump"), dsn=target)
        process.started()
        world.follow(conn, process)
        assert process.stop() == 0


def test_a_stream_table_without_its_guard_is_not_taken_for_ours(db: str, target: str, place: Path) -> None:
    live(db)
    run("pg_dump", "-Fc", *(f"-n{name}" for name in ("pgtrickle", *copies.OURS)), "-f", str(place / "dump"), dsn=db)
    with psycopg.connect(target, autocommit=True) as conn, PgTrickle.connect(target) as engine:
        world.create_sources(conn)
        conn.execute("CREATE TABLE totals (customer int, n bigint, total numeric)")
        conn.execute("INSERT INTO totals VALUES (1, 1, 1)")
        run("pg_restore", "-d", copies._name(target), str(place / "dump"), dsn=target)
        results = {result.name: result for result in engine.refresh_all()}
        assert results["public.totals"].action == "FAILED"
        assert conn.execute("SELECT * FROM totals").fetchall() == [(1, 1, 1)]


@pytest.mark.parametrize("without", ["--schema-only", "--exclude-table-data=pgtrickle*.*"])
def test_a_catalog_without_rows_explains_itself_and_begins_anew(
    without: str, db: str, target: str, place: Path
) -> None:
    with psycopg.connect(db, autocommit=True) as conn, PgTrickle.connect(db) as engine:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
        engine.install()
        engine.create_stream_table("s", "SELECT v, count(*) AS n FROM t GROUP BY v")
        engine.create_stream_table("above", "SELECT n FROM s")
    run("pg_dump", "-Fc", without, "-f", str(place / "dump"), dsn=db)
    run("pg_restore", "-d", str(conninfo_to_dict(target)["dbname"]), str(place / "dump"), dsn=target)
    with psycopg.connect(target, autocommit=True) as conn, PgTrickle.connect(target) as engine:
        conn.execute("INSERT INTO t VALUES (2, 2)")
        kept = conn.execute("SELECT * FROM s").fetchall()
        for call in (engine.doctor, engine.status, engine.refresh_all, lambda: engine.refresh_stream_table("s")):
            with pytest.raises(CatalogError, match="has lost its rows") as caught:
                call()
            assert "pgtrickle init" in (caught.value.hint or "")
        assert engine.install()
        assert engine.doctor() == ()
        assert conn.execute("SELECT * FROM s").fetchall() == kept
        assert conn.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").fetchone() == (0,)
        conn.execute("UPDATE s SET n = n; DROP TABLE s, above")
        engine.create_stream_table("s", "SELECT v, count(*) AS n FROM t GROUP BY v")
        conn.execute("INSERT INTO t VALUES (3, 2)")
        assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
        assert engine.verify("s").proven
        conn.execute("DELETE FROM pgtrickle.schema_migrations; DELETE FROM pgtrickle.installation")
        with pytest.raises(CatalogError):
            engine.doctor()
        assert engine.install() == ()
        assert engine.doctor() == ()
        assert engine.verify("s").proven
