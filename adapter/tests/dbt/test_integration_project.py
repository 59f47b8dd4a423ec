"""The project in integration_tests/, run as a user would: as a dbt package, and with the built wheel alone.

Its variable ``step`` changes queries, configurations, modes and materializations between the runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.servers import ROOT

pytestmark = pytest.mark.newest_only

SCHEMA = "Integration"
STREAM_TABLES = ("order_totals", "customer_orders", "big_customers", "order_extremes", "statuses", "summary")


@dataclass
class Project:
    """A copy of the project and how to run dbt on it.

    Attributes:
        directory: where it is.
        environment: of the dbt processes.
        step: the variable that the models look at.
    """

    directory: Path
    environment: dict[str, str] = field(repr=False)
    dsn: str
    step: int = 1

    def dbt(self, *arguments: str, fails: bool = False) -> str:
        """Run a dbt command; what it printed."""
        command = [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--no-version-check", *arguments]
        if arguments[0] not in ("deps", "debug"):
            command += ["--vars", json.dumps({"step": self.step})]
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout

    def responses(self) -> dict[str, dict[str, Any]]:
        """adapter_response of the last run, by model."""
        results = json.loads((self.directory / "target" / "run_results.json").read_text())["results"]
        return {result["unique_id"].split(".")[-1]: result["adapter_response"] for result in results}

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Run a statement as the application."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            cursor = conn.execute(query)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def oid(self, table: str) -> int:
        """OID of a table of the target schema."""
        return self.sql(f"SELECT '\"{SCHEMA}\".{table}'::regclass::oid::bigint")[0][0]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Copy the project, so that nothing is written into the repository."""

    def copied(name: str) -> Path:
        place = tmp_path_factory.mktemp(name) / "project"
        ignored = shutil.ignore_patterns("target", "dbt_packages", "logs", "package-lock.yml")
        shutil.copytree(ROOT / "integration_tests", place, ignore=ignored)
        return place

    return copied


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the built wheel and nothing else in it."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build(pip, "wheel", "--no-deps", "--wheel-dir", str(place / "dist"), str(ROOT))
    (built,) = (place / "dist").glob("*.whl")
    build(pip, "install", "--no-deps", "--target", str(place / "site"), str(built))
    shipped = place / "site" / "dbt" / "include" / "pgtrickle" / "macros"
    assert texts(shipped) == texts(ROOT / "macros")
    assert not list((place / "site" / "dbt").rglob("adapters/__init__.py")), "dbt-adapters owns the namespace"
    return place / "site"


def texts(macros: Path) -> dict[str, str]:
    """The files of a macro directory."""
    return {str(path.relative_to(macros)): path.read_text() for path in macros.rglob("*.sql")}


def build(pip: Sequence[str], *arguments: str) -> None:
    """Run pip and show what it said if it fails."""
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="class")
def project(request: pytest.FixtureRequest, copy: Callable[[str], Path], module_db: str) -> Iterator[Project]:
    """The project, installed in the way that the test class names."""
    installed = request.cls.INSTALLED
    parameters = conninfo_to_dict(module_db)
    directory = copy(installed)
    environment = {
        **os.environ,
        "PGHOST": str(parameters["host"]),
        "PGPORT": str(parameters["port"]),
        "PGUSER": str(parameters["user"]),
        "PGPASSWORD": str(parameters.get("password") or "unused"),
        "PGDATABASE": str(parameters["dbname"]),
        "DBT_SCHEMA": SCHEMA,
        "DBT_PROFILES_DIR": str(directory),
    }
    if installed == "package":
        environment["PYTHONPATH"] = str(ROOT / "adapter")
        (directory / "packages.yml").write_text(f"packages:\n  - local: {ROOT}\n")
    else:
        environment["PYTHONPATH"] = str(request.getfixturevalue("wheel"))
        (directory / "packages.yml").unlink()
    prepared = Project(directory, environment, module_db)
    prepared.sql(f'DROP SCHEMA IF EXISTS "{SCHEMA}" CASCADE')
    if installed == "package":
        prepared.dbt("deps")
    yield prepared
    assert "status_report" in prepared.dbt("run-operation", "drop_all_stream_tables", fails=True)
    prepared.sql(f'DROP VIEW "{SCHEMA}".status_report')
    prepared.dbt("run-operation", "drop_all_stream_tables")
    assert prepared.sql("SELECT count(*) FROM pgtrickle.stream_tables_info") == [(0,)]


