"""A dbt project with one source table and one stream table on it, to be varied by the tests."""

from __future__ import annotations

from typing import Any

import pytest
from dbt.tests.util import write_file

TOTALS = """
{{ config(materialized='stream_table', schedule='1h') }}
select k, count(*) as n, sum(v) as total from {{ source('app', 'items') }} group by k
"""
SOURCES = """
version: 2
sources:
  - name: app
    schema: "{{ target.schema }}"
    tables: [{name: items}]
"""


class WithItems:
    """A project with one source table ``items (id, k, v)``."""

    @pytest.fixture(scope="class", autouse=True)
    def items(self, project: Any) -> None:
        project.run_sql("create table {schema}.items (id int primary key, k int not null, v int)")
        project.run_sql("insert into {schema}.items select g, g % 3, g from generate_series(1, 12) g")

    @pytest.fixture(autouse=True)
    def models_as_at_first(self, project: Any, models: dict[str, str]) -> None:
        for name, text in models.items():
            write_file(text, project.project_root, "models", name)

    def write(self, project: Any, name: str, text: str) -> None:
        write_file(text, project.project_root, "models", name)

    def rows(self, project: Any, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
        found = project.run_sql(f"select {columns} from {project.test_schema}.{table} order by 1", fetch="all")
        return [tuple(row) for row in found]

    def oid(self, project: Any, table: str) -> int:
        return project.run_sql(f"select '{project.test_schema}.{table}'::regclass::oid::bigint", fetch="one")[0]

    def registered(self, project: Any) -> set[str]:
        """Stream tables of the target schema; none if the engine was never installed."""
        if project.run_sql("select to_regclass('pgtrickle.stream_tables_info')::text", fetch="one")[0] is None:
            return set()
        query = f"select name from pgtrickle.stream_tables_info where schema = '{project.test_schema}'"
        return {row[0] for row in project.run_sql(query, fetch="all")}
