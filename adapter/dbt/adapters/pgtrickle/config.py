"""The configuration of a stream table model: which keys there are, and what a model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from dbt.adapters.postgres.impl import PostgresConfig
from dbt_common.exceptions import CompilationError

#: Keys that the engine takes as arguments of their own.
ARGUMENTS = ("schedule", "refresh_mode", "initialize")

#: Keys that are handed to the engine as options; it implements each or names the replacement.
OPTIONS = (
    "status",
    "indexes",
    "cdc_mode",
    "partition_by",
    "fuse",
    "fuse_ceiling",
    "fuse_sensitivity",
    "append_only",
    "temporal",
    "storage_backend",
    "diamond_consistency",
    "diamond_schedule_policy",
    "pooler_compatibility_mode",
    "max_differential_joins",
    "max_delta_fraction",
    "install_timeout",
    "output_distribution_column",
)

#: Keys of dbt or of pg_trickle that a stream table cannot honour, and what to use.
REFUSED: Mapping[str, str] = {
    "stream_table_name": "use dbt's own 'alias', so that ref() and the table agree",
    "stream_table_schema": "use dbt's own 'schema', so that ref() and the table agree",
    "sql_header": "set what the query needs for the role (ALTER ROLE ... SET ...): a refresh runs long after this run",
    "unlogged": "leave it out: a stream table outlives a crash together with the record of what it contains",
}

_LIFE = ("apply", "continue", "fail")


@dataclass
class PgTrickleConfig(PostgresConfig):
    """The keys that dbt knows by type; all of them may also be given as ``meta: {pgtrickle: {...}}``."""

    # mashumaro reads these annotations on Python 3.10 and newer: Optional is spelled out.
    schedule: Optional[str] = None  # noqa: UP045
    refresh_mode: Optional[str] = None  # noqa: UP045
    initialize: Optional[bool] = None  # noqa: UP045
    status: Optional[str] = None  # noqa: UP045
    max_delta_fraction: Optional[float] = None  # noqa: UP045
    install_timeout: Optional[float] = None  # noqa: UP045
    cdc_mode: Optional[str] = None  # noqa: UP045
    append_only: Optional[bool] = None  # noqa: UP045
    pooler_compatibility_mode: Optional[bool] = None  # noqa: UP045
    diamond_consistency: Optional[str] = None  # noqa: UP045
    diamond_schedule_policy: Optional[str] = None  # noqa: UP045
    fuse: Optional[str] = None  # noqa: UP045
    fuse_ceiling: Optional[int] = None  # noqa: UP045
    fuse_sensitivity: Optional[int] = None  # noqa: UP045
    partition_by: Optional[str] = None  # noqa: UP045
    temporal: Optional[bool] = None  # noqa: UP045
    storage_backend: Optional[str] = None  # noqa: UP045
    max_differential_joins: Optional[int] = None  # noqa: UP045
    output_distribution_column: Optional[str] = None  # noqa: UP045


@dataclass(frozen=True, slots=True)
class StreamTableConfig:
    """What one model says about its stream table; None and an absent option mean "keep what it has".

    Attributes:
        schedule: as text.
        refresh_mode: as text.
        initialize: load on creation.
        on_change: dbt's ``on_configuration_change``: ``apply``, ``continue`` or ``fail``.
        options: further options of the engine.
        constraints: whether the contract is enforced, so that constraints are created.
    """

    schedule: str | None = None
    refresh_mode: str | None = None
    initialize: bool = True
    on_change: str = "apply"
    options: Mapping[str, Any] = field(default_factory=dict)
    constraints: bool = False


def read_config(config: Mapping[str, Any]) -> StreamTableConfig:
    """Read a model's configuration, as dbt resolved it.

    Raises:
        CompilationError: a key that is not supported, with the replacement, or a value of the wrong type.
    """
    given = {**_meta(config), **{key: value for key, value in config.items() if value is not None}}
    _refuse(given)
    return StreamTableConfig(
        schedule=_text(given, "schedule"),
        refresh_mode=_text(given, "refresh_mode"),
        initialize=_flag(given, "initialize", default=True),
        on_change=_choice(given, "on_configuration_change", _LIFE),
        options={key: given[key] for key in OPTIONS if given.get(key) is not None},
        constraints=bool((given.get("contract") or {}).get("enforced")),
    )


def _meta(config: Mapping[str, Any]) -> dict[str, Any]:
    meta = (config.get("meta") or {}).get("pgtrickle") or {}
    if not isinstance(meta, Mapping):
        raise CompilationError("meta.pgtrickle must be a mapping of configuration keys.")
    unknown = sorted(set(meta) - {*ARGUMENTS, *OPTIONS, *REFUSED})
    if unknown:
        raise CompilationError(f"meta.pgtrickle has unknown keys: {', '.join(unknown)}.")
    return dict(meta)


def _refuse(given: Mapping[str, Any]) -> None:
    for key, replacement in REFUSED.items():
        if given.get(key) not in (None, False):
            raise CompilationError(f"A stream table has no '{key}': {replacement}.")
    if given.get("incremental_strategy") == "microbatch":
        raise CompilationError("A stream table is maintained from its changes; microbatch belongs to 'incremental'.")


def _text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise CompilationError(f"'{key}' must be text, for example '30s', not {value!r}.")
    return value


def _flag(given: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = given.get(key, default)
    if not isinstance(value, bool):
        raise CompilationError(f"'{key}' must be true or false, not {value!r}.")
    return value


def _choice(given: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = given.get(key)
    text = str(getattr(value, "value", value) or choices[0]).lower()
    if text not in choices:
        raise CompilationError(f"'{key}' must be one of {', '.join(choices)}, not {value!r}.")
    return text
