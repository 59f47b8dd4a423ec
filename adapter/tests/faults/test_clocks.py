"""Clocks that are set: nothing waits for a time that was, nothing says that it is fresh; we ask no clock of ours."""

from __future__ import annotations

import ast
import glob
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.monitor.health import fetch_health
from tests.conftest import missing_tool
from tests.faults import world
from tests.support import servers
from tests.support.runners import ADAPTER, RunnerProcess, eventually

Connection = psycopg.Connection[Any]

#: Asks for the time of day; ``time.monotonic`` is the only clock of the engine's own.
TIMES_OF_DAY = (
    {
        ("time", name)
        for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "clock_gettime")
    }
    | {("datetime", name) for name in ("now", "utcnow", "today")}
    | {("date", "today"), ("log", "time")}
)


def asked(path: Path) -> Iterator[str]:
    """Where a source file asks for the time of day."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            if (owner, node.attr) in TIMES_OF_DAY:
                yield f"{path.relative_to(ADAPTER)}:{node.lineno}: {owner}.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"{path.name}: {name.name}" for name in node.names if ("time", name.name) in TIMES_OF_DAY)


def test_the_engine_never_asks_the_client_for_the_time_of_day() -> None:
    places = [*(ADAPTER / "pgtrickle").rglob("*.py"), *(ADAPTER / "dbt" / "adapters").rglob("*.py")]
    assert len(places) > 100
    assert [place for path in places for place in asked(path)] == []
    assert list(asked(ADAPTER / "tests" / "faults" / "test_clocks.py")) != []


def library() -> Path | None:
    """The library of libfaketime."""
    places = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime", "/opt/homebrew/lib/faketime")
    found = [path for place in places for path in glob.glob(f"{place}/libfaketime*.so.1")]
    return Path(sorted(found)[0]) if found else None


def environment(place: Path) -> dict[str, str]:
    """Variables of a process whose time of day is off by what a file says."""
    found = library()
    assert found is not None
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(place),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


@pytest.fixture
def clock(place: Path, strict_tools: bool) -> Callable[[str], None]:
    """Set the clock of the processes with `environment(place / "clock")`: ``-2h``, ``+3d``."""
    if library() is None:
        missing_tool("libfaketime", strict=strict_tools)

    def set_to(offset: str) -> None:
        (place / "new").write_text(offset)
        (place / "new").chmod(0o644)
        (place / "new").replace(place / "clock")

    set_to("+0s")
    return set_to


@pytest.fixture
def odd_server(clock: Callable[[str], None], place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Server]:
    """A server whose clock can be set."""
    with monkeypatch.context() as patch:
        for name, value in environment(place / "clock").items():
            patch.setenv(name, value)
        server = servers.start(servers.EMBEDDED_MAJOR)
    yield server
    server.stop()


def ages(conn: Connection) -> dict[str, float | None]:
    return dict(conn.execute("SELECT name, staleness_seconds FROM pgtrickle.stream_table_status").fetchall())


@pytest.mark.slow
@pytest.mark.newest_only
def test_a_server_whose_clock_is_set_back_and_forth_is_followed(
    odd_server: servers.Server, clock: Callable[[str], None]
) -> None:
    dsn = odd_server.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn, PgTrickle.connect(dsn) as engine:
        world.create(conn, engine, schedule="2s")
        with RunnerProcess(dsn) as first, RunnerProcess(dsn) as second:
            first.started()
            second.started()
            for seed, offset in enumerate(("-2h", "+1d", "-3d", "+0s"), start=1):
                before = conn.execute("SELECT clock_timestamp()").fetchone()
                clock(offset)
                after = conn.execute("SELECT clock_timestamp()").fetchone()
                assert before is not None
                assert after is not None
                assert abs(after[0] - before[0]) > timedelta(hours=1)
                world.change(conn, seed)
                world.follow(conn, first)
                eventually(
                    lambda: all(age is not None and -1 < age < 60 for age in ages(conn).values()), "ages are ages"
                )
                eventually(lambda: fetch_health(engine.own_conn).runners == 2, "both are alive")
            # Who dies before the clock is set back leaves leases and signs of life of the future.
            first.kill()
            clock("-2h")
            world.change(conn, 9)
            world.follow(conn, second)
            second.kill()
            clock("-9h")
            assert all(age is None or age > 3600 for age in ages(conn).values())
            assert None in ages(conn).values()
            assert all(row.stale for row in engine.status())
            health = fetch_health(engine.own_conn)
            assert health.runners == 0
            assert "older than its schedule allows" in {problem.text for problem in health.problems}
            with RunnerProcess(dsn) as third:
                third.started()
                world.change(conn, 10)
                world.follow(conn, third)
        world.assert_well(conn, engine)


@pytest.mark.slow
@pytest.mark.newest_only
def test_a_runner_whose_clock_is_wrong_and_is_set_works_as_any_other(
    db: str, conn: Connection, clock: Callable[[str], None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PgTrickle.connect(db) as engine:
        world.create(conn, engine)
        with monkeypatch.context() as patch:
            for name, value in environment(place / "clock").items():
                patch.setenv(name, value)
            clock("-400d")
            runner = RunnerProcess(db)
        with runner:
            runner.started()
            for seed, offset in enumerate(("-400d", "+30d", "-1h"), start=1):
                clock(offset)
                world.change(conn, seed)
                world.follow(conn, runner)
            assert runner.stop() == 0
        off = conn.execute(
            "SELECT count(*) FROM pgtrickle.refresh_history WHERE abs(extract(epoch FROM now() - started_at)) > 3000"
            " OR abs(extract(epoch FROM now() - finished_at)) > 3000"
        ).fetchone()
        assert off == (0,)
        world.assert_well(conn, engine)


@pytest.mark.newest_only
def test_a_daily_refresh_after_the_clock_was_set_back_a_month_does_not_wait_a_month(db: str, conn: Connection) -> None:
    conn.execute("CREATE TABLE t (id int)")
    with PgTrickle.connect(db) as engine:
        engine.install()
        engine.create_stream_table("public.s", "SELECT id FROM t", schedule="@daily")
        conn.execute("INSERT INTO t VALUES (1)")
        conn.execute("UPDATE pgtrickle.frontiers SET last_refresh_at = last_refresh_at + interval '30 days'")
        conn.execute("UPDATE pgtrickle.stream_tables SET retry_at = now() + interval '30 days'")
        assert [row.staleness_seconds for row in engine.status()] == [None]
        with RunnerProcess(db) as runner:
            runner.started()
            eventually(lambda: conn.execute("SELECT id FROM s").fetchall() == [(1,)], "refreshed")
            last = engine.status()[0].last_refresh_at
            assert last is not None
            assert last < datetime.now(timezone.utc) + timedelta(days=1)
            assert runner.stop() == 0
