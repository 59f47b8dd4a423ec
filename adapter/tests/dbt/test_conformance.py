"""dbt's own adapter tests, unchanged: with ``type: pgtrickle`` everything that dbt-postgres does still works.

Only the hook tests are bent: they expect the adapter to be called ``postgres``. What differs little from another test
and nothing of ours touches is slow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dbt.tests.adapter.basic.test_adapter_methods import BaseAdapterMethod
from dbt.tests.adapter.basic.test_base import BaseSimpleMaterializations
from dbt.tests.adapter.basic.test_docs_generate import BaseDocsGenerate, BaseDocsGenReferences
from dbt.tests.adapter.basic.test_empty import BaseEmpty
from dbt.tests.adapter.basic.test_ephemeral import BaseEphemeral
from dbt.tests.adapter.basic.test_generic_tests import BaseGenericTests
from dbt.tests.adapter.basic.test_incremental import (
    BaseIncremental,
    BaseIncrementalBadStrategy,
    BaseIncrementalNotSchemaChange,
)
from dbt.tests.adapter.basic.test_singular_tests import BaseSingularTests
from dbt.tests.adapter.basic.test_singular_tests_ephemeral import BaseSingularTestsEphemeral
from dbt.tests.adapter.basic.test_snapshot_check_cols import BaseSnapshotCheckCols
from dbt.tests.adapter.basic.test_snapshot_timestamp import BaseSnapshotTimestamp
from dbt.tests.adapter.basic.test_table_materialization import BaseTableMaterialization
from dbt.tests.adapter.basic.test_validate_connection import BaseValidateConnection
from dbt.tests.adapter.caching.test_caching import (
    BaseCachingLowercaseModel,
    BaseCachingSelectedSchemaOnly,
    BaseCachingUppercaseModel,
    BaseNoPopulateCache,
)
from dbt.tests.adapter.concurrency.test_concurrency import BaseConcurrency
from dbt.tests.adapter.grants.test_incremental_grants import BaseIncrementalGrants
from dbt.tests.adapter.grants.test_invalid_grants import BaseInvalidGrants
from dbt.tests.adapter.grants.test_model_grants import BaseModelGrants
from dbt.tests.adapter.grants.test_seed_grants import BaseSeedGrants
from dbt.tests.adapter.grants.test_snapshot_grants import BaseSnapshotGrants
from dbt.tests.adapter.hooks import test_model_hooks as model_hooks
from dbt.tests.adapter.hooks import test_run_hooks as run_hooks
from dbt.tests.adapter.incremental.test_incremental_merge_exclude_columns import BaseMergeExcludeColumns
from dbt.tests.adapter.incremental.test_incremental_microbatch import BaseMicrobatch
from dbt.tests.adapter.incremental.test_incremental_on_schema_change import BaseIncrementalOnSchemaChange
from dbt.tests.adapter.incremental.test_incremental_predicates import BaseIncrementalPredicates
from dbt.tests.adapter.incremental.test_incremental_unique_id import BaseIncrementalUniqueKey
from dbt.tests.adapter.persist_docs.test_persist_docs import (
    BasePersistDocs,
    BasePersistDocsAllColumnsMissing,
    BasePersistDocsColumnMissing,
    BasePersistDocsCommentOnQuotedColumn,
    BasePersistDocsQuotedColumnCaseSensitive,
    BasePersistDocsQuotedDescriptionNotAppliedOnMismatch,
)

pytestmark = pytest.mark.newest_only


@pytest.fixture(scope="module")
def test_data_dir() -> Path:
    """The SQL files that dbt's hook tests read."""
    return Path(str(model_hooks.__file__)).parent / "data"


# --- basic ------------------------------------------------------------------------------------------------------------


class TestAdapterMethods(BaseAdapterMethod):
    pass


class TestSimpleMaterializations(BaseSimpleMaterializations):
    pass


class TestDocsGenerate(BaseDocsGenerate):
    pass


class TestDocsGenReferences(BaseDocsGenReferences):
    pass


class TestEmpty(BaseEmpty):
    pass


class TestEphemeral(BaseEphemeral):
    pass


class TestGenericTests(BaseGenericTests):
    pass


class TestIncremental(BaseIncremental):
    pass


class TestIncrementalNotSchemaChange(BaseIncrementalNotSchemaChange):
    pass


class TestIncrementalBadStrategy(BaseIncrementalBadStrategy):
    pass


class TestSingularTests(BaseSingularTests):
    pass


class TestSingularTestsEphemeral(BaseSingularTestsEphemeral):
    pass


class TestSnapshotCheckCols(BaseSnapshotCheckCols):
    pass


@pytest.mark.slow
class TestSnapshotTimestamp(BaseSnapshotTimestamp):
    pass


class TestTableMaterialization(BaseTableMaterialization):
    pass


