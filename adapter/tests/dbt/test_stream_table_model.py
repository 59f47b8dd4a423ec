"""The materialization: what a run of a stream table model does, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from dbt.tests.util import run_dbt, run_dbt_and_capture

from tests.dbt.items import SOURCES, TOTALS, WithItems

pytestmark = pytest.mark.newest_only


def versions(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """The version of every row of every table of ours and of users, of the system tables that describe them too."""
    tables = connection.execute("""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND (
            n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
            OR c.relname IN ('pg_trigger', 'pg_proc', 'pg_attribute', 'pg_rewrite', 'pg_constraint', 'pg_description'))
    """).fetchall()
    return {
        table: connection.execute(f"SELECT count(*), sum(hashtext(xmin::text || ctid::text)) FROM {table}").fetchone()  # type: ignore[arg-type]
        for (table,) in tables
    }


class TestOneModel(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES}

    def test_first_run_creates_and_reports_it(self, project: Any) -> None:
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] == "create"
        assert result.adapter_response["refresh_mode"] == "DIFFERENTIAL"
        assert result.adapter_response["rows_affected"] == 3
        assert "CREATED (DIFFERENTIAL, 3 rows)" in result.message
        assert self.rows(project, "totals") == [(0, 4, 30), (1, 4, 22), (2, 4, 26)]

    def test_unchanged_model_writes_nothing_at_all(self, project: Any, connection: psycopg.Connection[Any]) -> None:
        run_dbt(["run"])
        project.run_sql("insert into {schema}.items values (100, 0, 1000)")
        before = versions(connection)
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] == "none"
        assert result.message == "UNCHANGED (DIFFERENTIAL)"
        assert versions(connection) == before
        assert (0, 4, 30) in self.rows(project, "totals"), "dbt run must not refresh an unchanged model"
        project.run_sql("delete from {schema}.items where id = 100")

    def test_versions_of_rows_would_show_a_write(self, project: Any, connection: psycopg.Connection[Any]) -> None:
        run_dbt(["run"])
        before = versions(connection)
        run_dbt(["run", "--full-refresh"])
        assert versions(connection) != before

    def test_white_space_and_comments_are_no_change(self, project: Any) -> None:
        run_dbt(["run"])
        self.write(project, "totals.sql", TOTALS.replace("select k,", "select   k, -- the group\n"))
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] == "none"

    def test_changed_query_keeps_oid_views_grants_and_indexes(self, project: Any) -> None:
        run_dbt(["run"])
        oid = self.oid(project, "totals")
        project.run_sql("create or replace view {schema}.reader as select k, total from {schema}.totals")
        project.run_sql("grant select on {schema}.totals to dbt_test_user_1")
        project.run_sql("create index totals_by_total on {schema}.totals (total)")
        self.write(project, "totals.sql", TOTALS.replace("sum(v)", "sum(v + 1)"))
        (result,) = run_dbt(["run"])
        assert "query" in result.adapter_response["action"]
        assert self.rows(project, "reader") == [(0, 34), (1, 26), (2, 30)]
        assert self.oid(project, "totals") == oid
        granted = "select has_table_privilege('dbt_test_user_1', '{schema}.totals', 'select')"
        assert project.run_sql(granted, fetch="one")[0]
        assert project.run_sql("select to_regclass('{schema}.totals_by_total') is not null", fetch="one")[0]
        project.run_sql("drop view {schema}.reader")

    def test_unset_keys_keep_what_was_set(self, project: Any) -> None:
        run_dbt(["run"])
        self.write(project, "totals.sql", TOTALS.replace(", schedule='1h'", ""))
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] == "none"
        schedule = f"select schedule from pgtrickle.stream_tables_info where schema = '{project.test_schema}'"
        assert project.run_sql(schedule, fetch="one")[0] == "1h"

    def test_meta_is_read_too(self, project: Any) -> None:
        text = TOTALS.replace(", schedule='1h'", ", meta={'pgtrickle': {'schedule': '2h'}}")
        self.write(project, "totals.sql", text)
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] in ("configuration", "create")

    def test_dropping_a_column_that_a_view_reads_is_refused_and_lists_it(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql("create or replace view {schema}.reader as select k, total from {schema}.totals")
        self.write(project, "totals.sql", TOTALS.replace(", sum(v) as total", ""))
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "reader" in result.message
        assert len(self.rows(project, "reader")) == 3
        project.run_sql("drop view {schema}.reader")


class TestRefusals(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES}

    @pytest.mark.parametrize(
        ("configuration", "said"),
        [
            ("stream_table_name='x'", "alias"),
            ("stream_table_schema='x'", "schema"),
            ("refresh_mode='IMMEDIATE'", "continuous"),
            ("refresh_mode='SOMETIMES'", "AUTO"),
            ("cdc_mode='wal'", "trigger"),
            ("partition_by='k'", "partition"),
            ("fuse='auto'", "fuse"),
            ("storage_backend='citus'", "heap"),
            ("schedule=60", "text"),
            ("schedule='often'", "schedule"),
            ("meta={'pgtrickle': {'shedule': '1h'}}", "shedule"),
            ("incremental_strategy='microbatch'", "microbatch"),
            ("sql_header='set x.y to 1'", "sql_header"),
        ],
    )
    def test_configuration_that_cannot_be_honoured_is_an_error_naming_the_way_out(
        self, project: Any, configuration: str, said: str
    ) -> None:
        text = TOTALS.replace("schedule='1h'", configuration)
        self.write(project, "totals.sql", text)
        (result,) = run_dbt(["run"], expect_pass=False)
        assert said in result.message
        assert self.registered(project) == set()

    def test_reading_itself_is_refused(self, project: Any) -> None:
        self.write(project, "totals.sql", TOTALS + " union all select * from {{ this }}")
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "cannot read itself" in result.message

    def test_differential_refuses_what_it_cannot_maintain_and_names_it(self, project: Any) -> None:
        text = TOTALS.replace("schedule='1h'", "refresh_mode='DIFFERENTIAL'").replace(
            "sum(v)", "sum(v + random()::int)"
        )
        self.write(project, "totals.sql", text)
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "random" in result.message
        assert self.registered(project) == set()

    def test_implicit_acts_are_warnings_that_can_be_made_errors(self, project: Any) -> None:
        self.write(project, "totals.sql", TOTALS + " order by k")
        _, shown = run_dbt_and_capture(["run"])
        assert "order" in shown.lower()
        assert "WARN" in shown or "warn" in shown


class TestConfigurationChange(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES}

    def test_continue_leaves_the_table_and_warns(self, project: Any) -> None:
        run_dbt(["run"])
        text = TOTALS.replace("schedule='1h'", "schedule='3h', on_configuration_change='continue'")
        self.write(project, "totals.sql", text)
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] == "skip"
        schedule = f"select schedule from pgtrickle.stream_tables_info where schema = '{project.test_schema}'"
        assert project.run_sql(schedule, fetch="one")[0] == "1h"

    def test_fail_stops_the_run(self, project: Any) -> None:
        run_dbt(["run"])
        text = TOTALS.replace("schedule='1h'", "schedule='3h', on_configuration_change='fail'")
        self.write(project, "totals.sql", text)
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "on_configuration_change" in result.message

    def test_unchanged_model_passes_whatever_the_policy(self, project: Any) -> None:
        run_dbt(["run"])
        for policy in ("continue", "fail"):
            text = TOTALS.replace("schedule='1h'", f"schedule='1h', on_configuration_change='{policy}'")
            self.write(project, "totals.sql", text)
            (result,) = run_dbt(["run"])
            assert result.adapter_response["action"] == "none"
