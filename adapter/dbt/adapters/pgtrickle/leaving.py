"""A model that was a stream table becomes something else: dbt's own materializations, without their CASCADE.

They build the successor beside it, rename the stream table to ``..__dbt_backup``, rename the successor to its name,
commit, and drop the backup. In between, within dbt's transaction, the views that read the stream table are pointed to
the successor.
"""

from __future__ import annotations

from threading import local
from typing import TYPE_CHECKING, Any

from dbt.adapters.pgtrickle import queries, swap
from dbt.adapters.pgtrickle.failures import translated
from dbt.adapters.pgtrickle.relation import PgTrickleRelation
from dbt_common.exceptions import CompilationError

from pgtrickle.errors import DependentsExist

if TYPE_CHECKING:
    from dbt.adapters.pgtrickle.impl import PgTrickleAdapter


class Departures(local):
    """Of this thread: what waits to be pointed to the successor, by the name that the successor will have."""

    def __init__(self) -> None:
        self._views: dict[str, tuple[swap.DependentView, ...]] = {}

    def before_rename(self, adapter: PgTrickleAdapter, old: PgTrickleRelation, new: PgTrickleRelation) -> None:
        """A stream table is about to be moved out of the way: remember who reads it."""
        if old.is_stream_table or new.is_stream_table:
            self._views[old.engine_name] = swap.readers(adapter.fetch, old)

    def after_rename(self, adapter: PgTrickleAdapter, new: PgTrickleRelation) -> None:
        """The successor has got the name: its readers follow."""
        swap.point_to_new(adapter.run, new, self._views.pop(new.engine_name, ()))


def before_model(adapter: PgTrickleAdapter, config: Any) -> Any:
    """Prepare a run of a model that is a stream table in the database, but no longer in the project.

    ``incremental`` must rebuild it as a whole: there is no table of its own yet to add rows to.

    Returns:
        what ``after_model`` has to restore, None if nothing.
    """
    node: Any = config.model
    materialized = node.config.materialized
    if materialized not in ("incremental", "materialized_view"):
        return None
    existing = adapter.get_relation(node.database, node.schema, node.alias)
    if existing is None or not existing.is_stream_table:
        return None
    if materialized == "materialized_view":
        raise CompilationError(
            f"{existing.engine_name} is a stream table: drop it first, "
            f"`dbt run-operation drop_stream_table --args '{{name: {existing.schema}.{existing.identifier}}}'`."
        )
    before = node.config.full_refresh
    node.config.full_refresh = True
    return (before,)


def after_model(config: Any, context: Any) -> None:
    """Restore what ``before_model`` changed."""
    if context is not None:
        (config.model.config.full_refresh,) = context


def drop_stream_table(adapter: PgTrickleAdapter, relation: PgTrickleRelation) -> None:
    """Drop a stream table that dbt has done with; stream tables that read it move to its successor first."""
    with translated():
        engine = adapter.engine_for_writing()
        try:
            engine.drop_stream_table(relation.engine_name, if_exists=True)
        except DependentsExist:
            # A refresh looks names up again and finds the successor.
            reading = adapter.fetch(queries.reading_stream_tables(relation.stored_schema, relation.stored_identifier))
            adapter.connections.end_transaction()
            engine.refresh_all([row["name"] for row in reading])
            engine.drop_stream_table(relation.engine_name, if_exists=True)