class TestValidateConnection(BaseValidateConnection):
    pass


# --- caching and concurrency ------------------------------------------------------------------------------------------


class TestCachingLowercaseModel(BaseCachingLowercaseModel):
    pass


class TestCachingUppercaseModel(BaseCachingUppercaseModel):
    pass


class TestCachingSelectedSchemaOnly(BaseCachingSelectedSchemaOnly):
    pass


class TestNoPopulateCache(BaseNoPopulateCache):
    pass


class TestConcurrency(BaseConcurrency):
    pass


# --- grants -----------------------------------------------------------------------------------------------------------


class TestModelGrants(BaseModelGrants):
    pass


@pytest.mark.slow
class TestIncrementalGrants(BaseIncrementalGrants):
    pass


@pytest.mark.slow
class TestSeedGrants(BaseSeedGrants):
    pass


@pytest.mark.slow
class TestSnapshotGrants(BaseSnapshotGrants):
    pass


class TestInvalidGrants(BaseInvalidGrants):
    def grantee_does_not_exist_error(self) -> str:
        return "does not exist"

    def privilege_does_not_exist_error(self) -> str:
        return "unrecognized privilege type"


# --- persist_docs -----------------------------------------------------------------------------------------------------


class TestPersistDocs(BasePersistDocs):
    pass


class TestPersistDocsColumnMissing(BasePersistDocsColumnMissing):
    pass


@pytest.mark.slow
class TestPersistDocsAllColumnsMissing(BasePersistDocsAllColumnsMissing):
    pass


class TestPersistDocsQuotedColumnCaseSensitive(BasePersistDocsQuotedColumnCaseSensitive):
    pass


@pytest.mark.slow
class TestPersistDocsQuotedDescriptionNotAppliedOnMismatch(BasePersistDocsQuotedDescriptionNotAppliedOnMismatch):
    pass


class TestPersistDocsCommentOnQuotedColumn(BasePersistDocsCommentOnQuotedColumn):
    pass


# --- hooks ------------------------------------------------------------------------------------------------------------


class CalledPgtrickle:
    """Check the adapter's name here, where the base class would expect ``postgres``."""

    def get_ctx_vars(self, *args: Any, **kwargs: Any) -> Any:
        found = super().get_ctx_vars(*args, **kwargs)  # type: ignore[misc]
        for context in found if isinstance(found, list) else [found]:
            assert context["target_type"] == "pgtrickle"
            context["target_type"] = "postgres"
        return found


class TestPrePostRunHooks(CalledPgtrickle, run_hooks.BasePrePostRunHooks):
    pass


class TestAfterRunHooks(run_hooks.BaseAfterRunHooks):
    pass


class TestPrePostModelHooks(CalledPgtrickle, model_hooks.BasePrePostModelHooks):
    pass


class TestHookRefs(CalledPgtrickle, model_hooks.BaseHookRefs):
    pass


class TestPrePostModelHooksInConfig(CalledPgtrickle, model_hooks.BasePrePostModelHooksInConfig):
    pass


@pytest.mark.slow
class TestPrePostModelHooksInConfigWithCount(CalledPgtrickle, model_hooks.BasePrePostModelHooksInConfigWithCount):
    pass


@pytest.mark.slow
class TestPrePostModelHooksInConfigKwargs(CalledPgtrickle, model_hooks.BasePrePostModelHooksInConfigKwargs):
    pass


class TestPrePostModelHooksOnSeeds(model_hooks.BasePrePostModelHooksOnSeeds):
    pass


class TestHooksRefsOnSeeds(model_hooks.BaseHooksRefsOnSeeds):
    pass


@pytest.mark.slow
class TestPrePostModelHooksOnSnapshots(model_hooks.BasePrePostModelHooksOnSnapshots):
    pass


@pytest.mark.slow
class TestPrePostSnapshotHooksInConfigKwargs(model_hooks.BasePrePostSnapshotHooksInConfigKwargs):
    pass


class TestDuplicateHooksInConfigs(model_hooks.BaseDuplicateHooksInConfigs):
    pass


# --- incremental ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
class TestIncrementalOnSchemaChange(BaseIncrementalOnSchemaChange):
    pass


@pytest.mark.slow
class TestIncrementalPredicatesDeleteInsert(BaseIncrementalPredicates):
    pass


@pytest.mark.slow
class TestPredicatesDeleteInsert(BaseIncrementalPredicates):
    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        return {"models": {"+predicates": ["id != 2"], "+incremental_strategy": "delete+insert"}}


@pytest.mark.slow
class TestIncrementalUniqueKey(BaseIncrementalUniqueKey):
    pass


@pytest.mark.slow
class TestMergeExcludeColumns(BaseMergeExcludeColumns):
    pass


@pytest.mark.slow
class TestMicrobatch(BaseMicrobatch):
    pass
