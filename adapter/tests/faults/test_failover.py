"""Other servers: a standby that is promoted, an older backup, a new major version."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.conftest import missing_tool
from tests.faults import world
from tests.support import programs, servers
from tests.support.runners import RunnerProcess, eventually

Connection = psycopg.Connection[Any]

pytestmark = [pytest.mark.newest_only, pytest.mark.usefixtures("client_programs")]

REPLICATED = {"wal_level": "logical", "hot_standby": "on", "max_wal_senders": "5"}


@pytest.fixture
def primary() -> Iterator[servers.Server]:
    """A server with a world on it."""
    server = servers.start(servers.EMBEDDED_MAJOR, settings=REPLICATED)
    with server.connect() as conn, PgTrickle.connect(server.dsn()) as engine:
        world.create(conn, engine)
        world.change(conn, 1)
        engine.refresh_all()
    yield server
    server.stop()


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory of the servers' user, for a second data directory."""
    with tempfile.TemporaryDirectory(prefix="pgt") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def copy_of(server: servers.Server, data: Path, *arguments: str) -> None:
    """A physical copy of a running server."""
    programs.run("pg_basebackup", "-D", str(data), "--checkpoint=fast", "--no-sync", *arguments, dsn=server.dsn())


def several(first: servers.Server, second: servers.Server) -> str:
    """A connection string that names both."""
    return f"host=127.0.0.1,127.0.0.1 port={first.port},{second.port} user=postgres dbname=postgres"


#: A refresh waits in this function for as long as somebody holds the advisory lock.
GATE = (
    "CREATE FUNCTION gate(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
    " 'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN $1; END'"
)
GATED = "SELECT id, public.gate(customer) AS customer FROM orders"


def test_runners_follow_a_failover_in_the_middle_of_a_refresh_and_lost_transactions_do_not_matter(
    primary: servers.Server, elsewhere: Path
) -> None:
    with primary.connect() as conn, PgTrickle.connect(primary.dsn()) as engine:
        conn.execute(GATE)
        engine.create_stream_table("public.gated", GATED, schedule="1s")
    copy_of(primary, elsewhere / "standby", "--write-recovery-conf")
    standby = servers.start(servers.EMBEDDED_MAJOR, data=elsewhere / "standby", settings=REPLICATED)
    try:
        with RunnerProcess(standby.dsn()) as lonely:
            assert "standby" in lonely.wait_for("waiting_for_server")["message"]
            assert lonely.stop() == 0
        chosen = f"{several(primary, standby)} target_session_attrs=read-write"
        with RunnerProcess(several(primary, standby)) as process, RunnerProcess(chosen) as other:
            process.started()
            other.started()
            with primary.connect() as conn:
                world.change(conn, 2)
                world.follow(conn, process)
                lsn = conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            with standby.connect() as conn:
                arrived = "SELECT pg_last_wal_replay_lsn() >= %s"
                eventually(lambda: conn.execute(arrived, lsn).fetchone() == (True,), "the standby has it all")
                # What reads UNLOGGED tables cannot be compared there.
                shown = {name: query for name, query in world.QUERIES.items() if name != "lost"}
                assert not any(world.compare(conn, f"public.{name}", query) for name, query in shown.items())
                conn.execute("SELECT pg_wal_replay_pause()")
            with primary.connect() as conn:
                # The standby never replays what follows, though the runner has worked on it.
                world.change(conn, 3)
                world.follow(conn, process)
                conn.execute("SELECT pg_advisory_lock(42)")
                conn.execute("INSERT INTO orders VALUES (-1, 1, 1)")
                waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                eventually(lambda: conn.execute(waiting).fetchone() == (1,), "a refresh is in the middle")
                primary.crash()
            with standby.connect() as conn:
                conn.execute("SELECT pg_promote(false)")
                conn.execute("SELECT pg_wal_replay_resume()")
                eventually(lambda: conn.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,), "promoted")
                world.change(conn, 4)
                process.wait_for("reconnected")
                other.wait_for("reconnected")
                world.follow(conn, process)
                eventually(lambda: world.compare(conn, "public.gated", GATED) is None, "gated follows")
                assert process.stop() == 0
                world.change(conn, 5)
                world.follow(conn, other)
                with PgTrickle.connect(several(primary, standby)) as engine:
                    world.assert_well(conn, engine, proofs=False)
            assert other.stop() == 0
    finally:
        standby.stop()


@pytest.mark.slow
def test_an_older_backup_in_place_of_the_server_is_as_good_as_new(primary: servers.Server, elsewhere: Path) -> None:
    """Transaction ids go back, versions of definitions come again, and a process remembers both."""
    with RunnerProcess(primary.dsn()) as process:
        process.started()
        copy_of(primary, elsewhere / "backup")
        with primary.connect() as conn, PgTrickle.connect(primary.dsn()) as engine:
            conn.execute("ALTER TABLE orders ADD COLUMN extra int DEFAULT 1")
            query = world.QUERIES["totals"].replace("count(*)", "count(extra)")
            engine.alter_stream_table("public.totals", query=query)
            for seed in range(2, 6):
                world.change(conn, seed)
            engine.refresh_all()
        primary.crash()
        shutil.rmtree(primary.data)
        shutil.move(elsewhere / "backup", primary.data)
        primary.restart()
        with primary.connect() as conn, PgTrickle.connect(primary.dsn()) as engine:
            world.change(conn, 6)
            process.wait_for("reconnected")
            world.follow(conn, process)
            query = world.QUERIES["totals"].replace("count(*)", "count(amount)")
            engine.alter_stream_table("public.totals", query=query)
            world.change(conn, 7)
            engine.refresh_all()
            assert world.compare(conn, "public.totals", query) is None
            engine.alter_stream_table("public.totals", query=world.QUERIES["totals"])
            world.assert_well(conn, engine, proofs=False)
        assert process.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("before", [15, 18])
def test_after_pg_upgrade_everything_is_recomputed_once(before: int, elsewhere: Path, strict_tools: bool) -> None:
    try:
        programs.program("pg_upgrade", before)
        server = servers.start(before, data=elsewhere / "old")
    except (programs.ProgramMissing, servers.ServerUnavailable) as error:
        missing_tool(str(error), strict=strict_tools)
    try:
        with server.connect() as conn, PgTrickle.connect(server.dsn()) as engine:
            world.create(conn, engine)
            world.change(conn, 1)
            engine.refresh_all()
            world.change(conn, 2)
    finally:
        server.stop()
    options = ["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-A", "trust"]
    # The default changed with 18.
    checksums = ["--no-data-checksums"] if before < 18 else []
    programs.run("initdb", "-D", str(elsewhere / "new"), *options, *checksums)
    bins = [str(programs.program("pg_upgrade", major).parent) for major in (before, 18)]
    data = ["-d", str(elsewhere / "old"), "-D", str(elsewhere / "new"), "-s", str(elsewhere)]
    names = ["-U", "postgres", "-b", bins[0], "-B", bins[1]]
    programs.run("pg_upgrade", *names, *data, "--no-sync", place=str(elsewhere))
    server = servers.start(18, data=elsewhere / "new")
    try:
        with server.connect() as conn, PgTrickle.connect(server.dsn()) as engine:
            world.change(conn, 3)
            world.assert_well(conn, engine)
    finally:
        server.stop()
