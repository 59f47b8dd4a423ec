"""Every command against a real server, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.cli import main
from pgtrickle.cli.exits import Exit
from tests.support.guard import past_guard

pytestmark = pytest.mark.newest_only

Connection = psycopg.Connection[Any]
QUERY = "SELECT customer, count(*) AS n FROM orders GROUP BY customer"


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Said]


@pytest.fixture
def cli(db: str, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command on `db`."""

    def run(*arguments: str, dsn: bool = True) -> Said:
        code = main([*arguments, *(["--dsn", db] if dsn else [])])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def orders(conn: Connection, cli: Cli) -> str:
    """A catalog and a source."""
    assert cli("init").code == Exit.OK
    conn.execute("CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int)")
    conn.execute("INSERT INTO orders SELECT i, i % 5, i FROM generate_series(1, 20) i")
    return "orders"


@pytest.fixture
def totals(cli: Cli, orders: str) -> str:
    """A stream table."""
    assert cli("create", "public.totals", "-q", QUERY, "--schedule", "1h").code == Exit.OK
    return "public.totals"


def test_init_says_what_it_did_and_may_be_repeated(cli: Cli) -> None:
    assert "applied" in cli("init").out
    again = cli("init", "--json")
    assert (again.code, again.json) == (Exit.OK, {"applied": []})


def test_a_command_before_init_says_what_to_do(cli: Cli) -> None:
    said = cli("status")
    assert said.code == Exit.ERROR
    assert "pgtrickle init" in said.err


def test_create_reads_the_query_from_a_file(cli: Cli, orders: str, tmp_path: Path, conn: Connection) -> None:
    file = tmp_path / "totals.sql"
    file.write_text(QUERY)
    said = cli("create", "public.totals", "-f", str(file), "--json")
    assert said.code == Exit.OK
    assert said.json["effective_mode"] == "DIFFERENTIAL"
    assert conn.execute("SELECT count(*) FROM totals").fetchone() == (5,)


def test_create_if_not_exists_and_or_replace(cli: Cli, totals: str) -> None:
    taken = cli("create", totals, "-q", QUERY)
    assert taken.code == Exit.ERROR
    assert "PGT202" in taken.err
    assert cli("create", totals, "-q", QUERY, "--if-not-exists", "--json").json["created"] is False
    assert cli("create", totals, "-q", QUERY, "--or-replace", "--json").json["actions"] == ["none"]
    changed = cli("create", totals, "-q", QUERY.replace("count(*)", "count(amount)"), "--or-replace", "--json")
    assert "query" in changed.json["actions"]


def test_a_query_that_cannot_be_maintained_is_an_error_with_clause_and_hint(cli: Cli, orders: str) -> None:
    said = cli("create", "public.r", "-q", "SELECT id, random() AS r FROM orders", "--mode", "DIFFERENTIAL", "--json")
    assert (said.code, said.out) == (Exit.ERROR, "")
    error = json.loads(said.err)["error"]
    assert error["code"] == "PGT101"
    assert error["clause"]
    assert error["hint"]


@pytest.mark.parametrize("schedule", ["soon", "0s", "61 * * * *", "0 0 * * * Mars/Base"])
def test_a_schedule_that_makes_no_sense_is_refused(cli: Cli, orders: str, schedule: str) -> None:
    said = cli("create", "public.t", "-q", QUERY, "--schedule", schedule)
    assert said.code == Exit.USAGE
    assert "PGT103" in said.err
    assert cli("status", "--json").json == []


def test_refresh_reports_what_changed(cli: Cli, totals: str, conn: Connection) -> None:
    conn.execute("INSERT INTO orders VALUES (100, 1, 1), (101, 77, 1)")
    said = cli("refresh", totals, "--json")
    assert said.code == Exit.OK
    result = said.json[0]
    assert (result["action"], result["rows_inserted"], result["rows_updated"]) == ("DIFFERENTIAL", 1, 1)
    assert "NO_DATA" in cli("refresh", "--all").out
    assert cli("refresh", totals, "--full", "--json").json[0]["action"] == "FULL"


def test_refresh_of_an_unknown_name_is_an_error(cli: Cli, totals: str) -> None:
    said = cli("refresh", "public.nothing")
    assert said.code == Exit.ERROR
    assert "PGT201" in said.err


def test_refresh_all_tells_a_failure_by_its_exit_code(cli: Cli, totals: str, conn: Connection) -> None:
    assert cli("create", "public.ratio", "-q", "SELECT 1 / (amount - 99) AS r FROM orders").code == Exit.OK
    conn.execute("INSERT INTO orders VALUES (100, 1, 99)")
    said = cli("refresh", "--all", "--json")
    assert said.code == Exit.ERROR
    assert {result["name"]: result["action"] for result in said.json} == {
        "public.ratio": "FAILED",
        "public.totals": "DIFFERENTIAL",
    }
    assert cli("refresh", "public.ratio").code == Exit.ERROR


