"""A stream table model among others: what it replaces, what reads it, what it reads, hooks and constraints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dbt.tests.util import run_dbt, run_dbt_and_capture, write_file

from tests.dbt.items import SOURCES, TOTALS, WithItems

pytestmark = pytest.mark.newest_only


class TestReplacement(WithItems):
    """Other kinds of relation become stream tables and the other way round."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"totals.sql": TOTALS, "sources.yml": SOURCES}

    def as_kind(self, project: Any, kind: str) -> None:
        self.write(project, "totals.sql", TOTALS.replace("stream_table", kind))

    @pytest.mark.parametrize("kind", ["table", "view", "incremental"])
    def test_a_view_on_it_survives_both_ways(self, project: Any, kind: str) -> None:
        self.as_kind(project, kind)
        run_dbt(["run"])
        project.run_sql("create view {schema}.reader with (security_barrier) as select k, n from {schema}.totals")
        project.run_sql("grant select on {schema}.reader to dbt_test_user_1")
        reader = self.oid(project, "reader")
        self.as_kind(project, "stream_table")
        run_dbt(["run"])
        assert self.registered(project) == {"totals"}
        assert len(self.rows(project, "reader")) == 3
        self.as_kind(project, kind)
        run_dbt(["run"])
        assert self.registered(project) == set()
        assert len(self.rows(project, "reader")) == 3
        assert self.oid(project, "reader") == reader
        granted = f"select has_table_privilege('dbt_test_user_1', {reader}::oid, 'select')"
        assert project.run_sql(granted, fetch="one")[0]
        options = f"select reloptions::text from pg_class where oid = {reader}"
        assert "security_barrier=true" in project.run_sql(options, fetch="one")[0]
        project.run_sql("drop view {schema}.reader")

    def test_materialized_view_becomes_a_stream_table_and_back_only_by_hand(self, project: Any) -> None:
        self.as_kind(project, "materialized_view")
        run_dbt(["run"])
        self.as_kind(project, "stream_table")
        run_dbt(["run"])
        assert self.registered(project) == {"totals"}
        self.as_kind(project, "materialized_view")
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "run-operation drop_stream_table" in result.message
        assert self.registered(project) == {"totals"}

    def test_what_cannot_follow_stops_the_run_and_is_listed(self, project: Any) -> None:
        run_dbt(["run"])
        project.run_sql("create materialized view {schema}.fixed as select k from {schema}.totals")
        self.as_kind(project, "table")
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "fixed" in result.message
        assert self.registered(project) == {"totals"}
        assert len(self.rows(project, "totals")) == 3
        project.run_sql("drop materialized view {schema}.fixed")
        run_dbt(["run"])
        project.run_sql("create materialized view {schema}.fixed as select k from {schema}.totals")
        self.as_kind(project, "stream_table")
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "fixed" in result.message
        assert self.registered(project) == set()
        project.run_sql("drop materialized view {schema}.fixed")

    def test_stream_tables_that_read_it_follow(self, project: Any) -> None:
        self.write(
            project,
            "upper.sql",
            "{{ config(materialized='stream_table') }} select k, n * 2 as twice from {{ ref('totals') }}",
        )
        run_dbt(["run"])
        self.as_kind(project, "table")
        run_dbt(["run"])
        assert self.registered(project) == {"upper"}
        project.run_sql("insert into {schema}.totals values (9, 5, 0)")
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        assert (9, 10) in self.rows(project, "upper")
        self.as_kind(project, "stream_table")
        run_dbt(["run"])
        assert self.registered(project) == {"totals", "upper"}
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        assert self.rows(project, "upper") == [(0, 8), (1, 8), (2, 8)]


@pytest.mark.slow
class TestReplacementWithAutocommit(TestReplacement):
    """The same where every statement of dbt commits by itself."""

    @pytest.fixture(scope="class")
    def dbt_profile_target(self, dbt_profile_target: dict[str, Any]) -> dict[str, Any]:
        return {**dbt_profile_target, "autocommit": True}


