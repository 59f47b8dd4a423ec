"""What the run-operations do: each macro in macros/operations calls one of these through the adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dbt.adapters.events.logging import AdapterLogger
from dbt.adapters.pgtrickle.failures import translated, warn, warn_of
from dbt_common.exceptions import CompilationError, DbtRuntimeError

from pgtrickle.api import PgTrickle, RefreshResult, StatusRow, render_explanation
from pgtrickle.errors import DependentsExist, StreamTableNotFound

logger = AdapterLogger("PgTrickle")

#: States in which a stream table must not be used, however old its content is.
UNUSABLE = ("not_found", "paused", "erroring", "unpopulated")

#: Actions of a refresh that did not happen.
UNDONE = ("FAILED", "SKIPPED")

#: The keys of pg_trickle's `pgtrickle_stream_table_status`, of one that does not exist.
NOT_FOUND: Mapping[str, Any] = {
    "status": "not_found",
    "staleness_seconds": None,
    "consecutive_errors": 0,
    "last_refresh_at": None,
    "is_populated": False,
    "refresh_mode": None,
    "schedule": None,
    "stale": True,
    "reason": "no stream table of this name is registered",
}


@dataclass(frozen=True, slots=True)
class Model:
    """A stream table model of the project.

    Attributes:
        unique_id: dbt's.
        name: the model's name.
        schema: where it is built, whatever generate_schema_name made of it.
        relation: how the engine reads its name.
        tags: dbt's.
    """

    unique_id: str
    name: str
    schema: str
    relation: str
    tags: tuple[str, ...]


def models(graph: Mapping[str, Any], quoting: Mapping[str, Any]) -> tuple[Model, ...]:
    """The stream table models of dbt's graph, by where they are really built: schema, alias and version.

    Args:
        graph: dbt's.
        quoting: which parts of a name the project quotes; the server folds the others to lower case.
    """
    found = []
    for node in graph.get("nodes", {}).values():
        if node.get("resource_type") != "model" or node["config"].get("materialized") != "stream_table":
            continue
        schema, table = str(node["schema"]), str(node.get("alias") or node["name"])
        parts = (_stored(schema, quoting.get("schema")), _stored(table, quoting.get("identifier")))
        found.append(Model(node["unique_id"], node["name"], parts[0], _quoted(*parts), tuple(node.get("tags") or ())))
    return tuple(sorted(found, key=lambda model: model.unique_id))


def _stored(name: str, quoted: bool | None) -> str:
    return name.lower() if quoted is False else name


def select(
    candidates: Iterable[Model],
    *,
    names: str | Iterable[str] | None = None,
    schema: str | None = None,
    tag: str | None = None,
) -> tuple[Model, ...]:
    """Those of the models that the arguments of an operation name.

    Raises:
        CompilationError: a name that is no stream table model.
    """
    chosen = list(candidates)
    if names is not None:
        wanted = [names] if isinstance(names, str) else list(names)
        known = {model.name for model in chosen} | {model.unique_id for model in chosen}
        unknown = sorted(set(wanted) - known)
        if unknown:
            raise CompilationError(f"There is no stream table model called {', '.join(unknown)} in this project.")
        chosen = [model for model in chosen if model.name in wanted or model.unique_id in wanted]
    if schema is not None:
        chosen = [model for model in chosen if model.schema == schema]
    if tag is not None:
        chosen = [model for model in chosen if tag in model.tags]
    return tuple(chosen)


def refresh(engine: PgTrickle, chosen: Iterable[Model], *, full: bool = False) -> list[dict[str, Any]]:
    """Refresh models in dependency order.

    Raises:
        DbtRuntimeError: one of them is not registered, failed, or was held back by a failing ancestor.
    """
    wanted = list(chosen)
    registered = {_quoted(row.schema, row.table) for row in engine.status()}
    missing = [model.unique_id for model in wanted if model.relation not in registered]
    names = [model.relation for model in wanted if model.relation in registered]
    with translated():
        results = engine.refresh_all(names, full=full) if names else ()
    for result in results:
        logger.info(_line(result))
        warn_of(result.name, result.notices)
    bad = [f"{one.name}: {one.action} {one.fallback_reason or ''}" for one in results if one.action in UNDONE]
    bad += [f"{unique_id}: not in the database; run the model first" for unique_id in missing]
    if bad:
        raise DbtRuntimeError("Not every stream table could be refreshed:\n" + "\n".join(f"  - {one}" for one in bad))
    return [asdict(result) for result in results]


def _quoted(schema: str, table: str) -> str:
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in (schema, table))


def _line(result: RefreshResult) -> str:
    counts = f"+{result.rows_inserted} ~{result.rows_updated} -{result.rows_deleted}"
    reason = f" ({result.fallback_reason})" if result.fallback_reason else ""
    return f"{result.name}: {result.action} {counts} in {result.duration_ms:.0f} ms{reason}"


def explain(engine: PgTrickle, name: str, form: str, *, sql: bool) -> str:
    """How a stream table is maintained, as text or as a picture."""
    return render_explanation(engine.explain(name), form, sql=sql)


def doctor(engine: PgTrickle, *, fix: bool) -> list[dict[str, Any]]:
    """What is wrong in the database, each said; mended first if asked for.

    Raises:
        DbtRuntimeError: something is left that is more than a note.
    """
    found = engine.doctor(fix=fix)
    for one in found:
        said = f"{one.object_name}: {one.text}"
        logger.info(f"FIXED {said}" if one.fixed else f"{one.severity} {said}. {one.remedy}")
    left = [one for one in found if not one.fixed and one.severity != "NOTE"]
    if left:
        codes = ", ".join(sorted({one.code for one in left}))
        raise DbtRuntimeError(f"The doctor has {len(left)} complaints: {codes}")
    logger.info("Nothing is wrong." if not found else "Nothing is wrong any more.")
    return [asdict(one) for one in found]


def describe(engine: PgTrickle, name: str, warn_seconds: float) -> dict[str, Any]:
    """The state of one stream table as a mapping, also of one that does not exist.

    ``status`` is the worst that applies: ``not_found``, ``paused``, ``erroring``, ``unpopulated``, ``stale``,
    ``healthy``.
    """
    try:
        row = engine.status(name)[0]
    except StreamTableNotFound:
        return {"name": name, **NOT_FOUND}
    return {
        **asdict(row),
        "status": _word(row, warn_seconds),
        "catalog_status": row.status,
        "reason": row.last_error or row.mode_reason,
    }


def _word(row: StatusRow, warn_seconds: float) -> str:
    if row.status == "SUSPENDED":
        return "paused"
    if row.status == "ERROR" or row.consecutive_errors > 0:
        return "erroring"
    if not row.is_populated:
        return "unpopulated"
    late = row.staleness_seconds is None or row.staleness_seconds > warn_seconds
    return "stale" if late else "healthy"


def check_freshness(
    engine: PgTrickle, chosen: Iterable[Model], *, warn_seconds: float, error_seconds: float
) -> list[dict[str, Any]]:
    """A gate for CI: warn of what is late, fail for what is too late or cannot be trusted at all.

    Raises:
        DbtRuntimeError: a stream table is missing, was never loaded, is suspended or erroring, or is older than
            ``error_seconds``.
    """
    if warn_seconds > error_seconds:
        raise CompilationError("warn_seconds must not be greater than error_seconds.")
    rows, errors = [], []
    for model in chosen:
        state = describe(engine, model.relation, warn_seconds)
        rows.append(state)
        age = state["staleness_seconds"]
        line = f"{model.unique_id} ({model.relation}): {state['status']}{_age(age)}"
        if state["status"] in UNUSABLE or (age or 0) > error_seconds:
            errors.append(f"{line}{_because(state)}")
        elif state["status"] == "stale":
            warn(f"Stream table is late: {line}, more than {warn_seconds:.0f} s")
        else:
            logger.info(f"PASS {line}")
    if errors:
        raise DbtRuntimeError("Stream tables failed the freshness check:\n" + "\n".join(f"  - {one}" for one in errors))
    return rows


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f", {seconds:.0f} s old"


def _because(state: Mapping[str, Any]) -> str:
    return f": {state['reason']}" if state.get("reason") else ""


def drop(engine: PgTrickle, names: Iterable[str], *, cascade: bool = False) -> list[str]:
    """Drop stream tables, those first that nothing else reads.

    Raises:
        DbtRuntimeError: other objects depend on one (and ``cascade`` is not set); nothing of those is dropped.
    """
    dropped: list[str] = []
    with translated():
        waiting = list(names)
        while waiting:
            still = [name for name in waiting if not _try_drop(engine, name, cascade, dropped)]
            if len(still) == len(waiting):
                engine.drop_stream_table(still[0], cascade=cascade, if_exists=True)
                still = still[1:]
            waiting = still
    for name in dropped:
        logger.info(f"Dropped stream table {name}")
    return dropped


def _try_drop(engine: PgTrickle, name: str, cascade: bool, dropped: list[str]) -> bool:
    try:
        dropped.extend(engine.drop_stream_table(name, cascade=cascade, if_exists=True).dropped)
    except DependentsExist:
        return False
    return True


def orphans(engine: PgTrickle, project: Iterable[Model], schemas: Iterable[str]) -> list[str]:
    """Stream tables in the project's schemas that no model of the project builds any more."""
    built = {model.relation for model in project}
    inside = set(schemas)
    return [
        _quoted(row.schema, row.table)
        for row in engine.status()
        if row.schema in inside and _quoted(row.schema, row.table) not in built
    ]
