"""Build the stream table of one model: create it, or compare it with what is there and do the least."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dbt.adapters.pgtrickle import constraints, swap
from dbt.adapters.pgtrickle.config import StreamTableConfig, read_config
from dbt.adapters.pgtrickle.failures import translated, warn, warn_of
from dbt.adapters.pgtrickle.relation import PgTrickleRelation, PgTrickleRelationType
from dbt.adapters.pgtrickle.response import StreamTableResponse, respond, skipped
from dbt_common.exceptions import CompilationError, DbtRuntimeError

from pgtrickle.api import HistoryRow, PgTrickle, ReplaceResult

if TYPE_CHECKING:
    from dbt.adapters.pgtrickle.impl import PgTrickleAdapter


#: Actions of the history that wrote rows.
LOADS = ("INITIAL", "RECOMPUTE", "FULL", "DIFFERENTIAL")


@dataclass(frozen=True, slots=True)
class Request:
    """One model to build.

    Attributes:
        target: the relation the model is to be.
        existing: what has that name now, None if nothing.
        model: the node.
        query: its compiled SQL.
        config: what it says about its stream table.
        full_refresh: recompute even if nothing differs.
        backend_pid: dbt's own session, which waits for the engine and so must not be waited for.
    """

    target: PgTrickleRelation
    existing: PgTrickleRelation | None
    model: Mapping[str, Any]
    query: str
    config: StreamTableConfig
    full_refresh: bool
    backend_pid: int | None = None


def request(
    target: PgTrickleRelation,
    existing: PgTrickleRelation | None,
    model: Mapping[str, Any],
    query: str,
    full_refresh: bool,
) -> Request:
    """Check a model before anything is done for it.

    Raises:
        CompilationError: its configuration is wrong, or it selects from itself.
    """
    if target.render() in query:
        raise CompilationError(
            "A stream table cannot read itself ({{ this }}): it is the result of its query at any moment. "
            "Use materialized='incremental' for a model that builds on its own rows."
        )
    return Request(target, existing, model, query, read_config(model["config"]), full_refresh)


def build(adapter: PgTrickleAdapter, wanted: Request) -> StreamTableResponse:
    """Let the engine do what is needed and say what it was.

    dbt's transaction is committed first: the engine works on a connection of its own and installs triggers on tables
    that dbt may have touched.
    """
    adapter.connections.end_transaction()
    wanted = replace(wanted, backend_pid=adapter.connections.backend_pid())
    started = time.monotonic()
    with translated():
        engine = adapter.engine_for_writing()
        if wanted.existing is not None and wanted.existing.is_stream_table:
            refused = _hold(engine, wanted)
            if refused is not None:
                return refused
            _apply_constraints(adapter, wanted, wanted.target, obsolete=True)
            result = _call(engine, wanted, wanted.target)
            _apply_constraints(adapter, wanted, wanted.target)
        elif wanted.existing is None:
            result = _create(adapter, engine, wanted, wanted.target)
        else:
            result = _take_place(adapter, engine, wanted, wanted.existing)
        load = _load(engine, wanted.target) if {"create", "recompute"} & set(result.actions) else None
    warn_of(wanted.target.engine_name, result.notices)
    return respond(result, load, (time.monotonic() - started) * 1000)


def _load(engine: PgTrickle, target: PgTrickleRelation) -> HistoryRow | None:
    """The refresh that a creation or recomputation has just done."""
    last = engine.history(target.engine_name, limit=3)
    return next((row for row in last if row.action in LOADS), None)


def _call(
    engine: PgTrickle,
    wanted: Request,
    target: PgTrickleRelation,
    *,
    initialize: bool | None = None,
) -> ReplaceResult:
    config = wanted.config
    return engine.create_or_replace_stream_table(
        target.engine_name,
        wanted.query,
        schedule=config.schedule,
        refresh_mode=config.refresh_mode,
        initialize=config.initialize if initialize is None else initialize,
        full_refresh=wanted.full_refresh,
        backend_pid=wanted.backend_pid,
        **config.options,
    )


def _hold(engine: PgTrickle, wanted: Request) -> StreamTableResponse | None:
    """dbt's ``on_configuration_change``: None to go on, a response to leave it, an error to stop the run."""
    if wanted.config.on_change == "apply":
        return None
    config = wanted.config
    changes = engine.preview_stream_table(
        wanted.target.engine_name, wanted.query, config.schedule, config.refresh_mode, **config.options
    )
    if changes == ("none",):
        return None
    listed = ", ".join(changes)
    if wanted.config.on_change == "fail":
        raise DbtRuntimeError(
            f"{wanted.target.engine_name} would change ({listed}) and `on_configuration_change` is set to `fail`."
        )
    warn(
        f"{wanted.target.engine_name} differs from its model ({listed}) and `on_configuration_change` is `continue`: "
        "it was left as it is."
    )
    return skipped(f"changes not applied: {listed}")


