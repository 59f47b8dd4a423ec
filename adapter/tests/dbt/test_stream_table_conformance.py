"""dbt's own tests of tables, with the models materialized as stream tables: the same assertions must hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from dbt.tests.adapter.aliases.test_aliases import BaseAliases
from dbt.tests.adapter.constraints import fixtures as constraint_models
from dbt.tests.adapter.constraints.test_constraints import BaseConstraintsRollback, BaseTableConstraintsColumnsEqual
from dbt.tests.adapter.empty import _models as empty_models
from dbt.tests.adapter.grants import test_model_grants as grants
from dbt.tests.adapter.hooks import test_model_hooks as hooks
from dbt.tests.adapter.persist_docs import fixtures as docs_models
from dbt.tests.adapter.persist_docs.test_persist_docs import BasePersistDocs, BasePersistDocsColumnMissing
from dbt.tests.adapter.relations.test_changing_relation_type import BaseChangeRelationTypeValidator
from dbt.tests.adapter.unit_testing.test_case_insensitivity import BaseUnitTestCaseInsensivity
from dbt.tests.adapter.unit_testing.test_types import BaseUnitTestingTypes
from dbt.tests.util import run_dbt

pytestmark = pytest.mark.newest_only

TABLE = re.compile(r"(materialized\s*[=:]\s*)(['\"]?)table\2")
BY_DEFAULT = {"models": {"+materialized": "stream_table"}}


@pytest.fixture(scope="module")
def test_data_dir() -> Path:
    """The SQL files that dbt's hook tests read."""
    return Path(str(hooks.__file__)).parent / "data"


def streamed(text: str) -> str:
    """A model or a properties file with ``table`` replaced by ``stream_table``."""
    changed, count = TABLE.subn(r"\1\2stream_table\2", text)
    assert count, text
    return changed


class TestChangeRelationType(BaseChangeRelationTypeValidator):
    def test_changing_materialization_changes_relation_type(self, project: Any) -> None:
        for materialization in ("stream_table", "view", "stream_table", "table", "stream_table", "incremental"):
            self._run_and_check_materialization(materialization)
            found = project.run_sql(
                f"select materialization from {project.test_schema}.model_mc_modelface", fetch="all"
            )
            assert [tuple(row) for row in found] == [(materialization,)]
        self._run_and_check_materialization("stream_table", extra_args=["--full-refresh"])
        self._run_and_check_materialization("incremental", extra_args=["--full-refresh"])
        left = project.run_sql(
            "select count(*) from pgtrickle.stream_tables_info where name like 'model_mc%'", fetch="one"
        )
        assert left[0] == 0


class TestGrants(grants.BaseModelGrants):
    @pytest.fixture(autouse=True)
    def as_stream_tables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (
            "table_model_schema_yml",
            "user2_table_model_schema_yml",
            "multiple_users_table_model_schema_yml",
            "multiple_privileges_table_model_schema_yml",
        ):
            monkeypatch.setattr(grants, name, streamed(getattr(grants, name)))

    def test_view_table_grants(self, project: Any, get_test_users: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = grants.get_manifest

        class Renamed:
            """The base test asks whether the model is a ``table``."""

            def __init__(self, config: Any) -> None:
                self.config = config

            def __getattr__(self, name: str) -> Any:
                value = getattr(self.config, name)
                return "table" if value == "stream_table" else value

        def manifest(root: str) -> Any:
            found = wanted(root)
            for node in found.nodes.values():
                node.config = Renamed(node.config)
            return found

        monkeypatch.setattr(grants, "get_manifest", manifest)
        super().test_view_table_grants(project, get_test_users)


class TestPersistDocs(BasePersistDocs):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "no_docs_model.sql": docs_models._MODELS__NO_DOCS_MODEL,
            "table_model.sql": streamed(docs_models._MODELS__TABLE),
            "view_model.sql": docs_models._MODELS__VIEW,
        }


