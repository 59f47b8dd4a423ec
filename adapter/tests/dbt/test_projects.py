"""Stream tables in projects as people write them: versions, odd names, snapshots, samples, clones, other profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dbt.include.pgtrickle
import pytest
import yaml
from dbt.tests.util import run_dbt, run_dbt_and_capture, write_file

from tests.dbt.items import SOURCES, TOTALS, WithItems

pytestmark = pytest.mark.newest_only


class TestNames(WithItems):
    """Versions, aliases with spaces and capitals, names of the greatest length, names without quotes."""

    LONG = "a_model_with_a_name_of_sixty_three_letters_that_postgres_accepts"[:63]

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "versioned_v1.sql": TOTALS,
            "versioned_v2.sql": TOTALS.replace("sum(v)", "max(v)"),
            "odd.sql": TOTALS.replace("schedule=", "alias='Odd Name; %s {}', schedule="),
            f"{self.LONG}.sql": TOTALS,
            "reader.sql": "{{ config(materialized='stream_table') }} select o.k, v.total from {{ ref('odd') }} o"
            " join {{ ref('versioned', v=2) }} v using (k)",
            "sources.yml": SOURCES,
            "properties.yml": """
version: 2
models:
  - name: versioned
    latest_version: 2
    versions: [{v: 1}, {v: 2}]
""",
        }

    def test_every_name_is_created_found_again_refreshed_and_dropped(self, project: Any) -> None:
        results = run_dbt(["run"])
        assert {result.adapter_response["action"] for result in results} == {"create"}
        again = run_dbt(["run"])
        assert {result.adapter_response["action"] for result in again} == {"none"}
        names = {"versioned_v1", "versioned_v2", "Odd Name; %s {}", self.LONG, "reader"}
        assert self.registered(project) == names
        project.run_sql("insert into {schema}.items values (30, 0, 500)")
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        assert (0, 500) in self.rows(project, "reader")
        run_dbt(["run-operation", "check_freshness"])
        run_dbt(["run-operation", "drop_all_stream_tables"])
        assert self.registered(project) == set()


class TestUnquotedNames(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"folded.sql": TOTALS.replace("schedule=", "alias='FoldedName', schedule="), "sources.yml": SOURCES}

    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        return {"quoting": {"identifier": False}}

    def test_name_is_folded_as_the_server_does(self, project: Any) -> None:
        run_dbt(["run"])
        assert self.registered(project) == {"foldedname"}
        (again,) = run_dbt(["run"])
        assert again.adapter_response["action"] == "none"
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        run_dbt(["run-operation", "check_freshness"])


class TestSnapshotAndSample(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        sources = SOURCES.replace("{name: items}", "{name: items, config: {event_time: at}}")
        return {"totals.sql": TOTALS, "sources.yml": sources}

    @pytest.fixture(scope="class")
    def snapshots(self) -> dict[str, str]:
        text = """
{% snapshot totals_history %}
{{ config(target_schema=schema, unique_key='k', strategy='check', check_cols='all') }}
select * from {{ ref('totals') }}
{% endsnapshot %}
"""
        return {"history.sql": text}

    def test_snapshot_follows_a_stream_table(self, project: Any) -> None:
        run_dbt(["build"])
        project.run_sql("update {schema}.items set v = v + 1 where id = 3")
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        run_dbt(["snapshot"])
        assert len(self.rows(project, "totals_history", "k, n, total, dbt_valid_to")) == 4

    def test_sample_never_becomes_the_definition(self, project: Any) -> None:
        project.run_sql("alter table {schema}.items add column if not exists at timestamp default now()")
        run_dbt(["run"])
        query = "select query from pgtrickle.stream_tables_info where name = 'totals' and schema = '{schema}'"
        before = project.run_sql(query, fetch="all")
        results = run_dbt(["run", "--sample", "1 hour"])
        assert [result.adapter_response["action"] for result in results] == ["skip"]
        assert project.run_sql(query, fetch="all") == before
        assert "filter" not in before[0][0]


class TestSecondTarget(WithItems):
    """`dbt clone` and `--defer` on stream tables of another schema."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES.replace("{{ target.schema }}", "{{ var('home') }}")}

    @pytest.fixture(scope="class")
    def profiles_config_update(self, dbt_profile_target: dict[str, Any], unique_schema: str) -> dict[str, Any]:
        return {
            "test": {
                "outputs": {
                    "default": {**dbt_profile_target, "schema": unique_schema},
                    "other": {**dbt_profile_target, "schema": f"{unique_schema}_other"},
                },
                "target": "default",
            }
        }

    def test_clone_makes_a_view_that_a_run_replaces(self, project: Any) -> None:
        variables = ["--vars", f"home: {project.test_schema}"]
        run_dbt(["run", *variables])
        state = Path(project.project_root) / "state"
        state.mkdir()
        (state / "manifest.json").write_text((Path(project.project_root) / "target" / "manifest.json").read_text())
        run_dbt(["clone", "--state", "state", "--target", "other", *variables])
        other = f"{project.test_schema}_other"
        kind = f"select relkind::text from pg_class where oid = '{other}.totals'::regclass"
        assert project.run_sql(kind, fetch="one")[0] == "v"
        run_dbt(["run", "--target", "other", *variables])
        assert project.run_sql(kind, fetch="one")[0] == "r"
        found = f"select count(*) from pgtrickle.stream_tables_info where schema = '{other}'"
        assert project.run_sql(found, fetch="one")[0] == 1
        project.run_sql(f"insert into {project.test_schema}.items values (40, 4, 4)")
        run_dbt(["run-operation", "refresh_all_stream_tables", "--target", "other", *variables])
        assert project.run_sql(f"select count(*) from {other}.totals", fetch="one")[0] == 4
        run_dbt(["run-operation", "drop_all_stream_tables", "--target", "other", *variables])