def _create(adapter: PgTrickleAdapter, engine: PgTrickle, wanted: Request, target: PgTrickleRelation) -> ReplaceResult:
    """Create under a free name. With constraints: empty first, so that no content is ever shown that violates them."""
    if not wanted.config.constraints:
        return _call(engine, wanted, target)
    result = _call(engine, wanted, target, initialize=False)
    with _dropped_on_failure(adapter, engine, target):
        _apply_constraints(adapter, wanted, target)
        if wanted.config.initialize:
            loaded = engine.refresh_stream_table(target.engine_name)
            result = replace(result, rows_changed=loaded.rows_changed)
    return result


@contextmanager
def _dropped_on_failure(adapter: PgTrickleAdapter, engine: PgTrickle, created: PgTrickleRelation) -> Iterator[None]:
    """Leave nothing behind of a stream table that could not be finished."""
    finished = False
    try:
        yield
        finished = True
    finally:
        if not finished:
            adapter.connections.end_transaction()
            engine.drop_stream_table(created.engine_name, if_exists=True)


def _apply_constraints(
    adapter: PgTrickleAdapter, wanted: Request, target: PgTrickleRelation, *, obsolete: bool = False
) -> None:
    """Make the table's constraints those of the contract; or only drop what is obsolete, before new content comes."""
    if not wanted.config.constraints:
        return
    want = constraints.wanted(
        wanted.model, wanted.target.stored_identifier, adapter.render_raw_model_constraint, adapter.quote
    )
    with adapter.connections.transaction():
        statements = (constraints.obsolete if obsolete else constraints.missing)(adapter.fetch, target, want)
        for statement in statements:
            adapter.run(statement)


def _take_place(
    adapter: PgTrickleAdapter, engine: PgTrickle, wanted: Request, existing: PgTrickleRelation
) -> ReplaceResult:
    """Replace a table, view or materialized view: load beside it, then change places in one short transaction.

    Indexes come last: their names are made from the table's.
    """
    swap.readers(adapter.fetch, existing)
    beside = _suffixed(wanted.target, "__dbt_tmp")
    backup = _suffixed(existing, "__dbt_backup")
    for leftover in (beside, backup):
        _clear(adapter, engine, leftover)
    options = {key: value for key, value in wanted.config.options.items() if key != "indexes"}
    plain = replace(wanted, config=replace(wanted.config, options=options))
    result = _create(adapter, engine, plain, beside)
    with _dropped_on_failure(adapter, engine, beside), adapter.connections.transaction():
        views = swap.readers(adapter.fetch, existing)
        adapter.run(swap.rename(existing, backup.stored_identifier))
        adapter.run(swap.rename(beside, wanted.target.stored_identifier))
        swap.point_to_new(adapter.run, existing, views)
        adapter.run(swap.drop(backup))
    if "indexes" in wanted.config.options:
        engine.alter_stream_table(wanted.target.engine_name, indexes=wanted.config.options["indexes"])
    adapter.forget(existing)
    adapter.cache_added(wanted.target.incorporate(type=PgTrickleRelationType.StreamTable))
    return result


def _clear(adapter: PgTrickleAdapter, engine: PgTrickle, leftover: PgTrickleRelation) -> None:
    """Remove what an interrupted run left under one of dbt's own names."""
    found = adapter.get_relation(leftover.database or "", leftover.schema or "", leftover.identifier or "")
    if found is not None and not found.is_stream_table:
        adapter.run(swap.drop(found))
        adapter.forget(found)
    adapter.connections.end_transaction()
    engine.drop_stream_table(leftover.engine_name, if_exists=True)


def _suffixed(relation: PgTrickleRelation, suffix: str) -> PgTrickleRelation:
    room = relation.relation_max_name_length() - len(suffix)
    changed: PgTrickleRelation = relation.incorporate(path={"identifier": (relation.identifier or "")[:room] + suffix})
    return changed