class TestPersistDocsColumnMissing(BasePersistDocsColumnMissing):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"missing_column.sql": streamed(docs_models._MODELS__MISSING_COLUMN)}


class TestHooks(hooks.BasePrePostModelHooksInConfigWithCount):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        text = hooks.fixtures.models__hooks_configured
        return {"hooks.sql": text.replace("config({", "config({\n'materialized': 'stream_table',", 1)}

    def get_ctx_vars(self, *args: Any, **kwargs: Any) -> Any:
        found = super().get_ctx_vars(*args, **kwargs)
        for context in found:
            assert context["target_type"] == "pgtrickle"
            context["target_type"] = "postgres"
        return found

    def test_hooks_ran_around_a_stream_table(self, project: Any) -> None:
        run_dbt()
        kind = project.run_sql("select count(*) from pgtrickle.stream_tables_info where name = 'hooks'", fetch="one")
        assert kind[0] == 1


class TestConstraintsColumnsEqual(BaseTableConstraintsColumnsEqual):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "my_model_wrong_order.sql": streamed(constraint_models.my_model_wrong_order_sql),
            "my_model_wrong_name.sql": streamed(constraint_models.my_model_wrong_name_sql),
            "constraints_schema.yml": constraint_models.model_schema_yml,
        }


class TestConstraintsRollback(BaseConstraintsRollback):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "my_model.sql": streamed(constraint_models.my_model_sql),
            "constraints_schema.yml": constraint_models.model_schema_yml,
        }

    @pytest.fixture(scope="class")
    def null_model_sql(self) -> str:
        return streamed(constraint_models.my_model_with_nulls_sql)


@pytest.mark.slow
class TestUnitTestingTypes(BaseUnitTestingTypes):
    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        return BY_DEFAULT


class TestUnitTestCaseInsensitivity(BaseUnitTestCaseInsensivity):
    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        return BY_DEFAULT


class TestAliases(BaseAliases):
    @pytest.fixture(scope="class")
    def project_config_update(
        self,
    ) -> dict[str, Any]:
        return {
            "config-version": 2,
            "macro-paths": ["macros"],
            "models": {
                "test": {
                    "+materialized": "stream_table",
                    "alias_in_project": {"alias": "project_alias"},
                    "alias_in_project_with_override": {"alias": "project_alias"},
                }
            },
        }


class TestEmptyFlag:
    """``--empty``: on its own it makes an empty table; it never changes a stream table."""

    @pytest.fixture(scope="class")
    def seeds(self) -> dict[str, str]:
        return {"raw_source.csv": empty_models.raw_source_csv}

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "model_input.sql": empty_models.model_input_sql,
            "ephemeral_model_input.sql": empty_models.ephemeral_model_input_sql,
            "model.sql": "{{ config(materialized='stream_table') }}\n" + empty_models.model_sql,
            "sources.yml": empty_models.schema_sources_yml,
        }

    def rows(self, project: Any) -> int:
        return project.run_sql(f"select count(*) from {project.test_schema}.model", fetch="one")[0]

    def test_empty_builds_an_empty_table_that_the_next_run_replaces(self, project: Any) -> None:
        run_dbt(["seed"])
        run_dbt(["run", "--empty"])
        assert self.rows(project) == 0
        (result,) = [one for one in run_dbt(["run"]) if one.node.name == "model"]
        assert result.adapter_response["action"] == "create"
        assert self.rows(project) == 3

    def test_empty_leaves_a_stream_table_as_it_is(self, project: Any) -> None:
        query = "select query from pgtrickle.stream_tables_info where name = 'model'"
        before = project.run_sql(query, fetch="all")
        results = run_dbt(["run", "--empty"])
        assert {one.node.name: one.adapter_response.get("action") for one in results}["model"] == "skip"
        assert project.run_sql(query, fetch="all") == before
        assert self.rows(project) == 3
