"""The engine and a runner behind PgBouncer in transaction mode, where no session is ours."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from tests.conftest import missing_tool
from tests.support.oracle import compare
from tests.support.runners import RunnerProcess, eventually

UNPRIVILEGED = "nobody"
QUERY = "SELECT customer, count(*) AS n FROM orders GROUP BY customer"


#: Sessions are reset between two clients, or as usual they are not; prepared statements are followed, since 1.21.
WAYS = {
    "reset": "server_reset_query_always = 1\nserver_reset_query = DISCARD ALL\n",
    "as_it_comes": "",
    "prepared": "max_prepared_statements = 100\n",
    "unprepared": "max_prepared_statements = 0\nserver_round_robin = 1\n",
}
SINCE_1_21 = ("prepared", "unprepared")


def version(program: str) -> tuple[int, ...]:
    """Of a PgBouncer: ``PgBouncer 1.18.0``."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


@pytest.fixture(
    params=[
        "reset",
        pytest.param("as_it_comes", marks=pytest.mark.slow),
        "prepared",
        pytest.param("unprepared", marks=pytest.mark.slow),
    ]
)
def pooled(db: str, tmp_path: Path, strict_tools: bool, request: pytest.FixtureRequest) -> Iterator[str]:
    """Connection string of a PgBouncer in transaction mode, with two server connections, before `db`."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        missing_tool("pgbouncer", strict=strict_tools)
    if request.param in SINCE_1_21 and version(str(program)) < (1, 21):
        missing_tool("pgbouncer 1.21 or later, which follows prepared statements", strict=False)
    facts = psycopg.conninfo.conninfo_to_dict(db)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    users = tmp_path / "users.txt"
    users.write_text(f'"{facts["user"]}" ""\n')
    config = tmp_path / "pgbouncer.ini"
    backend = " ".join(f"{key}={facts[key]}" for key in ("host", "port", "dbname", "user"))
    config.write_text(
        f"[databases]\npooled = {backend}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = 2\n{WAYS[request.param]}"
    )
    command = [str(program), "-q", str(config)]
    if os.geteuid() == 0:
        # It refuses to run as root; whoever it becomes has to be able to read its files.
        for place in (tmp_path, *tmp_path.parents[:2]):
            place.chmod(0o755)
        command[1:1] = ["-u", UNPRIVILEGED]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    dsn = f"host=127.0.0.1 port={port} user={facts['user']} dbname=pooled"

    def answers() -> bool:
        assert process.poll() is None, "pgbouncer ended"
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        eventually(answers, "pgbouncer answers", seconds=20)
        yield dsn
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.newest_only
def test_everything_works_behind_a_pooler_that_gives_each_transaction_another_session(
    pooled: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("CREATE TABLE orders (id int PRIMARY KEY, customer int)")
    with PgTrickle.connect(pooled) as engine:
        engine.install()
        engine.create_stream_table("public.totals", QUERY, schedule="continuous")
        engine.create_stream_table("public.tip", "SELECT sum(n) AS n FROM public.totals", schedule="1s")
        with RunnerProcess(pooled) as first, RunnerProcess(pooled) as second:
            first.started()
            second.started()
            for number in range(5):
                conn.execute(
                    "INSERT INTO orders SELECT i, i %% 7 FROM generate_series(%s::int, %s::int) i",
                    (number * 10, number * 10 + 9),
                )
                conn.execute("DELETE FROM orders WHERE id = %s", (number * 10 + 1,))
                engine.refresh_stream_table("public.totals")
                eventually(lambda: compare(conn, "totals", QUERY) is None, "totals follows")
                time.sleep(0.05)
            eventually(lambda: compare(conn, "tip", "SELECT sum(n) AS n FROM public.totals") is None, "tip follows")
            assert (first.stop(), second.stop()) == (0, 0)
            assert [event for event in first.events + second.events if event["level"] == "error"] == []
        assert engine.verify("public.totals").proven
        assert [one.code for one in engine.doctor() if one.severity != "NOTE"] == []
        assert "pooler" in [one.code for one in engine.doctor()]
        assert engine.alter_stream_table("public.totals", query=QUERY.replace("count(*)", "count(id)")).changed
        engine.drop_stream_table("public.totals", cascade=True)
        engine.uninstall()


SLOW = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$;
CREATE TRIGGER slowly BEFORE DELETE ON pgtrickle_changes.b_1 FOR EACH STATEMENT EXECUTE FUNCTION slowly();
"""
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"


@pytest.mark.newest_only
@pytest.mark.parametrize("pooled", ["reset"], indirect=True)
def test_a_time_out_of_the_role_that_ends_trimming_is_told_and_fails_no_refresh(
    pooled: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute(SQL("ALTER DATABASE {} SET statement_timeout = '1500ms'").format(Identifier(conn.info.dbname)))
    conn.execute(OTHERS, (conn.info.backend_pid,))
    conn.execute("CREATE TABLE orders (id int PRIMARY KEY, customer int)")
    with PgTrickle.connect(pooled) as engine:
        engine.install()
        engine.create_stream_table("public.totals", QUERY)
        conn.execute(SLOW)
        conn.execute("INSERT INTO orders SELECT i, i % 7 FROM generate_series(1, 50) i")
        assert [one.action for one in engine.refresh_all()] == ["DIFFERENTIAL"]
        assert conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone() == (50,)
        (told,) = [one for one in engine.doctor() if one.code == "pooled_timeouts"]
        assert "statement_timeout" in told.text
        conn.execute("DROP TRIGGER slowly ON pgtrickle_changes.b_1")
        conn.execute("UPDATE orders SET customer = 0 WHERE id < 5")
        engine.refresh_all()
        assert conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone() == (0,)
        assert compare(conn, "totals", QUERY) is None