class TestPlainPostgres:
    """The package with ``type: postgres``: a clear error instead of a table that is never refreshed."""

    @pytest.fixture(scope="class")
    def dbt_profile_target(self, dbt_database: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "postgres",
            "host": dbt_database["host"],
            "port": int(dbt_database["port"]),
            "user": dbt_database["user"],
            "password": dbt_database.get("password") or "unused",
            "dbname": dbt_database["dbname"],
        }

    @pytest.fixture(scope="class")
    def packages(self) -> dict[str, Any]:
        from tests.support.servers import ROOT

        return {"packages": [{"local": str(ROOT)}]}

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": "{{ config(materialized='stream_table') }} select 1 as id"}

    def test_says_what_to_change_in_the_profile(self, project: Any) -> None:
        run_dbt(["deps"])
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "type: pgtrickle" in result.message
        _, shown = run_dbt_and_capture(["run-operation", "refresh_all_stream_tables"], expect_pass=False)
        assert "type: pgtrickle" in shown


class TestTooling(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES}

    def test_debug_connects_and_shows_no_password(self, project: Any) -> None:
        _, shown = run_dbt_and_capture(["debug"])
        assert "All checks passed" in shown
        assert "pgtrickle" in shown
        assert "unused" not in shown

    def test_init_template_asks_for_what_a_profile_needs(self) -> None:
        template = Path(dbt.include.pgtrickle.PACKAGE_PATH) / "profile_template.yml"
        asked = yaml.safe_load(template.read_text())
        assert asked["fixed"] == {"type": "pgtrickle"}
        assert set(asked["prompts"]) == {"host", "port", "user", "pass", "dbname", "schema", "threads"}

    def test_warnings_of_the_engine_fail_a_run_with_warn_error(self, project: Any) -> None:
        write_file(TOTALS + " order by k", project.project_root, "models", "totals.sql")
        _, shown = run_dbt_and_capture(["--warn-error", "run"], expect_pass=False)
        assert "ORDER BY" in shown

    def test_run_results_say_what_was_done(self, project: Any) -> None:
        write_file(TOTALS.replace("sum(v)", "sum(v * 2)"), project.project_root, "models", "totals.sql")
        run_dbt(["run"])
        stored = json.loads((Path(project.project_root) / "target" / "run_results.json").read_text())
        response = stored["results"][0]["adapter_response"]
        assert {"action", "refresh_mode", "rows_inserted", "rows_updated", "rows_deleted", "duration_ms"} <= set(
            response
        )
        assert response["refresh_mode"] == "DIFFERENTIAL"

    def test_retry_builds_what_failed(self, project: Any) -> None:
        write_file(TOTALS.replace("sum(v)", "sum(no_such_column)"), project.project_root, "models", "totals.sql")
        run_dbt(["run"], expect_pass=False)
        write_file(TOTALS, project.project_root, "models", "totals.sql")
        (result,) = run_dbt(["retry"])
        assert result.status == "success"

    def test_show_and_compile_of_a_stream_table_register_nothing(self, project: Any) -> None:
        run_dbt(["run-operation", "drop_all_stream_tables"])
        run_dbt(["show", "--select", "totals"])
        run_dbt(["compile"])
        run_dbt(["ls"])
        run_dbt(["parse"])
        assert self.registered(project) == set()
