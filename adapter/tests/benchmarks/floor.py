"""The machine beside the numbers: what a commit and a round trip cost, and how busy it is."""

from __future__ import annotations

import os
import platform
import statistics
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.methods import timed


def commit_floor(dsn: str, repeats: int = 50) -> tuple[float, float]:
    """Median milliseconds of a one-row autocommit UPDATE, prepared, and of ``SELECT 1``."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
        conn.execute("CREATE TEMP TABLE anchor (id int)")
        conn.execute("CREATE TABLE IF NOT EXISTS commit_floor (id int PRIMARY KEY, v bigint)")
        conn.execute("INSERT INTO commit_floor VALUES (1, 0) ON CONFLICT DO NOTHING")
        updates = [
            timed(lambda: conn.execute("UPDATE commit_floor SET v = v + 1 WHERE id = 1"))[0] for _ in range(repeats)
        ]
        trips = [timed(lambda: conn.execute("SELECT 1"))[0] for _ in range(repeats)]
        conn.execute("DROP TABLE commit_floor")
    return statistics.median(updates), statistics.median(trips)


def about(dsn: str) -> dict[str, Any]:
    """Machine, server and date."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        version = conn.execute("SELECT version()").fetchone()
        settings = conn.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s) ORDER BY name",
            (
                [
                    "shared_buffers",
                    "work_mem",
                    "fsync",
                    "synchronous_commit",
                    "jit",
                    "autovacuum",
                    "wal_level",
                    "random_page_cost",
                    "max_parallel_workers_per_gather",
                ],
            ),
        ).fetchall()
        extensions = conn.execute("SELECT name FROM pg_available_extensions WHERE name = 'pg_ivm'").fetchall()
    assert version is not None
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "server": version[0],
        "settings": dict(settings),
        "pg_ivm": bool(extensions),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    found = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return found[0] if found else platform.machine()