def test_verify_proves_finds_and_repairs(cli: Cli, totals: str, conn: Connection) -> None:
    conn.execute("INSERT INTO orders VALUES (100, 1, 1)")
    assert cli("verify", "--all", "--json").json[0]["proven"] is True
    past_guard(conn, "UPDATE totals SET n = n + 1 WHERE customer = 2")
    broken = cli("verify", totals)
    assert broken.code == Exit.DIFFERENT
    assert "DIFFERENT" in broken.out
    assert cli("verify", totals, "--repair").code == Exit.DIFFERENT
    assert cli("verify", totals).code == Exit.OK


def test_verify_says_when_it_cannot_prove(cli: Cli, orders: str) -> None:
    assert cli("create", "public.r", "-q", "SELECT id, random() AS r FROM orders").code == Exit.OK
    said = cli("verify", "public.r", "--json")
    assert said.code == Exit.NOT_PROVEN
    assert said.json[0]["reason"]


def test_status_shows_what_calculated_amounts_to(cli: Cli, totals: str) -> None:
    assert cli("create", "public.base", "-q", "SELECT customer, n FROM public.totals").code == Exit.OK
    assert cli("create", "public.tip", "-q", "SELECT n FROM public.base", "--schedule", "5m").code == Exit.OK
    assert "calculated (5m)" in cli("status").out
    rows = {row["name"]: row for row in cli("status", "--json").json}
    assert rows["public.base"]["effective_period_seconds"] == 300
    assert len(cli("status", "public.tip", "--json").json) == 1


def test_status_check_is_a_gate(cli: Cli, totals: str) -> None:
    assert cli("status", "--check").code == Exit.OK
    assert cli("status", "--check", "--max-age", "1h").code == Exit.OK
    time.sleep(1.1)
    old = cli("status", "--check", "--max-age", "1s")
    assert old.code == Exit.UNHEALTHY
    assert "older than 1 s" in old.out
    assert cli("suspend", totals).code == Exit.OK
    assert cli("status", "--check", "--max-age", "1h").code == Exit.UNHEALTHY
    assert cli("status", "--check", "--max-age", "soon").code == Exit.USAGE


def test_health_names_what_is_wrong(cli: Cli, orders: str) -> None:
    assert (cli("health").code, cli("health", "--json").json["status"]) == (Exit.OK, "EMPTY")
    assert cli("create", "public.totals", "-q", QUERY).code == Exit.OK
    no_runner = cli("health")
    assert no_runner.code == Exit.UNHEALTHY
    assert "no runner" in no_runner.out
    assert cli("suspend", "public.totals").code == Exit.OK
    assert cli("health", "--json").json["status"] == "CRITICAL"


def test_a_suspended_stream_table_is_not_refreshed_until_it_is_resumed(cli: Cli, totals: str, conn: Connection) -> None:
    assert cli("suspend", totals).code == Exit.OK
    conn.execute("INSERT INTO orders VALUES (100, 1, 1)")
    assert cli("refresh", totals).code == Exit.ERROR
    assert cli("resume", totals).code == Exit.OK
    assert cli("refresh", totals, "--json").json[0]["rows_updated"] == 1


def test_history_is_newest_first(cli: Cli, totals: str, conn: Connection) -> None:
    conn.execute("INSERT INTO orders VALUES (100, 1, 1)")
    cli("refresh", totals)
    rows = cli("history", totals, "--json").json
    assert rows[0]["action"] == "DIFFERENTIAL"
    assert rows[0]["initiated_by"] == "manual"
    assert len(cli("history", "-n", "1", "--json").json) == 1
    assert "DIFFERENTIAL" in cli("history").out


def test_explain_and_validate_show_the_strategy(cli: Cli, totals: str) -> None:
    said = cli("explain", totals, "--sql")
    assert said.code == Exit.OK
    assert "DIFFERENTIAL" in said.out
    assert "stage 0" in said.out
    assert "public.orders" in said.out
    document = cli("validate", "-q", "SELECT id, random() AS r FROM orders", "--json").json
    assert (document["mode"], document["name"]) == ("FULL", None)
    assert document["full_reason"]
    assert cli("validate", "-q", "SELECT nothing FROM orders").code == Exit.ERROR
    assert len(cli("status", "--json").json) == 1