class TestHooks(WithItems):
    """Four points, and no deadlock with a hook that touches a source."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        hooks = """
{{ config(
    materialized='stream_table',
    pre_hook=[
      {'sql': "vacuum {{ this.schema }}.items", 'transaction': False},
      "insert into {{ this.schema }}.log
       select 'pre', count(*), to_regclass('{{ this }}') is null from {{ this.schema }}.items",
      "update {{ this.schema }}.items set v = v + 1",
    ],
    post_hook=[
      "insert into {{ this.schema }}.log select 'post', count(*), false from {{ this }}",
      {'sql': "vacuum {{ this }}", 'transaction': False},
    ],
) }}
"""
        return {
            "totals.sql": TOTALS.replace("{{ config(materialized='stream_table', schedule='1h') }}", hooks),
            "sources.yml": SOURCES,
        }

    def test_all_four_run_in_order_around_the_build(self, project: Any) -> None:
        project.run_sql("create table {schema}.log (word text, counted bigint, absent bool)")
        run_dbt(["run"])
        logged = project.run_sql("select word, counted, absent from {schema}.log", fetch="all")
        assert [tuple(row) for row in logged] == [("pre", 12, True), ("post", 3, False)]
        assert self.rows(project, "totals") == [(0, 4, 34), (1, 4, 26), (2, 4, 30)]


class TestConstraintsAndIndexes(WithItems):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "totals.sql": TOTALS.replace("schedule='1h'", "indexes=[{'columns': ['total', 'k']}]"),
            "sources.yml": SOURCES,
            "properties.yml": """
version: 2
models:
  - name: totals
    config: {contract: {enforced: true}}
    constraints:
      - {type: check, expression: "n < 5"}
    columns:
      - {name: k, data_type: integer, constraints: [{type: primary_key}]}
      - {name: n, data_type: bigint, constraints: [{type: not_null}]}
      - {name: total, data_type: bigint}
