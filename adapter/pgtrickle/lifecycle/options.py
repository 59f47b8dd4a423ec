"""The options of pg_trickle: each is implemented, or refused with its replacement named. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pgtrickle.db import LockPolicy
from pgtrickle.errors import InvalidOption, NotYetSupported


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a caller gave, checked; None keeps the current value (the default for a new stream table).

    Attributes:
        schedule: normalised text.
        schedule_seconds: the age that it promises, if it promises one.
        mode: ``AUTO``, ``DIFFERENTIAL`` or ``FULL``.
        status: ``ACTIVE`` or ``SUSPENDED``.
        kept: options to be stored.
        policy: how to wait for locks on sources.
        initialize: load a new stream table at once.
    """

    schedule: str | None = None
    schedule_seconds: float | None = None
    mode: str | None = None
    status: str | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    policy: LockPolicy = field(default_factory=LockPolicy)
    initialize: bool = True


MODES = ("AUTO", "DIFFERENTIAL", "FULL")
STATUSES = {"ACTIVE": "ACTIVE", "SUSPENDED": "SUSPENDED", "PAUSED": "SUSPENDED"}


@dataclass(frozen=True, slots=True)
class _Fixed:
    """An option of which only some values are what this engine does anyway; the others are refused."""

    accepted: tuple[Any, ...]
    hint: str


_FIXED: Mapping[str, _Fixed] = {
    "cdc_mode": _Fixed(("auto", "trigger"), "use 'trigger'; capture from the write-ahead log does not exist yet"),
    "append_only": _Fixed((False,), "leave it out: deletes and updates cost nothing as long as there are none"),
    "pooler_compatibility_mode": _Fixed((True, False), "leave it out: connection poolers are always supported"),
    "partition_by": _Fixed((), "leave it out: stream tables are not partitioned yet; use an index"),
    "fuse": _Fixed(("off",), "leave it out; suspend the stream table before a bulk load instead"),
    "fuse_ceiling": _Fixed((), "leave it out; use max_delta_fraction to recompute after big changes"),
    "fuse_sensitivity": _Fixed((), "leave it out; use max_delta_fraction to recompute after big changes"),
    "diamond_consistency": _Fixed(
        ("atomic", "RELAXED"), "leave it out: what is refreshed together shares one snapshot anyway"
    ),
    "diamond_schedule_policy": _Fixed(("fastest",), "leave it out: a due stream table takes its stale ancestors along"),
    "max_differential_joins": _Fixed((), "set refresh_mode='FULL' for queries that are cheaper to recompute"),
    "output_distribution_column": _Fixed((), "leave it out: Citus is not supported"),
    "temporal": _Fixed((False,), "leave it out: temporal stream tables do not exist yet; use a dbt snapshot"),
    "storage_backend": _Fixed(("heap",), "leave it out: stream tables are ordinary heap tables"),
    "sink": _Fixed((), "leave it out; publish the stream table, it is an ordinary table"),
    "ducklake_sink_path": _Fixed((), "leave it out; publish the stream table, it is an ordinary table"),
    "ducklake_sink_table_id": _Fixed((), "leave it out; publish the stream table, it is an ordinary table"),
    "tier": _Fixed(("hot",), "set the schedule instead"),
    "post_refresh_action": _Fixed(("none",), "leave it out: autovacuum analyses stream tables as any table"),
    "reindex_drift_threshold": _Fixed((), "leave it out and use REINDEX CONCURRENTLY"),
    "refresh_group": _Fixed((), "leave it out: a chain or diamond is refreshed on one snapshot anyway"),
    "watermark_group": _Fixed((), "leave it out; schedule the refresh after the load instead"),
    "source_gate": _Fixed((), "leave it out; suspend the stream table during the load instead"),
}

_REPLACED: Mapping[str, str] = {
    "stream_table_name": "use dbt's 'alias' (or the name argument)",
    "stream_table_schema": "use dbt's 'schema' (or the name argument)",
    "partition_key": "leave it out: stream tables are not partitioned yet; use an index",
}

#: Options that are stored and used.
KEPT = ("indexes", "max_delta_fraction")


