"""Run-operations, generic tests and freshness: nothing that is missing, broken or old may pass."""

from __future__ import annotations

from typing import Any

import pytest
from dbt.tests.util import get_artifact, run_dbt, run_dbt_and_capture

from tests.dbt.items import SOURCES, TOTALS, WithItems

pytestmark = pytest.mark.newest_only

UPPER = "{{ config(materialized='stream_table') }} select k, n * 2 as twice from {{ ref('totals') }}"
TESTS = """
version: 2
models:
  - name: totals
    data_tests: [stream_table_healthy, stream_table_status, stream_table_matches_query]
"""


def run(*arguments: str, fails: bool = False) -> str:
    """A dbt command that must (not) fail; what it printed."""
    _, shown = run_dbt_and_capture(list(arguments), expect_pass=not fails)
    return shown


def set_columns(project: Any, table: str, assignment: str) -> None:
    """Change the registration of a stream table behind the engine's back."""
    project.run_sql(f"update pgtrickle.stream_tables set {assignment} where relid = '{{schema}}.{table}'::regclass")


class TestRefresh(WithItems):
    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        return {"models": {"test": {"upper": {"+schema": "Other", "+alias": "Twice As Much", "+tags": ["second"]}}}}

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "upper.sql": UPPER, "sources.yml": SOURCES}

    def doubled(self, project: Any) -> list[tuple[Any, ...]]:
        query = f'select k, twice from "{project.test_schema}_Other"."Twice As Much" order by k'
        return [tuple(row) for row in project.run_sql(query, fetch="all")]

    def test_all_follow_in_dependency_order_wherever_they_are_built(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql("insert into {schema}.items values (20, 7, 1)")
        shown = run("run-operation", "refresh_all_stream_tables")
        assert shown.index("totals") < shown.index("Twice As Much")
        assert (7, 2) in self.doubled(project)

    def test_arguments_select(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql("insert into {schema}.items values (21, 8, 1)")
        shown = run("run-operation", "refresh_all_stream_tables", "--args", "{models: [totals]}")
        assert "Twice As Much" not in shown
        assert (8, 2) not in self.doubled(project)
        run("run-operation", "refresh_all_stream_tables", "--args", "{tag: second}")
        assert (8, 2) in self.doubled(project)
        project.run_sql("insert into {schema}.items values (22, 9, 1)")
        run("run-operation", "pgtrickle_refresh", "--args", "{model_name: upper}")
        assert (9, 2) in self.doubled(project), "a refresh takes the stale stream tables it reads along"
        assert "no_such_model" in run(
            "run-operation", "refresh_all_stream_tables", "--args", "{models: no_such_model}", fails=True
        )

    def test_an_explanation_is_printed_in_every_format(self, project: Any) -> None:
        run_dbt(["run"])
        assert "stage 0: " in run("run-operation", "explain_stream_table", "--args", "{name: totals}")
        assert "$1" in run("run-operation", "explain_stream_table", "--args", "{name: totals, sql: true}")
        assert "flowchart" in run("run-operation", "explain_stream_table", "--args", "{name: totals, format: mermaid}")
        run("run-operation", "explain_stream_table", "--args", "{name: totals, format: png}", fails=True)
        run("run-operation", "explain_stream_table", "--args", "{name: nothing}", fails=True)

    def test_the_doctor_says_what_is_wrong_fails_and_mends(self, project: Any) -> None:
        run_dbt(["run"])
        assert "Nothing is wrong" in run("run-operation", "stream_table_doctor")
        project.run_sql("alter table {schema}.items disable trigger user")
        shown = run("run-operation", "stream_table_doctor", fails=True)
        assert "capture_incomplete" in shown
        assert f"{project.test_schema}.items" in shown
        assert "FIXED" in run("run-operation", "pgtrickle_doctor", "--args", "{fix: true}")
        assert "Nothing is wrong" in run("run-operation", "stream_table_doctor")

    def test_one_failing_table_fails_the_operation_and_not_the_others(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql("alter table {schema}.totals add constraint small check (n < 100)")
        project.run_sql("insert into {schema}.items select g, 0, 0 from generate_series(1000, 1200) g")
        shown = run("run-operation", "refresh_all_stream_tables", fails=True)
        assert "small" in shown
        project.run_sql("alter table {schema}.totals drop constraint small")
        run("run-operation", "refresh_all_stream_tables")

    def test_dropping_one_that_is_read_is_refused_and_all_go_in_order(self, project: Any) -> None:
        run_dbt(["run"])
        name = f"{{name: {project.test_schema}.totals}}"
        assert "Twice As Much" in run("run-operation", "drop_stream_table", "--args", name, fails=True)
        run("run-operation", "drop_all_stream_tables")
        assert self.registered(project) == set()
        left = "select count(*) from pg_trigger where tgrelid = '{schema}.items'::regclass"
        assert project.run_sql(left, fetch="one")[0] == 0
        assert "not in the database" in run("run-operation", "refresh_all_stream_tables", fails=True)


class TestFreshnessGate(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES, "tests.yml": TESTS}

    def gate(self, *, fails: bool = False, **limits: Any) -> str:
        arguments = ["--args", str(limits)] if limits else []
        return run("run-operation", "check_freshness", *arguments, fails=fails)

    def test_missing_fails(self, project: Any) -> None:
        assert "not_found" in self.gate(fails=True)
        results = run_dbt(["test"], expect_pass=False)
        assert {result.status for result in results} == {"fail"}, "no test may pass for a table that is not registered"

    def test_plain_table_of_that_name_fails(self, project: Any) -> None:
        project.run_sql("create table {schema}.totals (k int, n bigint, total bigint)")
        run_dbt(["test"], expect_pass=False)
        assert "not_found" in self.gate(fails=True)
        project.run_sql("drop table {schema}.totals")

    def test_fresh_passes(self, project: Any) -> None:
        run_dbt(["run"])
        self.gate()
        assert {result.status for result in run_dbt(["test"])} == {"pass"}

    def test_never_loaded_fails(self, project: Any) -> None:
        run("run-operation", "drop_all_stream_tables")
        self.write(project, "totals.sql", TOTALS.replace("schedule=", "initialize=false, schedule="))
        run_dbt(["run"])
        assert "unpopulated" in self.gate(fails=True)
        run_dbt(["test", "--select", "test_name:stream_table_healthy"], expect_pass=False)
        run("run-operation", "refresh_all_stream_tables")
        self.gate()

    def test_suspended_fails(self, project: Any) -> None:
        run_dbt(["run"])
        self.write(project, "totals.sql", TOTALS.replace("schedule=", "status='PAUSED', schedule="))
        run_dbt(["run"])
        assert "paused" in self.gate(fails=True)
        run_dbt(["test", "--select", "test_name:stream_table_status"], expect_pass=False)
        self.write(project, "totals.sql", TOTALS.replace("schedule=", "status='ACTIVE', schedule="))
        run_dbt(["run"])
        self.gate()

    def test_erroring_fails_and_says_why(self, project: Any) -> None:
        run_dbt(["run"])
        set_columns(
            project, "totals", "consecutive_errors = 2, last_error = jsonb_build_object('message', 'disk full')"
        )
        shown = self.gate(fails=True)
        assert "erroring" in shown
        assert "disk full" in shown
        run_dbt(["test", "--select", "test_name:stream_table_healthy"], expect_pass=False)
        set_columns(project, "totals", "consecutive_errors = 0, last_error = null")

    def test_late_warns_and_too_late_fails(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql(
            "update pgtrickle.frontiers set last_refresh_at = now() - interval '20 minutes' where stream_table_id ="
            " (select id from pgtrickle.stream_tables where relid = '{schema}.totals'::regclass)"
        )
        shown = self.gate(warn_seconds=600, error_seconds=1800)
        assert "late" in shown
        assert "stale" in self.gate(warn_seconds=60, error_seconds=600, fails=True)
        run("run-operation", "refresh_all_stream_tables")

    def test_wrong_content_is_found(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql(
            "select set_config('pgtrickle.refreshing', pg_backend_pid()::text, false);"
            " update {schema}.totals set total = total + 1"
        )
        results = run_dbt(["test", "--select", "test_name:stream_table_matches_query"], expect_pass=False)
        assert results[0].status == "fail"
        run_dbt(["run", "--full-refresh"])
        run_dbt(["test", "--select", "test_name:stream_table_matches_query"])


class TestSourceFreshness(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        live = """
  - name: live
    schema: "{{ target.schema }}"
    freshness: {warn_after: {count: 10, period: minute}, error_after: {count: 1, period: hour}}
    tables: [{name: totals}, {name: items}]
"""
        return {"totals.sql": TOTALS, "sources.yml": SOURCES + live}

    def test_stream_table_needs_no_column_and_a_plain_table_is_told_so(self, project: Any) -> None:
        run_dbt(["run"])
        results = run_dbt(["source", "freshness"], expect_pass=False)
        found = {result.node.name: result for result in results}
        assert found["totals"].status == "pass"
        assert "loaded_at_field" in found["items"].message

    def test_old_content_warns(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql("update pgtrickle.frontiers set data_timestamp = now() - interval '20 minutes'")
        run_dbt(["source", "freshness", "--select", "source:live.totals"])
        results = get_artifact(project.project_root, "target", "sources.json")["results"]
        assert [result["status"] for result in results] == ["warn"]


class TestUpstreamNames(WithItems):
    """Macros of pg_trickle's own package: they work, or say what to use."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES}

    @pytest.mark.parametrize(
        ("macro", "arguments"),
        [
            ("pgtrickle_check_freshness", "{warn_seconds: 600}"),
            ("pgtrickle_stream_table_status", "{name: totals}"),
            ("pgtrickle_stream_table_exists", "{name: totals}"),
            ("pgtrickle_get_stream_table_info", "{name: totals}"),
            ("pgtrickle_refresh", "{model_name: totals}"),
            ("pgtrickle_orphans", "{}"),
        ],
    )
    def test_name_works(self, project: Any, macro: str, arguments: str) -> None:
        run_dbt(["run"])
        run("run-operation", macro, "--args", arguments)

    @pytest.mark.parametrize(
        "macro",
        [
            "pgtrickle_check_cdc_health",
            "pgtrickle_operational_status",
            "pgtrickle_drain",
            "pgtrickle_enable_monitoring",
        ],
    )
    def test_name_without_counterpart_says_what_to_use(self, project: Any, macro: str) -> None:
        assert "use " in run("run-operation", macro, fails=True)