""",
        }

    def test_contract_becomes_real_constraints_once(self, project: Any) -> None:
        run_dbt(["run"])
        kinds = """
            select string_agg(contype::text, '' order by contype) from pg_constraint
            where conrelid = '{schema}.totals'::regclass and contype <> 'n'"""
        assert project.run_sql(kinds, fetch="one")[0] == "cp"
        index = "select count(*) from pg_indexes where schemaname = '{schema}' and indexdef like '%(total, k)'"
        assert project.run_sql(index, fetch="one")[0] == 1
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] == "none"
        assert project.run_sql(kinds, fetch="one")[0] == "cp"
        assert project.run_sql(index, fetch="one")[0] == 1

    def test_constraint_that_the_contract_gives_up_does_not_stop_new_content(self, project: Any) -> None:
        run_dbt(["run"])
        self.write(project, "totals.sql", TOTALS.replace("count(*) as n", "count(*) + 100 as n"))
        run_dbt(["run"], expect_pass=False)
        properties = (Path(project.project_root) / "models" / "properties.yml").read_text()
        self.write(project, "properties.yml", properties.replace("n < 5", "n < 500"))
        run_dbt(["run"])
        assert self.rows(project, "totals", "n")[0] == (104,)
        self.write(project, "totals.sql", TOTALS.replace("count(*) as n", "nullif(count(*), 4) as n"))
        run_dbt(["run"], expect_pass=False)
        self.write(project, "properties.yml", properties.replace("constraints: [{type: not_null}]", "description: x"))
        run_dbt(["run"])
        assert self.rows(project, "totals", "n")[0] == (None,)

    def test_indexes_are_made_once_after_a_table_was_replaced(self, project: Any) -> None:
        run_dbt(["run-operation", "drop_all_stream_tables"])
        self.write(project, "totals.sql", TOTALS.replace("stream_table", "table"))
        run_dbt(["run"])
        project.run_sql("create table {schema}.totals__dbt_backup (a int)")
        self.write(project, "totals.sql", TOTALS.replace("schedule='1h'", "indexes=[{'columns': ['total', 'k']}]"))
        run_dbt(["run"])
        (result,) = run_dbt(["run"])
        assert result.adapter_response["action"] == "none"
        index = "select count(*) from pg_indexes where schemaname = '{schema}' and indexdef like '%(total, k)'"
        assert project.run_sql(index, fetch="one")[0] == 1

    def test_refresh_that_would_violate_one_fails_and_leaves_the_content(self, project: Any) -> None:
        run_dbt(["run"])
        before = self.rows(project, "totals")
        project.run_sql("insert into {schema}.items values (50, 0, 1)")
        _, shown = run_dbt_and_capture(["run-operation", "refresh_all_stream_tables"], expect_pass=False)
        assert "violates check constraint" in shown
        assert self.rows(project, "totals") == before
        project.run_sql("delete from {schema}.items where id = 50")

    def test_first_load_that_violates_one_leaves_nothing(self, project: Any) -> None:
        project.run_sql("insert into {schema}.items values (50, 0, 1)")
        self.write(project, "totals.sql", TOTALS.replace("schedule='1h'", "alias='violating'"))
        (result,) = run_dbt(["run"], expect_pass=False)
        assert "violates check constraint" in result.message
        assert "violating" not in self.registered(project)
        assert project.run_sql("select to_regclass('{schema}.violating') is null", fetch="one")[0]
        project.run_sql("delete from {schema}.items where id = 50")


class TestParents(WithItems):
    """Parents that dbt rebuilds on each run: the stream table follows them."""

    @pytest.fixture(scope="class")
    def seeds(self) -> dict[str, str]:
        return {"plan.csv": "k,target\n0,10\n1,20\n2,30\n"}

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "as_view.sql": "{{ config(materialized='view') }} select * from {{ source('app', 'items') }}",
            "as_table.sql": "{{ config(materialized='table') }} select * from {{ source('app', 'items') }}",
            "as_incremental.sql": """{{ config(materialized='incremental', unique_key='id') }}
                select * from {{ source('app', 'items') }}
                {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}""",
            "joined.sql": """{{ config(materialized='stream_table', schedule='1h') }}
                select v.id, v.v as of_view, t.v as of_table, i.v as of_incremental, p.target
                from {{ ref('as_view') }} v
                join {{ ref('as_table') }} t on t.id = v.id
                join {{ ref('as_incremental') }} i on i.id = v.id
                left join {{ ref('plan') }} p on p.k = v.k""",
            "sources.yml": SOURCES,
        }

    def test_follows_view_table_incremental_and_seed(self, project: Any) -> None:
        run_dbt(["build"])
        assert len(self.rows(project, "joined")) == 12
        project.run_sql("insert into {schema}.items values (13, 1, 13)")
        run_dbt(["build"])
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        assert self.rows(project, "joined")[-1] == (13, 13, 13, 13, 20)
        write_file("k,target\n0,10\n1,21\n2,30\n", project.project_root, "seeds", "plan.csv")
        run_dbt(["seed"])
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        assert self.rows(project, "joined")[-1] == (13, 13, 13, 13, 21)
        run_dbt(["seed", "--full-refresh"])
        run_dbt(["run", "--full-refresh"])
        run_dbt(["run-operation", "refresh_all_stream_tables"])
        assert self.rows(project, "joined")[-1] == (13, 13, 13, 13, 21)


class TestThreads(WithItems):
    """Eight models at once on one source, the first of which installs the engine."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {**{f"totals_{number}.sql": TOTALS for number in range(8)}, "sources.yml": SOURCES}

    def test_models_are_built_in_parallel(self, project: Any) -> None:
        results = run_dbt(["run", "--threads", "8"])
        assert {result.adapter_response["action"] for result in results} == {"create"}
        assert len(self.registered(project)) == 8
