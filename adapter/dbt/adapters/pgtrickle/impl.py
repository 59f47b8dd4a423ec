"""The adapter: dbt-postgres, with stream tables known to it. Everything that is not glue is done elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from multiprocessing.context import SpawnContext
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from dbt.adapters.base.meta import available
from dbt.adapters.capability import Capability, CapabilityDict, CapabilitySupport, Support
from dbt.adapters.pgtrickle import build, catalog, documentation, freshness, leaving, operations, probes, queries
from dbt.adapters.pgtrickle.config import PgTrickleConfig
from dbt.adapters.pgtrickle.connections import PgTrickleConnectionManager
from dbt.adapters.pgtrickle.failures import translated
from dbt.adapters.pgtrickle.relation import PgTrickleRelation, PgTrickleRelationType
from dbt.adapters.pgtrickle.response import StreamTableResponse, skipped
from dbt.adapters.postgres.impl import PostgresAdapter
from dbt.adapters.reference_keys import _make_ref_key
from dbt_common.exceptions import CompilationError, DbtRuntimeError
from psycopg.sql import Composable

if TYPE_CHECKING:
    import agate

    from pgtrickle.api import PgTrickle

#: Raised when macros start to need something of the adapter that older ones do not have.
MACRO_VERSION = 1


class PgTrickleAdapter(PostgresAdapter):
    """PostgreSQL with stream tables."""

    Relation = PgTrickleRelation
    ConnectionManager = PgTrickleConnectionManager
    AdapterSpecificConfigs = PgTrickleConfig
    connections: PgTrickleConnectionManager

    _capabilities = CapabilityDict(
        {
            Capability.SchemaMetadataByRelations: CapabilitySupport(support=Support.Full),
            Capability.TableLastModifiedMetadata: CapabilitySupport(support=Support.Full),
            Capability.TableLastModifiedMetadataBatch: CapabilitySupport(support=Support.Full),
        }
    )

    def __init__(self, config: Any, mp_context: SpawnContext) -> None:
        super().__init__(config, mp_context)
        self._install_lock = Lock()
        self._installed = False
        self._leaving = leaving.Departures()

    # --- connections ------------------------------------------------------------------------------------------------

    def engine(self) -> PgTrickle:
        """This thread's engine session."""
        return self.connections.engine()

    def engine_for_writing(self) -> PgTrickle:
        """This thread's engine session; the first one of a run brings the engine's catalog up to date."""
        engine = self.engine()
        with self._install_lock:
            if not self._installed:
                with translated():
                    engine.install()
                self._installed = True
        return engine

    def fetch(self, query: Composable) -> list[dict[str, Any]]:
        """Rows of a query over dbt's connection."""
        _, table = self.execute(query.as_string(None), auto_begin=False, fetch=True)
        return [dict(zip(table.column_names, row.values(), strict=True)) for row in table.rows]

    def run(self, statement: Composable) -> None:
        """Execute a statement in dbt's transaction."""
        self.execute(statement.as_string(None), auto_begin=True)

    # --- what dbt asks of any adapter -------------------------------------------------------------------------------

    def registered(self, schemas: Iterable[str]) -> dict[tuple[str, str], dict[str, Any]]:
        """The stream tables in these schemas by schema and name; none if the engine is not installed."""
        wanted = sorted(set(schemas))
        if not wanted or not self.fetch(queries.INSTALLED):
            return {}
        return catalog.by_name(self.fetch(queries.registered(wanted)))

    def list_relations_without_caching(self, schema_relation: PgTrickleRelation) -> list[PgTrickleRelation]:
        """The relations of a schema, stream tables among them."""
        relations = cast("list[PgTrickleRelation]", super().list_relations_without_caching(schema_relation))
        names = self.registered([schema_relation.schema or ""])
        return [
            relation.incorporate(type=PgTrickleRelationType.StreamTable)
            if relation.is_table and (relation.schema, relation.identifier) in names
            else relation
            for relation in relations
        ]

    def _get_one_catalog(self, information_schema: Any, schemas: set[str], used_schemas: Any) -> agate.Table:
        table = super()._get_one_catalog(information_schema, schemas, used_schemas)
        return catalog.with_stream_tables(table, self.registered(schemas))

    def _get_one_catalog_by_relations(
        self, information_schema: Any, relations: list[PgTrickleRelation], used_schemas: Any
    ) -> agate.Table:
        table = super()._get_one_catalog_by_relations(information_schema, cast("Any", relations), used_schemas)
        return catalog.with_stream_tables(table, self.registered(one.schema or "" for one in relations))

    def pre_model_hook(self, config: Any) -> Any:
        """Make dbt's own materializations replace a stream table as a whole; see ``leaving``."""
        return leaving.before_model(self, config)

    def post_model_hook(self, config: Any, context: Any) -> None:
        """Undo ``pre_model_hook``."""
        leaving.after_model(config, context)

    def rename_relation(self, from_relation: PgTrickleRelation, to_relation: PgTrickleRelation) -> None:
        """Rename; views that read a stream table which is being replaced follow to its successor."""
        self._leaving.before_rename(self, from_relation, to_relation)
        super().rename_relation(from_relation, to_relation)
        self._leaving.after_rename(self, to_relation)

    def drop_relation(self, relation: PgTrickleRelation) -> None:
        """Drop; a stream table with its triggers and buffers, and never with CASCADE."""
        if not relation.is_stream_table:
            super().drop_relation(relation)
            return
        leaving.drop_stream_table(self, relation)
        self.forget(relation)

    def forget(self, relation: PgTrickleRelation) -> None:
        """Remove a relation from dbt's cache, but not the views that read it: they are still there."""
        with self.cache.lock:
            cached = self.cache.relations.get(_make_ref_key(relation))
            if cached is not None:
                cached.referenced_by.clear()
        self.cache_dropped(relation)

    def truncate_relation(self, relation: PgTrickleRelation) -> None:
        """Truncate; not a stream table, whose content is the result of its query."""
        if relation.is_stream_table:
            raise DbtRuntimeError(f"{relation.engine_name} is a stream table: its content cannot be truncated.")
        super().truncate_relation(relation)

    def drop_schema(self, relation: PgTrickleRelation) -> None:
        """Drop a schema; its stream tables first, so that no trigger of theirs stays behind."""
        rows = self.registered([relation.schema or ""])
        names = [
            PgTrickleRelation.create(schema=schema, identifier=name).engine_name
            for schema, name in rows
            if schema == relation.schema
        ]
        if names:
            self.connections.end_transaction()
            operations.drop(self.engine(), names)
        super().drop_schema(relation)

    # --- what the macros call ---------------------------------------------------------------------------------------

    @available
    def require_macro_version(self, version: int) -> str:
        """Refuse macros that do not belong to this adapter."""
        if version != MACRO_VERSION:
            raise CompilationError(
                f"The macros of dbt_pgtrickle (version {version}) and the adapter (version {MACRO_VERSION}) do not "
                "belong together: update packages.yml with `dbt deps`, or dbt-pgtrickle with pip."
            )
        return ""

    @available.parse_none
    def end_transaction(self) -> None:
        """Commit dbt's transaction, if there is one."""
        self.connections.end_transaction()

    @available.parse(lambda *a, **k: False)
    def is_partial_run(self) -> bool:
        """Whether ``--empty`` or ``--sample`` make ref() and source() render less than the relation."""
        arguments = self.config.args
        return bool(getattr(arguments, "empty", None)) or getattr(arguments, "sample", None) is not None

    @available.parse_none
    def stream_table_request(
        self,
        target: PgTrickleRelation,
        existing: PgTrickleRelation | None,
        model: Mapping[str, Any],
        query: str,
        full_refresh: bool = False,
    ) -> build.Request:
        """Check a model; see ``build.request``."""
        return build.request(target, existing, model, query, full_refresh)

    @available.parse_none
    def build_stream_table(self, wanted: build.Request) -> StreamTableResponse:
        """Create or alter; see ``build.build``."""
        return build.build(self, wanted)

    @available.parse_none
    def leave_stream_table(self, query: str) -> StreamTableResponse:
        """A run on a sample or on no data: check that the query is valid, leave the stream table as it is."""
        self.get_column_schema_from_query(query)
        return skipped("--empty or --sample: the stream table is left as it is")

    @available.parse(lambda *a, **k: False)
    def docs_differ(
        self, relation: PgTrickleRelation, model: Mapping[str, Any], for_relation: bool, for_columns: bool
    ) -> bool:
        """Whether the comments in the database differ from the model's descriptions."""
        return documentation.differ(self.fetch, relation, model, for_relation, for_columns)

    @available.parse_none
    def stream_tables_last_modified(self, relations: list[PgTrickleRelation]) -> freshness.LastModified:
        """What ``dbt source freshness`` asks for."""
        found = self.registered(one.stored_schema for one in relations)
        if len(relations) == 1 and (relations[0].stored_schema, relations[0].stored_identifier) not in found:
            raise DbtRuntimeError(
                f"{relations[0].render()} is no stream table, so PostgreSQL does not know when it was last loaded: "
                "set loaded_at_field or loaded_at_query on the source."
            )
        return freshness.last_modified(relations, found)

    # --- operations -------------------------------------------------------------------------------------------------

    @available.parse_list
    def refresh_stream_tables(
        self,
        graph: Mapping[str, Any],
        models: Any = None,
        schema: str | None = None,
        tag: str | None = None,
        full: bool = False,
    ) -> list[dict[str, Any]]:
        """Refresh the project's stream tables, or some of them, in dependency order."""
        chosen = operations.select(operations.models(graph, self.config.quoting), names=models, schema=schema, tag=tag)
        return operations.refresh(self.engine_for_writing(), chosen, full=full)

    @available.parse_list
    def check_stream_table_freshness(
        self,
        graph: Mapping[str, Any],
        models: Any = None,
        schema: str | None = None,
        tag: str | None = None,
        warn_seconds: float = 600,
        error_seconds: float = 1800,
    ) -> list[dict[str, Any]]:
        """Fail for stream tables that are missing, never loaded, suspended, erroring or too old."""
        chosen = operations.select(operations.models(graph, self.config.quoting), names=models, schema=schema, tag=tag)
        return operations.check_freshness(
            self.engine_for_writing(), chosen, warn_seconds=float(warn_seconds), error_seconds=float(error_seconds)
        )

    @available.parse_list
    def drop_stream_tables(
        self, graph: Mapping[str, Any], models: Any = None, schema: str | None = None, cascade: bool = False
    ) -> list[str]:
        """Drop the stream tables of the project's models, or of some."""
        chosen = operations.select(operations.models(graph, self.config.quoting), names=models, schema=schema)
        return operations.drop(self.engine_for_writing(), [model.relation for model in chosen], cascade=cascade)

    @available.parse_list
    def drop_every_stream_table(self) -> list[str]:
        """Drop all stream tables of the database, whoever made them."""
        engine = self.engine_for_writing()
        return operations.drop(engine, [row.name for row in engine.status()])

    @available.parse_none
    def drop_stream_table(self, name: Any, cascade: bool = False) -> list[str]:
        """Drop one stream table by its name in the database."""
        with translated():
            dropped = self.engine_for_writing().drop_stream_table(self.stream_table_name(name), cascade=cascade)
        return list(dropped.dropped)

    @available.parse_list
    def orphaned_stream_tables(self, graph: Mapping[str, Any], schemas: list[str], drop: bool = False) -> list[str]:
        """Stream tables in these schemas that no model builds; dropped if asked for."""
        engine = self.engine_for_writing()
        names = operations.orphans(engine, operations.models(graph, self.config.quoting), schemas)
        return operations.drop(engine, names) if drop else names

    @available.parse(lambda *a, **k: dict(operations.NOT_FOUND))
    def stream_table_status(self, name: Any, warn_seconds: float = 300) -> dict[str, Any]:
        """The state of one stream table; ``status`` is ``not_found`` if there is none."""
        with translated():
            return operations.describe(self.engine_for_writing(), self.stream_table_name(name), warn_seconds)

    @available.parse(lambda *a, **k: "")
    def explain_stream_table(self, name: Any, form: str = "text", sql: bool = False) -> str:
        """How a stream table is maintained, as text or as a picture."""
        with translated():
            return operations.explain(self.engine_for_writing(), self.stream_table_name(name), form, sql=sql)

    @available.parse_list
    def stream_table_doctor(self, fix: bool = False) -> list[dict[str, Any]]:
        """What is wrong in the database; fails if something is left that is more than a note."""
        with translated():
            return operations.doctor(self.engine_for_writing(), fix=fix)

    @available.parse(lambda *a, **k: "")
    def stream_table_probe(self, probe: str, relation: Any, command: str = "", **limits: Any) -> str:
        """The query of a generic test: no rows if the stream table passes."""
        return probes.query(self, probe, relation, command, **limits)

    def stream_table_name(self, name: Any) -> str:
        """A relation or a text as the engine reads it; a bare name is looked for in the target's schema."""
        if isinstance(name, PgTrickleRelation):
            return name.engine_name
        text = str(name)
        if "." in text or '"' in text:
            return text
        return PgTrickleRelation.create(schema=self.config.credentials.schema, identifier=text).engine_name
