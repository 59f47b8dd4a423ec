"""The queries of the generic tests: each returns a row for what is wrong, and one for a name that is not registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbt.adapters.pgtrickle import queries
from dbt.adapters.pgtrickle.failures import translated
from dbt.adapters.pgtrickle.relation import PgTrickleRelation
from dbt_common.exceptions import CompilationError
from psycopg.sql import SQL, Composable, Composed, Literal

from pgtrickle.errors import StreamTableNotFound

if TYPE_CHECKING:
    from dbt.adapters.pgtrickle.impl import PgTrickleAdapter

#: Commands that compile tests without running them.
COMPILE_ONLY = frozenset({"compile", "generate", "docs", "ls", "list", "parse", "show"})

_STATE = SQL("""
SELECT w.schema, w.name, coalesce(i.status, 'NOT_FOUND') AS status, i.is_populated, i.consecutive_errors, i.last_error,
       extract(epoch FROM i.staleness)::double precision AS staleness_seconds
FROM (VALUES ({}, {})) AS w (schema, name)
LEFT JOIN pgtrickle.stream_tables_info i
       ON i.relid = (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = w.schema AND c.relname = w.name)
WHERE i.relid IS NULL OR {}
""")

_HEALTHY = SQL("""i.status <> 'ACTIVE' OR NOT i.is_populated OR i.consecutive_errors > 0 OR i.staleness IS NULL
   OR extract(epoch FROM i.staleness) > {} OR ({} AND coalesce(i.stale, false))""")

_STATUS = SQL("""i.status <> {} OR (i.is_populated IS DISTINCT FROM {} AND {})
   OR extract(epoch FROM i.staleness) > {}""")

_ROW = SQL("SELECT {}::text AS schema, {}::text AS name, {}::text AS problem WHERE {}")


def query(adapter: PgTrickleAdapter, probe: str, relation: Any, command: str, **limits: Any) -> str:
    """The SQL of one generic test.

    Args:
        adapter: for the catalogs and, for ``matches_query``, the engine.
        probe: ``healthy``, ``status`` or ``matches_query``.
        relation: the model under test.
        command: dbt's command; verifying is not done where nothing is run.
        limits: the test's arguments.

    Raises:
        CompilationError: the test has a ``where`` or the model is no relation.
    """
    if not isinstance(relation, PgTrickleRelation):
        raise CompilationError("This test looks at a stream table as a whole: it cannot have a 'where' or a limit.")
    if not adapter.fetch(queries.INSTALLED):
        composed = _problem(relation, "the engine is not installed in this database, or its catalog is not readable")
    elif probe == "matches_query":
        composed = _matches(adapter, relation, command)
    else:
        composed = _state(probe, relation, **limits)
    return composed.as_string(None)


def _state(probe: str, relation: PgTrickleRelation, **limits: Any) -> Composed:
    return _STATE.format(
        Literal(relation.stored_schema), Literal(relation.stored_identifier), _CONDITIONS[probe](**limits)
    )


def _healthy(warn_seconds: float | None = None) -> Composable:
    limit = float("inf") if warn_seconds is None else float(warn_seconds)
    return _HEALTHY.format(Literal(limit), Literal(warn_seconds is None))


def _status(
    status: str = "ACTIVE", populated: bool | None = True, max_staleness_seconds: float | None = None
) -> Composable:
    limit = float("inf") if max_staleness_seconds is None else float(max_staleness_seconds)
    wanted = status.upper()
    return _STATUS.format(Literal(wanted), Literal(bool(populated)), Literal(populated is not None), Literal(limit))


_CONDITIONS = {"healthy": _healthy, "status": _status}


def _matches(adapter: PgTrickleAdapter, relation: PgTrickleRelation, command: str) -> Composed:
    if command in COMPILE_ONLY:
        return _problem(relation, "compared when the test is run")
    adapter.connections.end_transaction()
    with translated():
        try:
            result = adapter.engine().verify(relation.engine_name)
        except StreamTableNotFound:
            return _problem(relation, "no stream table of this name is registered")
    if result.proven:
        return _problem(relation, None)
    if result.proven is None:
        return _problem(relation, f"not proven: {result.reason}")
    return _problem(relation, f"{result.missing} rows missing, {result.extra} rows too many")


def _problem(relation: PgTrickleRelation, problem: str | None) -> Composed:
    return _ROW.format(
        Literal(relation.stored_schema),
        Literal(relation.stored_identifier),
        Literal(problem),
        Literal(problem is not None),
    )
