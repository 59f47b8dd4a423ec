"""The suite's own server: one per checkout, shared by runs at the same time, its data kept for the next run."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo

from tests.support import servers

HOME = servers.ROOT / ".dev" / "benchmarks"
SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "2GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "effective_cache_size": "8GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "random_page_cost": "1.1",
    "autovacuum": "off",
    "max_connections": "200",
    "max_locks_per_transaction": "1024",
}
"""Commits are real. Autovacuum would come at random between two repeats: the suite vacuums between change rates."""


@contextmanager
def server(dsn: str | None, home: Path = HOME) -> Iterator[str]:
    """A connection string of a server to measure on; ours is stopped when its last user ends.

    Args:
        dsn: somebody's server; None: our own, with `SETTINGS`.
        home: where our own keeps its data.
    """
    if dsn is not None:
        yield dsn
        return
    home.mkdir(parents=True, exist_ok=True)
    data = home / f"data{servers.EMBEDDED_MAJOR}"
    with (home / "users.lock").open("a+") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with (home / "start.lock").open("a+") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            found = _running(data) or _start(data, _settings(home))
        try:
            yield found
        finally:
            if _alone(users):
                servers.stop_detached(data)


def _settings(home: Path) -> Mapping[str, str]:
    extensions = home / "extensions"
    if not extensions.is_dir():
        return SETTINGS
    return {
        **SETTINGS,
        "extension_control_path": f"$system:{extensions}/share",
        "dynamic_library_path": f"$libdir:{extensions}/lib",
    }


def _alone(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(data: Path) -> str | None:
    pidfile = servers.reachable(data) / "postmaster.pid"
    if not pidfile.is_file():
        return None
    lines = pidfile.read_text().split("\n")
    if len(lines) < 4 or not lines[3].strip():
        return None
    dsn = make_conninfo("", host="127.0.0.1", port=int(lines[3]), user="postgres", dbname="postgres")
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError:
        return None
    return dsn


def _start(data: Path, settings: Mapping[str, str]) -> str:
    return servers.start(servers.EMBEDDED_MAJOR, data=data, settings=settings, detached=True).dsn()