def test_plan_shows_order_and_reasons_without_writing(
    cli: Cli, totals: str, conn: Connection, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("create", "public.tip", "-q", "SELECT n FROM public.totals", "--schedule", "1s").code == Exit.OK
    assert cli("create", "public.later", "-q", QUERY, "--schedule", "1h").code == Exit.OK
    assert cli("create", "public.held", "-q", QUERY, "--schedule", "1s").code == Exit.OK
    assert cli("suspend", "public.held").code == Exit.OK
    conn.execute("INSERT INTO orders VALUES (100, 1, 1)")
    time.sleep(1.1)
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    said = cli("plan", "--json")
    assert said.code == Exit.OK
    assert [(entry["name"], entry["group"], entry["mode"]) for entry in said.json["due"]] == [
        ("public.totals", 1, "DIFFERENTIAL"),
        ("public.tip", 1, "DIFFERENTIAL"),
    ]
    held = {entry["name"]: entry for entry in said.json["held"]}
    assert (held["public.held"]["gate"], held["public.held"]["decision"]) == ("status", "refuse")
    assert held["public.later"]["gate"] == "due"
    assert held["public.later"]["until"]
    assert "public.tip" in cli("plan").out


def test_dag_draws_sources_and_dependents(cli: Cli, totals: str) -> None:
    assert cli("create", "public.tip", "-q", "SELECT n FROM public.totals").code == Exit.OK
    text = cli("dag").out
    assert text.index("public.orders") < text.index("public.totals") < text.index("public.tip")
    assert "flowchart" in cli("dag", "--format", "mermaid").out
    assert "digraph" in cli("dag", "--format", "dot").out
    assert ["public.totals", "public.tip"] in cli("dag", "--json").json["edges"]


def test_alter_changes_only_what_is_said(cli: Cli, totals: str) -> None:
    assert cli("alter", totals, "--schedule", "30s", "--json").json["actions"] == ["configuration"]
    row = cli("status", totals, "--json").json[0]
    assert (row["schedule"], row["refresh_mode"]) == ("30s", "AUTO")
    assert cli("alter", totals, "--mode", "IMMEDIATE").code == Exit.ERROR
    assert cli("alter", totals, "--schedule", "never").code == Exit.USAGE


def test_drop_lists_dependents_and_takes_them_along_only_if_asked(cli: Cli, totals: str) -> None:
    assert cli("create", "public.tip", "-q", "SELECT n FROM public.totals").code == Exit.OK
    refused = cli("drop", totals)
    assert refused.code == Exit.ERROR
    assert "public.tip" in refused.err
    assert cli("drop", totals, "--cascade", "--json").json["dropped"] == ["public.tip", "public.totals"]
    assert cli("drop", totals).code == Exit.ERROR
    assert cli("drop", totals, "--if-exists").code == Exit.OK


def test_uninstall_leaves_the_tables_and_no_trace(cli: Cli, totals: str, conn: Connection) -> None:
    said = cli("uninstall", "--yes", "--json")
    assert said.json == {"released": ["public.totals"]}
    assert conn.execute("SELECT count(*) FROM totals").fetchone() == (5,)
    assert conn.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgtrickle%'").fetchall() == []
    assert conn.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal").fetchall() == []


def test_a_dbt_profile_leads_to_the_database_schema_and_role(
    cli: Cli, totals: str, conn: Connection, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = psycopg.conninfo.conninfo_to_dict(db)
    (tmp_path / "profiles.yml").write_text(
        "shop:\n  target: dev\n  outputs:\n    dev:\n      type: pgtrickle\n"
        f"      host: {facts['host']}\n      port: {facts['port']}\n      user: \"{{{{ env_var('SHOP_USER') }}}}\"\n"
        f"      dbname: {facts['dbname']}\n      schema: Ana Lytics\n      role: {facts['user']}\n"
    )
    monkeypatch.setenv("SHOP_USER", str(facts["user"]))
    monkeypatch.chdir(tmp_path)
    conn.execute('CREATE SCHEMA "Ana Lytics"')
    said = cli("create", "mine", "-q", "SELECT n FROM public.totals", "--profile", "shop", "--json", dsn=False)
    assert said.json["name"] == '"Ana Lytics".mine'
    assert cli("refresh", "mine", "--target", "dev", dsn=False).code == Exit.OK
    assert cli("refresh", "totals", "--target", "dev", dsn=False).code == Exit.OK


def test_names_with_quotes_and_blanks_are_taken_as_sql_reads_them(cli: Cli, orders: str, conn: Connection) -> None:
    conn.execute('CREATE SCHEMA "My Schema"')
    name = '"My Schema"."A ""T"""'
    assert cli("create", name, "-q", QUERY).code == Exit.OK
    assert [row["name"] for row in cli("status", name, "--json").json] == [name]
    assert cli("drop", name).code == Exit.OK


def test_python_dash_m_works_and_says_the_exit_code(db: str, engine: PgTrickle) -> None:
    command = [sys.executable, "-m", "pgtrickle", "status", "--json"]
    facts = psycopg.conninfo.conninfo_to_dict(db)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PGHOST": str(facts["host"]),
        "PGPORT": str(facts["port"]),
        "PGUSER": str(facts["user"]),
        "PGDATABASE": str(facts["dbname"]),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
