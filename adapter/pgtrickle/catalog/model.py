"""Rows of the catalog as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A ``pg_snapshot``: which transactions a frontier contains.

    A row of a change buffer is *not* contained iff ``__x >= xmax`` or ``__x`` is in ``xip``.
    All three are 64-bit transaction ids as text.
    """

    xmin: str
    xmax: str
    xip: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read PostgreSQL's own notation ``xmin:xmax:xip,xip``.

        >>> Snapshot.parse("10:20:12,15")
        Snapshot(xmin='10', xmax='20', xip=('12', '15'))
        """
        xmin, xmax, xip = text.split(":")
        return cls(xmin, xmax, tuple(xip.split(",")) if xip else ())

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(self.xip)}"


@dataclass(frozen=True, slots=True)
class StreamTable:
    """A row of ``pgtrickle.stream_tables``; see the comments there."""

    id: int
    relid: int
    schema_name: str
    table_name: str
    query: str
    canonical_query: str
    settings: Mapping[str, str]
    requested_mode: str
    effective_mode: str
    mode_reason: str | None
    schedule: str | None
    schedule_seconds: float | None
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
    created_at: datetime
    altered_at: datetime

    @property
    def name(self) -> str:
        """``schema.table``, for messages."""
        return f"{self.schema_name}.{self.table_name}"


@dataclass(frozen=True, slots=True)
class NewStreamTable:
    """What `stream_tables.insert` needs; the rest has defaults."""

    relid: int
    schema_name: str
    table_name: str
    query: str
    canonical_query: str
    requested_mode: str
    effective_mode: str
    mode_reason: str | None = None
    schedule: str | None = None
    schedule_seconds: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    definition: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A captured base table; its change buffer is ``pgtrickle_changes.b_<id>``.

    ``capture`` is ``rows`` or ``mark`` (one row with ``__w = 0`` per statement); ``columns`` are attribute numbers.
    ``generation`` goes up whenever changes may have been missed. ``partition_constraint`` is set for a partition.
    ``epoch`` goes up when capture begins again after its change buffer was full.
    """

    id: int
    relid: int
    schema_name: str
    table_name: str
    capture: str
    trigger_level: str
    columns: tuple[int, ...]
    generation: int = 0
    partition_constraint: str | None = None
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Dependency:
    """One thing that a stream table reads.

    ``kind``: ``table`` (captured, has ``source_id``), ``stream_table`` (has ``source_stream_table_id``),
    ``uncaptured`` (no trigger can watch it), ``view``, ``function`` (``relid`` is the OID in pg_proc) or
    ``type`` (an enum, OID in pg_type).
    """

    stream_table_id: int
    position: int
    kind: str
    relid: int
    schema_name: str
    object_name: str
    source_id: int | None = None
    source_stream_table_id: int | None = None
    columns: tuple[int, ...] = ()
    rows: bool = True


@dataclass(frozen=True, slots=True)
class StageTables:
    """Names in ``pgtrickle_state`` of the tables that one stage owns."""

    stream_table_id: int
    stage_no: int
    strategy: str
    output_table: str | None = None
    state_table: str | None = None
    log_table: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One attempt to refresh. ``duration_ms`` in milliseconds, ``changes`` is the number of change rows read."""

    stream_table_id: int
    schema_name: str
    table_name: str
    started_at: datetime
    finished_at: datetime
    action: str
    duration_ms: float
    initiated_by: str
    refresh_no: int | None = None
    group_id: str | None = None
    reason: str | None = None
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    changes: int | None = None
    snapshot: str | None = None
    error: Mapping[str, Any] | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Installation:
    """The one row of ``pgtrickle.installation``."""

    system_identifier: str
    database_oid: int
    engine_role: str
    engine_version: str
    installed_at: datetime
    buffer_limit_bytes: int
    truncate_rows: int
    history_retention: timedelta