def configure(
    *, schedule: tuple[str, float | None] | None, mode: str | None, initialize: bool, options: Mapping[str, Any]
) -> Configuration:
    """Check everything that a caller gave besides name and query.

    Args:
        schedule: normalised text and promised age in seconds.
        mode: as given.
        initialize: as given.
        options: all others, also ``status``, ``backend_pid`` (of a session that waits for us and so must not be
            waited for) and ``install_timeout`` (seconds).

    Raises:
        NotYetSupported, InvalidOption: see ``check_options``.
    """
    rest = dict(options)
    status, pid, patience = rest.pop("status", None), rest.pop("backend_pid", None), rest.pop("install_timeout", None)
    policy = LockPolicy(give_up_after_s=60.0 if patience is None else float(patience), never_wait_for=pid)
    return Configuration(
        schedule=None if schedule is None else schedule[0],
        schedule_seconds=None if schedule is None else schedule[1],
        mode=None if mode is None else check_mode(mode),
        status=None if status is None else check_status(status),
        kept=check_options(rest),
        policy=policy,
        initialize=initialize,
    )


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options and return those to be stored. None means "not given".

    Raises:
        NotYetSupported: an option of pg_trickle with a value that this version does not implement.
        InvalidOption: an unknown option, or a value that makes no sense.
    """
    kept: dict[str, Any] = {}
    for key, value in options.items():
        if value is None:
            continue
        if key in _FIXED:
            _check_fixed(key, value)
        elif key in _REPLACED:
            raise InvalidOption(f"The option {key} does not exist here.", object_name=key, hint=_REPLACED[key])
        elif key == "indexes":
            kept[key] = [check_index(index) for index in value]
        elif key == "max_delta_fraction":
            kept[key] = _check_fraction(value)
        else:
            known = ", ".join(sorted({*_FIXED, *KEPT}))
            raise InvalidOption(f"Unknown option: {key}.", object_name=key, hint=f"Known options: {known}.")
    return kept


def _check_fixed(key: str, value: Any) -> None:
    fixed = _FIXED[key]
    wanted = value.lower() if isinstance(value, str) else value
    if any(wanted == (one.lower() if isinstance(one, str) else one) for one in fixed.accepted):
        return
    raise NotYetSupported(f"{key}={value!r} is not supported.", object_name=key, hint=fixed.hint)


def _check_fraction(value: Any) -> float:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = -1.0
    if not 0 < fraction <= 1:
        raise InvalidOption(
            f"max_delta_fraction={value!r} is no fraction.",
            object_name="max_delta_fraction",
            hint="Give a number in (0, 1].",
        )
    return fraction


def check_index(index: Any) -> dict[str, Any]:
    """One entry of ``indexes`` in dbt's form: ``{"columns": [...], "unique": bool, "type": str}``."""
    if not isinstance(index, Mapping) or not index.get("columns"):
        raise InvalidOption(
            f"Not an index: {index!r}.",
            object_name="indexes",
            hint='Give {"columns": ["a"], "unique": false, "type": "btree"}.',
        )
    unknown = set(index) - {"columns", "unique", "type", "name"}
    if unknown:
        raise InvalidOption(f"Unknown key of an index: {', '.join(sorted(unknown))}.", object_name="indexes")
    columns = index["columns"]
    names = [columns] if isinstance(columns, str) else [str(column) for column in columns]
    return {"columns": names, "unique": bool(index.get("unique")), "type": index.get("type") or "btree"}


def check_mode(mode: str) -> str:
    """The refresh mode in capitals.

    Raises:
        NotYetSupported: IMMEDIATE.
        InvalidOption: anything else that is no mode.
    """
    wanted = str(mode).upper()
    if wanted == "IMMEDIATE":
        raise NotYetSupported(
            "refresh_mode='IMMEDIATE' is not supported yet.",
            object_name="refresh_mode",
            hint="Use refresh_mode='DIFFERENTIAL' with schedule='continuous': changes show up within milliseconds.",
        )
    if wanted not in MODES:
        raise InvalidOption(
            f"refresh_mode={mode!r} does not exist.", object_name="refresh_mode", hint=f"One of {', '.join(MODES)}."
        )
    return wanted


def check_status(status: str) -> str:
    """``ACTIVE`` or ``SUSPENDED`` (``PAUSED`` is accepted for it)."""
    wanted = STATUSES.get(str(status).upper())
    if wanted is None:
        raise InvalidOption(f"status={status!r} cannot be set.", object_name="status", hint="ACTIVE or SUSPENDED.")
    return wanted