class Beginning:
    """The first steps in the life of a project: what depends on how the macros were found."""

    INSTALLED = ""

    def test_first_build_creates_loads_and_passes_its_tests(self, project: Project) -> None:
        project.dbt("build")
        for name in STREAM_TABLES:
            assert project.responses()[name]["action"] == "create", name
        assert project.responses()["order_totals"]["refresh_mode"] == "DIFFERENTIAL"

    def test_wheel_brings_its_own_macros(self, project: Project) -> None:
        manifest = json.loads((project.directory / "target" / "manifest.json").read_text())
        packages = {macro["package_name"] for macro in manifest["macros"].values() if "stream_table" in macro["name"]}
        installed_as_package = (project.directory / "packages.yml").exists()
        assert packages == {"dbt_pgtrickle_adapter"} | ({"dbt_pgtrickle"} if installed_as_package else set())

    def test_unchanged_models_are_neither_written_nor_refreshed(self, project: Project) -> None:
        history = project.sql("SELECT count(*), max(id) FROM pgtrickle.refresh_history")
        versions = project.sql("SELECT relid, xmin::text FROM pgtrickle.stream_tables ORDER BY relid")
        project.dbt("run", "--select", "config.materialized:stream_table")
        responses = project.responses()
        assert {name: responses[name]["action"] for name in STREAM_TABLES} == dict.fromkeys(STREAM_TABLES, "none")
        assert project.sql("SELECT count(*), max(id) FROM pgtrickle.refresh_history") == history
        assert project.sql("SELECT relid, xmin::text FROM pgtrickle.stream_tables ORDER BY relid") == versions

    def test_changes_reach_every_table_in_dependency_order(self, project: Project) -> None:
        project.sql(f"INSERT INTO \"{SCHEMA}\".raw_orders VALUES (9, 3, 50, 'paid', '2024-03-02')")
        project.sql(f'UPDATE "{SCHEMA}".raw_orders SET amount = 1 WHERE id = 1')
        project.sql(f'DELETE FROM "{SCHEMA}".raw_orders WHERE id = 7')
        shown = project.dbt("run-operation", "refresh_all_stream_tables")
        assert "DIFFERENTIAL" in shown
        project.dbt("run-operation", "check_freshness")
        project.dbt("test")


