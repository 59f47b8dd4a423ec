"""The public face of the engine: what dbt, the command line and users call.

A *name* is ``schema.table``, ``table`` (looked up along the connection's ``search_path``) or either with quoted
identifiers (``"My Schema"."T"``), as PostgreSQL reads it. Inside, everything is keyed by OID.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from pgtrickle.results import (
    CreateResult,
    DropResult,
    Explanation,
    HistoryRow,
    Notice,
    RefreshResult,
    ReplaceResult,
    StageExplanation,
    StatusRow,
    VerifyResult,
)

__all__ = [
    "CreateResult",
    "DropResult",
    "Explanation",
    "HistoryRow",
    "Notice",
    "PgTrickle",
    "RefreshResult",
    "ReplaceResult",
    "StageExplanation",
    "StatusRow",
    "VerifyResult",
]


class PgTrickle:
    """One connection to one database with the engine's calls on it. Not to be shared between threads.

    >>> with PgTrickle.connect("dbname=shop") as trickle:                          # doctest: +SKIP
    ...     trickle.create_stream_table("public.totals", "SELECT k, sum(v) FROM orders GROUP BY k")
    ...     trickle.refresh_stream_table("public.totals")
    """

    @classmethod
    def connect(cls, dsn: str = "", *, role: str | None = None, initiated_by: str = "manual", **params: Any) -> PgTrickle:
        """Open a connection.

        Args:
            dsn: libpq connection string or URI; empty: the ``PG*`` environment variables.
            role: ``SET ROLE`` to this role after connecting, as dbt's profile key ``role`` does.
            initiated_by: who asks, for the history: ``manual``, ``runner`` or ``dbt``.
            params: further libpq parameters (``host``, ``password``, ``sslmode`` ...); they override the dsn.

        Raises:
            ConnectionFailed: the server cannot be reached or refuses.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""

    def __enter__(self) -> PgTrickle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- installation -----------------------------------------------------------------------------------------------

    def install(self) -> tuple[str, ...]:
        """Create or upgrade the schemas ``pgtrickle``, ``pgtrickle_changes`` and ``pgtrickle_state``.

        Idempotent. Returns the names of the migrations that were applied, empty if none.

        Raises:
            CatalogError: the extension pg_trickle is installed, or the catalog is newer than this package.
            PermissionDenied: CREATE on the database is missing.
        """
        raise NotImplementedError

    def uninstall(self, *, drop_stream_tables: bool = False) -> tuple[str, ...]:
        """Remove triggers, buffers, state and catalog.

        Args:
            drop_stream_tables: drop the stream tables as well; otherwise they stay as ordinary tables.

        Returns:
            The qualified names of the stream tables that were dropped or released.
        """
        raise NotImplementedError

    # --- create, alter, drop ----------------------------------------------------------------------------------------

    def create_stream_table(
        self,
        name: str,
        query: str,
        schedule: str = "calculated",
        refresh_mode: str = "AUTO",
        initialize: bool = True,
        **options: Any,
    ) -> CreateResult:
        """Create a stream table, capture its sources and load it.

        Args:
            name: where; a missing schema means the first of the ``search_path``.
            query: the defining query, one SELECT without parameters.
            schedule: ``30s``, ``1h30m``, cron (``0 6 * * *``), ``continuous`` or ``calculated``.
            refresh_mode: ``AUTO``, ``DIFFERENTIAL`` or ``FULL``.
            initialize: load at once; False registers only, the first refresh loads.
            options: see docs/reference; ``indexes`` (as in dbt: list of ``{"columns": [...], "unique": bool, "type":
                str}``), ``status``, ``backend_pid`` (a session of the caller that must not be waited for) and every
                option of pg_trickle, which is implemented or refused with the replacement named.

        Raises:
            StreamTableExists: the name is taken by a stream table or any other relation.
            UnsupportedQuery: mode DIFFERENTIAL and the query cannot be maintained incrementally.
            InvalidQuery, InvalidOption, NotYetSupported, DependencyCycle, PermissionDenied, LockTimeout.
        """
        raise NotImplementedError

    def create_stream_table_if_not_exists(
        self,
        name: str,
        query: str,
        schedule: str = "calculated",
        refresh_mode: str = "AUTO",
        initialize: bool = True,
        **options: Any,
    ) -> CreateResult:
        """As ``create_stream_table``; an existing stream table is left as it is (``created`` is False)."""
        raise NotImplementedError

    def create_or_replace_stream_table(
        self,
        name: str,
        query: str,
        schedule: str | None = None,
        refresh_mode: str | None = None,
        initialize: bool = True,
        *,
        full_refresh: bool = False,
        **options: Any,
    ) -> ReplaceResult:
        """Create, or compare with what is there and do the least.

        Nothing differs: nothing is written. Configuration differs: only that. The query differs: the table keeps its OID, columns
        are added, dropped or altered in place, the content is recomputed by difference.

        Args:
            schedule: None keeps the current value (``calculated`` for a new one).
            refresh_mode: None keeps the current value (``AUTO`` for a new one).
            initialize: only for a new one.
            full_refresh: recompute by difference even if nothing differs.
            options: as for ``create_stream_table``; an option that is not given keeps its value.

        Raises:
            StreamTableExists: an ordinary relation has this name.
            DependentsExist: a view or stream table uses a column that would be dropped; all are listed.
        """
        raise NotImplementedError

    def alter_stream_table(
        self,
        name: str,
        *,
        query: str | None = None,
        schedule: str | None = None,
        refresh_mode: str | None = None,
        status: str | None = None,
        **options: Any,
    ) -> ReplaceResult:
        """Change what is given and keep the rest. ``status`` is ``ACTIVE`` or ``SUSPENDED``.

        Raises:
            StreamTableNotFound: no such stream table.
        """
        raise NotImplementedError

    def drop_stream_table(self, name: str, cascade: bool = False, *, if_exists: bool = False) -> DropResult:
        """Drop a stream table with its triggers, buffers and state as far as nobody else needs them.

        Args:
            cascade: drop the stream tables that depend on it as well (never other objects).
            if_exists: an unknown name is no error.

        Raises:
            DependentsExist: stream tables (without ``cascade``), views or other objects depend on it; all are listed.
        """
        raise NotImplementedError

    def release_stream_table(self, name: str) -> None:
        """Forget a stream table but keep the table and its content, as an ordinary table (dbt changes materialization)."""
        raise NotImplementedError

    def suspend(self, name: str) -> ReplaceResult:
        """Stop scheduled and manual refreshes until ``resume``; capture goes on."""
        return self.alter_stream_table(name, status="SUSPENDED")

    def resume(self, name: str) -> ReplaceResult:
        """Undo ``suspend``, or the suspension after repeated errors."""
        return self.alter_stream_table(name, status="ACTIVE")

    # --- refresh ----------------------------------------------------------------------------------------------------

    def refresh_stream_table(self, name: str, *, full: bool = False) -> RefreshResult:
        """Refresh now, together with the stale stream tables it reads, in one transaction and one snapshot.

        Args:
            full: recompute by difference instead of applying the changes.

        Raises:
            RefreshError: it failed; the table keeps its old content.
            RefreshBusy: another session kept refreshing it.
            StreamTableNotFound: no such stream table.
        """
        raise NotImplementedError

    def refresh_all(self, names: Iterable[str] | None = None, *, full: bool = False) -> tuple[RefreshResult, ...]:
        """Refresh all, or these and their ancestors, in dependency order.

        A failing one does not stop the others: it and its descendants have action ``FAILED`` or ``SKIPPED``.
        """
        raise NotImplementedError

    def refresh_due(self, relids: Iterable[int]) -> tuple[RefreshResult, ...]:
        """What the runner calls: refresh these stream tables (by OID) and their stale ancestors, if their gates are open.

        Never raises for a failing stream table; the result and the history say what happened.
        """
        raise NotImplementedError

    def verify(self, name: str, *, repair: bool = False) -> VerifyResult:
        """Prove that the stream table equals its query.

        Refreshes DIFFERENTIALLY inside its own transaction, compares on one snapshot, rolls back; works under load.

        Args:
            repair: if they differ, recompute by difference and commit.
        """
        raise NotImplementedError

    # --- reading ----------------------------------------------------------------------------------------------------

    def is_stream_table(self, name: str) -> bool:
        """Whether this name is a registered stream table; False for anything else, also for what does not exist."""
        raise NotImplementedError

    def status(self, name: str | None = None) -> tuple[StatusRow, ...]:
        """The state of one or, ordered by name, of all stream tables.

        Raises:
            StreamTableNotFound: ``name`` is not registered.
        """
        raise NotImplementedError

    def history(self, name: str | None = None, limit: int = 20) -> tuple[HistoryRow, ...]:
        """The last refreshes, newest first."""
        raise NotImplementedError

    def explain(self, name: str) -> Explanation:
        """Operator tree, delta SQL and strategy per stage, why not DIFFERENTIAL, and what the gates say now."""
        raise NotImplementedError

    def validate_query(self, query: str, refresh_mode: str = "AUTO") -> Explanation:
        """All that ``explain`` tells, of a query, without creating anything.

        Raises:
            InvalidQuery: PostgreSQL refuses it.
            UnsupportedQuery: mode DIFFERENTIAL and it cannot be maintained incrementally.
        """
        raise NotImplementedError


