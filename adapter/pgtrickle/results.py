"""What the public calls return: plain values, no connections."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """An implicit act that is told to the user once.

    Attributes:
        code: stable word, for example ``order_by_ignored``, ``keyless_source``, ``auto_full``, ``recompute``.
        text: one sentence for people.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What one refresh did to one stream table.

    Attributes:
        name: qualified and quoted name of the stream table.
        action: ``NO_DATA`` (nothing had changed), ``DIFFERENTIAL``, ``FULL`` (recomputed, applied as a difference),
            ``SKIPPED`` (a gate held it back) or ``FAILED`` (only inside a group; a single refresh raises).
        rows_inserted: rows written by INSERT.
        rows_updated: rows written by UPDATE.
        rows_deleted: rows removed by DELETE.
        duration_ms: wall time in milliseconds; for a member of a group its own share.
        fallback_reason: why FULL although the plan could have been DIFFERENTIAL, why skipped or failed; else None.
        snapshot: the ``pg_snapshot`` that the content now equals the defining query at; None if it did not run.
        refresh_no: number of the last refresh that changed the stream table.
        statements: statements sent to the server for the whole transaction.
        members: results of the stale ancestors that were refreshed in the same transaction and snapshot, in order.
        notices: implicit acts.
    """

    name: str
    action: str
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    duration_ms: float = 0.0
    fallback_reason: str | None = None
    snapshot: str | None = None
    refresh_no: int = 0
    statements: int = 0
    members: tuple[RefreshResult, ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def rows_changed(self) -> int:
        """Rows written in total."""
        return self.rows_inserted + self.rows_updated + self.rows_deleted


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Whether a stream table equals its query, as far as that can be proven.

    Attributes:
        name: qualified name.
        proven: True: equal; False: different (our bug); None: not proven, see ``reason``.
        missing: rows of the query that the stream table lacks.
        extra: rows of the stream table that the query does not have.
        reason: why it is not proven, or what differs.
        repaired: a recompute by difference was committed afterwards.
    """

    name: str
    proven: bool | None
    missing: int = 0
    extra: int = 0
    reason: str | None = None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the doctor found.

    Attributes:
        code: stable word for the kind of thing.
        severity: ``ERROR`` (wrong or no results), ``WARNING`` (will hurt) or ``NOTE`` (good to know, nothing is wrong).
        object_name: the table, function, role, session ... it is about.
        text: what is wrong.
        remedy: what to do.
        fixable: the doctor can mend it.
        fixed: it has.
    """

    code: str
    severity: str
    object_name: str
    text: str
    remedy: str
    fixable: bool = False
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class StatusRow:
    """The state of one stream table; the columns of ``pgtrickle.stream_table_status``.

    Attributes:
        name: qualified and quoted name.
        schema: schema name, unquoted.
        table: table name, unquoted.
        relid: OID of the table.
        status: ``INITIALIZING``, ``ACTIVE``, ``SUSPENDED`` or ``ERROR``.
        refresh_mode: the mode asked for: ``AUTO``, ``DIFFERENTIAL`` or ``FULL``.
        effective_mode: the mode its plan runs in: ``DIFFERENTIAL`` or ``FULL``.
        mode_reason: why the plan is FULL; None for DIFFERENTIAL.
        schedule: as configured.
        is_populated: it was loaded at least once.
        stale: it is later than its schedule allows, or it failed or was never loaded.
        staleness_seconds: seconds since the last successful refresh began; None if there was none.
        last_refresh_at: when the last successful refresh began.
        data_timestamp: time of the snapshot that the content equals the query at.
        consecutive_errors: failed refreshes since the last success.
        last_error: text of the last failure since the last success.
        retry_at: not tried again before this time.
    """

    name: str
    schema: str
    table: str
    relid: int
    status: str
    refresh_mode: str
    effective_mode: str
    mode_reason: str | None
    schedule: str
    is_populated: bool
    stale: bool
    staleness_seconds: float | None
    last_refresh_at: datetime | None
    data_timestamp: datetime | None
    consecutive_errors: int
    last_error: str | None
    retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One line of the refresh history.

    Attributes:
        name: qualified name of the stream table.
        started_at: when the refresh began.
        duration_ms: wall time in milliseconds.
        action: see ``RefreshResult.action``; also ``CREATE``, ``ALTER`` and ``DROP``.
        initiated_by: ``manual``, ``runner``, ``dbt`` or ``lifecycle``.
        rows_inserted: rows written by INSERT.
        rows_updated: rows written by UPDATE.
        rows_deleted: rows removed.
        reason: fallback reason, or why it was held back.
        error: text of the failure.
    """

    name: str
    started_at: datetime
    duration_ms: float
    action: str
    initiated_by: str
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What create did.

    Attributes:
        name: qualified and quoted name.
        relid: OID of the table.
        created: False if it existed already (``create_stream_table_if_not_exists``).
        actions: what was done, in order: words such as ``create``, ``capture``, ``load``, ``none``.
        effective_mode: ``DIFFERENTIAL`` or ``FULL``.
        mode_reason: why FULL; None for DIFFERENTIAL.
        rows: rows loaded.
        notices: implicit acts.
    """

    name: str
    relid: int
    created: bool
    actions: tuple[str, ...]
    effective_mode: str
    mode_reason: str | None = None
    rows: int = 0
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplaceResult:
    """What ``create_or_replace`` or ``alter`` did.

    Attributes:
        name: qualified and quoted name.
        relid: OID of the table; the same as before unless ``actions`` contains ``create``.
        actions: what was done, in order: ``create``; or ``none`` alone (nothing was written); or any of
            ``configuration``, ``query``, ``add_column``, ``drop_column``, ``alter_column``, ``capture``, ``recompute``,
            ``indexes``, ``suspend``, ``resume``.
        effective_mode: ``DIFFERENTIAL`` or ``FULL``.
        mode_reason: why FULL; None for DIFFERENTIAL.
        rows_changed: rows of the table that were written.
        notices: implicit acts.
    """

    name: str
    relid: int
    actions: tuple[str, ...]
    effective_mode: str
    mode_reason: str | None = None
    rows_changed: int = 0
    notices: tuple[Notice, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.actions != ("none",)


@dataclass(frozen=True, slots=True)
class DropResult:
    """What drop did: the qualified names of the stream tables that are gone, dependents first."""

    dropped: tuple[str, ...]
