"""The engine's own connections: the profile's keys, and what happens to them when a run is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dbt.adapters.pgtrickle.connections import PgTrickleCredentials
from dbt.adapters.pgtrickle.sessions import connection_parameters, open_session

from tests.support.servers import ROOT

pytestmark = pytest.mark.newest_only

SLEEPING = (
    "SELECT query, application_name FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
)


def credentials(**changes: Any) -> PgTrickleCredentials:
    """A profile with every key set, before the changes."""
    given: dict[str, Any] = {
        "host": "h",
        "user": "u",
        "port": 5433,
        "password": "p",
        "database": "d",
        "schema": "s",
        "sslmode": "require",
        "sslcert": "c",
        "sslkey": "k",
        "sslrootcert": "r",
        "keepalives_idle": 7,
        "connect_timeout": 3,
        "application_name": "app",
        "search_path": "a, b",
    }
    return PgTrickleCredentials(**{**given, **changes})


def test_every_connection_key_of_the_profile_reaches_the_engine() -> None:
    assert connection_parameters(credentials()) == {
        "host": "h",
        "user": "u",
        "port": 5433,
        "password": "p",
        "dbname": "d",
        "sslmode": "require",
        "sslcert": "c",
        "sslkey": "k",
        "sslrootcert": "r",
        "keepalives_idle": 7,
        "connect_timeout": 3,
        "application_name": "app",
        "options": "-c search_path=a,\\ b",
    }


def test_keys_that_are_not_set_are_left_to_libpq() -> None:
    unset = dict.fromkeys(("sslmode", "sslcert", "sslkey", "sslrootcert", "search_path", "application_name"))
    found = connection_parameters(credentials(keepalives_idle=0, **unset))
    assert set(found) == {"host", "user", "port", "password", "dbname", "connect_timeout"}


def test_connecting_is_tried_again_as_often_as_the_profile_says() -> None:
    started = time.monotonic()
    with pytest.raises(Exception, match="refused"):
        open_session(credentials(host="127.0.0.1", port=1, sslmode="disable", retries=2, search_path=None))
    assert time.monotonic() - started >= 1, "the second retry waits a second"


@pytest.fixture
def sleeper(tmp_path: Path, dbt_database: dict[str, Any]) -> Path:
    """A project whose only model takes a minute to load, under a role of its own."""
    with psycopg.connect(**dbt_database, autocommit=True) as conn:
        conn.execute("DROP SCHEMA IF EXISTS sleeper CASCADE")
        if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = 'sleepy'").fetchone() is None:
            conn.execute("CREATE ROLE sleepy SUPERUSER")
    target = {
        "type": "pgtrickle",
        "host": dbt_database["host"],
        "port": int(dbt_database["port"]),
        "user": dbt_database["user"],
        "password": dbt_database.get("password") or "unused",
        "dbname": dbt_database["dbname"],
        "schema": "sleeper",
        "role": "sleepy",
        "application_name": "nap",
        "threads": 2,
    }
    (tmp_path / "models").mkdir()
    (tmp_path / "profiles.yml").write_text(json.dumps({"sleeper": {"target": "dev", "outputs": {"dev": target}}}))
    (tmp_path / "dbt_project.yml").write_text(
        json.dumps({"name": "sleeper", "version": "1.0", "config-version": 2, "profile": "sleeper"})
    )
    (tmp_path / "models" / "naps.sql").write_text(
        "{{ config(materialized='stream_table') }} select 1 as id, current_user::text as who, pg_sleep(60)::text as nap"
    )
    return tmp_path


def start(project: Path) -> subprocess.Popen[str]:
    """``dbt run`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--no-version-check", "run"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT / "adapter"), "DBT_PROFILES_DIR": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_listen_to_interrupts,
    )


def _listen_to_interrupts() -> None:
    """Who runs the tests in the background passes on to all of them that interrupts are ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(conn: psycopg.Connection[Any], query: str, *, present: bool, seconds: float) -> list[tuple[Any, ...]]:
    """Poll until a query returns rows, or none."""
    deadline = time.monotonic() + seconds
    while True:
        rows = conn.execute(query).fetchall()  # type: ignore[arg-type]
        if bool(rows) == present:
            return rows
        assert time.monotonic() < deadline, f"still {rows}"
        time.sleep(0.1)


def test_interrupting_a_run_cancels_the_engine_and_its_statements_carry_dbts_comment(
    sleeper: Path, connection: psycopg.Connection[Any]
) -> None:
    process = start(sleeper)
    try:
        rows = wait_for(connection, SLEEPING, present=True, seconds=90)
        assert any('"app": "dbt"' in query and '"node_id": "model.sleeper.naps"' in query for query, _ in rows), rows
        assert {name for _, name in rows} == {"nap"}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode != 0
        wait_for(connection, SLEEPING, present=False, seconds=10)
    finally:
        process.kill()
        process.wait()
    left = "SELECT count(*) FROM pgtrickle.stream_tables_info WHERE schema = 'sleeper'"
    assert connection.execute(left).fetchone() == (0,)