class Life(Beginning):
    """The whole life of a project, step by step."""

    def test_partial_runs_and_offline_commands_leave_definitions_alone(self, project: Project) -> None:
        before = project.sql("SELECT relid, query, refresh_no FROM pgtrickle.stream_tables_info ORDER BY relid")
        project.dbt("run", "--empty", "--select", "config.materialized:stream_table")
        assert project.responses()["order_totals"]["action"] == "skip"
        project.dbt("compile")
        project.dbt("show", "--select", "order_totals")
        project.dbt("ls")
        project.dbt("parse")
        after = project.sql("SELECT relid, query, refresh_no FROM pgtrickle.stream_tables_info ORDER BY relid")
        assert after == before

    def test_documentation_shows_stream_tables_with_schedule_and_mode(self, project: Project) -> None:
        project.dbt("docs", "generate")
        catalog = json.loads((project.directory / "target" / "catalog.json").read_text())
        node = catalog["nodes"]["model.pgtrickle_integration_tests.order_totals"]
        assert node["metadata"]["type"] == "STREAM TABLE"
        assert node["metadata"]["comment"] == "Orders and revenue of every customer, always."
        assert node["stats"]["schedule"]["value"] == "1h"
        assert node["stats"]["mode"]["value"] == "DIFFERENTIAL"
        assert set(node["columns"]) == {"customer_id", "orders", "total"}
        plain = catalog["nodes"]["seed.pgtrickle_integration_tests.raw_orders"]
        assert plain["metadata"]["type"] == "BASE TABLE"
        assert set(plain["stats"]) == {"has_stats"}

    def test_source_freshness_needs_no_column(self, project: Project) -> None:
        project.dbt("source", "freshness")
        (result,) = json.loads((project.directory / "target" / "sources.json").read_text())["results"]
        assert result["status"] == "pass"

    def test_changed_queries_configurations_and_modes_are_applied_in_place(self, project: Project) -> None:
        names = ("order_totals", "customer_orders", "big_customers", "order_extremes")
        oids = {name: project.oid(name) for name in names}
        project.step = 2
        project.dbt("run")
        responses = project.responses()
        assert "query" in responses["order_totals"]["action"]
        assert "add_column" in responses["customer_orders"]["action"]
        assert responses["big_customers"]["action"] == "configuration"
        assert responses["order_extremes"]["refresh_mode"] == "DIFFERENTIAL"
        assert {name: project.oid(name) for name in names} == oids
        project.dbt("run-operation", "refresh_all_stream_tables")
        project.dbt("test")

    def test_materialization_changes_to_table_and_the_view_on_it_survives(self, project: Project) -> None:
        kinds = project.sql(
            "SELECT count(*) FROM pgtrickle.stream_tables_info WHERE name = 'order_statuses' OR name LIKE '%backup%'"
        )
        assert kinds == [(0,)]
        assert len(project.sql(f'SELECT * FROM "{SCHEMA}".status_report')) == 3

    def test_materialization_changes_to_incremental_and_back(self, project: Project) -> None:
        project.step = 3
        project.dbt("run")
        assert "drop_column" in project.responses()["customer_orders"]["action"]
        project.step = 4
        project.dbt("run", "--select", "statuses")
        assert project.responses()["statuses"]["action"] == "create"
        assert len(project.sql(f'SELECT * FROM "{SCHEMA}".status_report')) == 3
        project.dbt("run")
        project.dbt("run-operation", "refresh_all_stream_tables")
        project.dbt("test")

    def test_full_refresh_recomputes_in_place(self, project: Project) -> None:
        oid = project.oid("order_totals")
        project.dbt("run", "--full-refresh", "--select", "order_totals")
        assert "recompute" in project.responses()["order_totals"]["action"]
        assert project.oid("order_totals") == oid
        project.dbt("test", "--select", "order_totals")

    def test_freshness_gate_fails_for_a_suspended_table(self, project: Project) -> None:
        project.sql("UPDATE pgtrickle.stream_tables SET status = 'SUSPENDED' WHERE table_name = 'summary'")
        shown = project.dbt("run-operation", "check_freshness", fails=True)
        assert "summary" in shown
        assert "paused" in shown
        project.sql("UPDATE pgtrickle.stream_tables SET status = 'ACTIVE' WHERE table_name = 'summary'")
        project.dbt("run-operation", "check_freshness")

    def test_orphans_are_listed_and_dropped_only_when_asked(self, project: Project) -> None:
        (project.directory / "models" / "marts" / "summary.sql").rename(project.directory / "summary.sql")
        (project.directory / "tests" / "assert_chain_is_exact.sql").unlink()
        properties = project.directory / "models" / "marts" / "properties.yml"
        properties.write_text(properties.read_text().split("  - name: summary")[0])
        shown = project.dbt("run-operation", "orphaned_stream_tables")
        assert "Would drop" in shown
        assert "summary" in shown
        assert project.oid("summary")
        project.dbt("run-operation", "orphaned_stream_tables", "--args", "{dry_run: false}")
        assert project.sql(f"SELECT to_regclass('\"{SCHEMA}\".summary')") == [(None,)]


class TestAsPackage(Life):
    INSTALLED = "package"


class TestBeginningWithTheWheelAlone(Beginning):
    INSTALLED = "wheel"


@pytest.mark.slow
class TestWithTheWheelAlone(Life):
    INSTALLED = "wheel"
