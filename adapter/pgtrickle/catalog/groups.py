"""Catalog access of the refresh transaction: a whole group of stream tables per statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.sql import SQL, Composed, Literal
from psycopg.types.json import Jsonb

from pgtrickle import db
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.catalog", "groups.sql")


@dataclass(frozen=True, slots=True)
class GroupSource:
    """One source of a member. ``name`` is None if the relation is gone; ``rows`` is the planner's estimate."""

    kind: str
    relid: int
    source_id: int | None
    stream_table_id: int | None
    schema: str | None
    name: str | None
    relkind: str | None
    rows: float
    above: Sequence[Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One stream table as a refresh sees it before its transaction; see ``fetch_group``."""

    id: int
    relid: int
    schema_name: str | None
    table_name: str | None
    registered_schema: str
    registered_name: str
    owner: str
    canonical_query: str
    settings: Mapping[str, str]
    requested_mode: str
    effective_mode: str
    mode_reason: str | None
    status: str
    status_reason: str | None
    is_populated: bool
    recompute_reason: str | None
    demoted: bool
    consecutive_errors: int
    last_error: Mapping[str, Any] | None
    retry_at: datetime | None
    definition: Mapping[str, Any]
    fingerprint: Mapping[str, Any] | None
    options: Mapping[str, Any]
    snapshot: str | None
    refresh_no: int
    consumed: Mapping[str, int]
    cost: Mapping[str, Any]
    has_log: bool
    sources: tuple[GroupSource, ...]
    stages: tuple[Mapping[str, Any], ...]
    columns: Mapping[str, int]
    now: datetime
    session_role: str
    quoted_name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(_source(one) for one in self.sources))
        object.__setattr__(self, "stages", tuple(self.stages))

    @property
    def name(self) -> str:
        """``schema.table`` at present, for messages."""
        return f"{self.schema_name or self.registered_schema}.{self.table_name or self.registered_name}"


def _source(fields: Any) -> GroupSource:
    return GroupSource(**fields)


@dataclass(frozen=True, slots=True)
class LockedRow:
    """What may have moved between reading the group and locking its frontiers."""

    id: int
    snapshot: str | None
    refresh_no: int
    consumed: Mapping[str, int]
    cost: Mapping[str, Any]
    is_populated: bool
    recompute_reason: str | None
    status: str
    demoted: bool
    fingerprint: Mapping[str, Any] | None
    version: str | None
    has_log: bool
    now_snapshot: str
    started_at: str


def fetch(conn: db.Connection, relids: Sequence[int]) -> tuple[GroupRow, ...]:
    """The stream tables with these OIDs and everything they read that is a stream table, by id."""
    return db.fetch_all(conn, _QUERIES["fetch_group"], GroupRow, {"relids": list(relids)})


def lock(ids: Sequence[int]) -> Composed:
    """The statement that locks the frontiers of a group and reads what may have moved; rows are ``LockedRow``."""
    return _QUERIES["lock_group"].format(ids=Literal(list(ids)))


def touch(conn: db.Connection, ids: Sequence[int]) -> None:
    """Wait for refreshes under way, and make those that are about to begin read the catalog again."""
    if ids:
        db.execute(conn, _QUERIES["touch_frontiers"], {"ids": list(ids)})


def advance(members: Sequence[Mapping[str, Any]]) -> Composed:
    """Move frontiers; keys ``id``, ``moved``, ``refresh_no``, ``consumed``, ``cost``."""
    return _QUERIES["advance_group"].format(members=_json(members))


def settle(members: Sequence[Mapping[str, Any]]) -> Composed:
    """Forget errors and recompute requests of members that succeeded; keys ``id``, ``fingerprint`` (None: as it is)."""
    return _QUERIES["settle_group"].format(members=_json(members))


def record(entries: Sequence[Mapping[str, Any]]) -> Composed:
    """Add to the history."""
    return _QUERIES["record_group"].format(entries=_json(entries))


def record_trail(records: Sequence[Mapping[str, Any]]) -> Composed:
    """Store gate decisions; keys ``stream_table_id``, ``gate``, ``position``, ``decision``, ``reason``."""
    return _QUERIES["record_trail"].format(records=_json(records))


def fail(
    conn: db.Connection, stream_table_id: int, error: Mapping[str, Any], *, delay: timedelta | None, status: str | None
) -> None:
    """Count a failed refresh.

    Args:
        conn: not in the refresh's transaction.
        stream_table_id: whose.
        error: ``PgTrickleError.as_dict()``.
        delay: time until the next try; None: somebody has to act.
        status: the new status; None: as it is.
    """
    params = {
        "id": stream_table_id,
        "error": Jsonb(dict(error)),
        "delay": delay,
        "status": status,
        "reason": error.get("message") if status else None,
    }
    db.execute(conn, _QUERIES["fail_member"], params)


def _json(values: Sequence[Mapping[str, Any]]) -> Composed:
    return SQL("{}::pg_catalog.jsonb").format(Literal(Jsonb([dict(value) for value in values])))
