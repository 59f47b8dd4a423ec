"""A disk that is full in the middle of anything: who needed the space fails; with space again, all goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.conftest import missing_tool
from tests.faults import disks, world
from tests.support import servers
from tests.support.runners import RunnerProcess, eventually

Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.newest_only

DISK_FULL = "53100"
#: Longer than what is free in a file that was written to before.
MANY = "INSERT INTO orders SELECT 100000 + i, i % 5000, i % 90 FROM generate_series(1, 20000) i"
EXTRA = "SELECT id, customer, amount, repeat('x', 200) AS pad FROM orders"


@pytest.fixture
def disk(strict_tools: bool) -> Iterator[disks.Disk]:
    """A file system of 6 MiB."""
    try:
        with disks.mounted(6) as mounted:
            yield mounted
    except disks.NoDisk as error:
        missing_tool(str(error), strict=strict_tools)


@pytest.fixture
def small(disk: disks.Disk) -> Iterator[tuple[str, disks.Disk]]:
    """A server of its own with a world, and a tablespace ``small`` on the disk."""
    server = servers.start(servers.EMBEDDED_MAJOR)
    try:
        with server.connect() as conn, PgTrickle.connect(server.dsn()) as engine:
            world.create(conn, engine)
            conn.execute(SQL("CREATE TABLESPACE small LOCATION {}").format(str(disk.place)))
        yield server.dsn(), disk
    finally:
        server.stop()


def move(conn: Connection, condition: str) -> None:
    """Move tables to the small disk."""
    found = conn.execute(
        "SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'i') AND c.oid >= 16384 AND ({condition})".encode()
    ).fetchall()
    assert found
    for schema, name, kind in found:
        statement = "ALTER INDEX {} SET TABLESPACE small" if kind == "i" else "ALTER TABLE {} SET TABLESPACE small"
        conn.execute(SQL(statement).format(Identifier(schema, name)))


@pytest.mark.slow
def test_a_writer_that_finds_no_space_in_a_change_buffer_fails_as_a_whole_and_later_does_not(
    small: tuple[str, disks.Disk],
) -> None:
    dsn, disk = small
    with psycopg.connect(dsn, autocommit=True) as conn, RunnerProcess(dsn) as runner:
        runner.started()
        world.follow(conn, runner)
        move(conn, "n.nspname = 'pgtrickle_changes'")
        disk.fill()
        before = conn.execute("SELECT count(*) FROM orders").fetchone()
        with pytest.raises(psycopg.errors.DiskFull):
            conn.execute(MANY)
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == before
        world.follow(conn, runner)
        disk.free()
        conn.execute(MANY)
        world.change(conn, 2)
        world.follow(conn, runner)
        # What was consumed is trimmed, and its space used again: more than the disk could ever hold.
        for number in range(12):
            conn.execute("UPDATE orders SET amount = amount + 1 WHERE id > 100000 AND id %% 5 = %s", (number % 5,))
            world.follow(conn, runner)
        assert runner.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("what", ["n.nspname = 'pgtrickle_state'", "c.relname ~ '^totals|^large|^regions'"])
def test_a_refresh_that_finds_no_space_is_done_when_there_is_some(small: tuple[str, disks.Disk], what: str) -> None:
    dsn, disk = small
    with psycopg.connect(dsn, autocommit=True) as conn, RunnerProcess(dsn) as runner:
        runner.started()
        world.follow(conn, runner)
        move(conn, what)
        disk.fill()
        conn.execute(MANY)
        history = "SELECT count(*) > 3 FROM pgtrickle.refresh_history WHERE error ->> 'message' LIKE '%No space left%'"
        eventually(lambda: conn.execute(history).fetchone() == (True,), "it failed for want of space", seconds=15)
        told = conn.execute("SELECT last_error FROM pgtrickle.stream_table_status WHERE errors > 0").fetchall()
        assert all("No space left" in message for (message,) in told)
        assert told != []
        assert conn.execute("SELECT status FROM pgtrickle.stream_tables WHERE status <> 'ACTIVE'").fetchall() == []
        disk.free()
        world.change(conn, 2)
        world.follow(conn, runner)
        assert runner.stop() == 0


@pytest.mark.slow
def test_what_is_created_where_no_space_is_leaves_nothing_behind(small: tuple[str, disks.Disk]) -> None:
    dsn, disk = small
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(MANY)
        conn.execute("ALTER DATABASE postgres SET default_tablespace = 'small'")
        with PgTrickle.connect(dsn) as engine:
            engine.refresh_all()
            for left in (0, 8192, 1 << 16, 1 << 19, 1 << 20):
                disk.free()
                disk.fill(left)
                with pytest.raises(PgTrickleError) as raised:
                    engine.create_stream_table("public.extra", EXTRA)
                assert raised.value.sqlstate == DISK_FULL
                assert world.rubbish(conn) == []
                assert engine.status("public.totals")[0].status == "ACTIVE"
                with pytest.raises(PgTrickleError):
                    engine.status("public.extra")
            disk.free()
            engine.create_stream_table("public.extra", EXTRA.replace("200", "1"))
            disk.fill(1 << 17)
            with pytest.raises(PgTrickleError) as raised:
                engine.alter_stream_table("public.extra", query=EXTRA)
            assert raised.value.sqlstate == DISK_FULL
            assert world.compare(conn, "public.extra", EXTRA.replace("200", "1")) is None
            disk.free()
            engine.drop_stream_table("public.extra")
            world.assert_well(conn, engine)


@pytest.mark.slow
def test_a_server_whose_disk_is_full_comes_back_with_space_and_nothing_is_missing(strict_tools: bool) -> None:
    try:
        with disks.mounted(160) as disk:
            server = servers.start(
                servers.EMBEDDED_MAJOR,
                data=disk.place / "data",
                settings={"max_wal_size": "48MB", "min_wal_size": "32MB", "shared_buffers": "16MB"},
            )
            try:
                _fill_up(server, disk)
            finally:
                server.stop()
    except disks.NoDisk as error:
        missing_tool(str(error), strict=strict_tools)


def _fill_up(server: servers.Server, disk: disks.Disk) -> None:
    dsn = server.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        world.create(conn, engine)
    with RunnerProcess(dsn) as runner:
        runner.started()
        for seed in range(3):
            with pytest.raises(psycopg.Error):
                _write_until_it_fails(dsn, disk, seed)
            disk.free()
            if server.process is not None and server.process.poll() is not None:
                # Write-ahead log without space ends the server; whatever starts services starts it again.
                server.restart()
            with eventually(lambda: _connected(dsn), "the server is back") as conn:
                conn.execute("DELETE FROM orders WHERE id > 100000")
                world.change(conn, 7 + seed)
                world.follow(conn, runner)
        assert runner.stop() == 0


def _write_until_it_fails(dsn: str, disk: disks.Disk, seed: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for number in range(300):
            disk.fill()
            world.change(conn, seed * 1000 + number)
            conn.execute(
                "INSERT INTO orders SELECT 100000 + %s + i, i %% 50, i %% 90 FROM generate_series(1, 3000) i",
                (number * 3000 + seed * 10**6,),
            )


def _connected(dsn: str) -> Connection | None:
    try:
        return psycopg.connect(dsn, autocommit=True)
    except psycopg.OperationalError:
        return None
