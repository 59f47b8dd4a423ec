"""The dbt adapter ``type: pgtrickle``: PostgreSQL, plus stream tables."""

from __future__ import annotations

from dbt.adapters.base.plugin import AdapterPlugin
from dbt.adapters.pgtrickle.connections import PgTrickleConnectionManager, PgTrickleCredentials
from dbt.adapters.pgtrickle.impl import PgTrickleAdapter
from dbt.adapters.pgtrickle.relation import PgTrickleRelation
from dbt.include.pgtrickle import PACKAGE_PATH

__all__ = ["PgTrickleAdapter", "PgTrickleConnectionManager", "PgTrickleCredentials", "PgTrickleRelation", "Plugin"]

#: dbt registers the internal project as ``dbt_<directory>`` unless told otherwise; that would be the name of the
#: package on dbt Hub, and dbt refuses two projects of one name.
Plugin = AdapterPlugin(
    adapter=PgTrickleAdapter,  # type: ignore[arg-type]
    credentials=PgTrickleCredentials,
    include_path=PACKAGE_PATH,
    dependencies=["postgres"],
    project_name="dbt_pgtrickle_adapter",
)
