"""The public face of the engine: what dbt, the command line and users call.

A *name* is ``schema.table``, ``table`` (looked up along the connection's ``search_path``) or either with quoted
identifiers (``"My Schema"."T"``), as PostgreSQL reads it. Inside, everything is keyed by OID.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from psycopg.conninfo import make_conninfo
from typing_extensions import Self

from pgtrickle import capture, db, explain, lifecycle, refresh, schedule
from pgtrickle.catalog import history, installation, overview, stream_tables
from pgtrickle.catalog.model import HistoryEntry
from pgtrickle.errors import (
    CatalogError,
    ConnectionFailed,
    LockTimeout,
    PermissionDenied,
    PgTrickleError,
    StatementFailed,
    StreamTableNotFound,
    TransactionConflict,
)
from pgtrickle.explain import render as render_explanation
from pgtrickle.explain.model import (
    CostExplanation,
    DeltaExplanation,
    Explanation,
    IndexAdvice,
    OperatorExplanation,
    SourceExplanation,
    StageExplanation,
    StatementExplanation,
    TableExplanation,
)
from pgtrickle.lifecycle.options import check_mode
from pgtrickle.monitor import doctor
from pgtrickle.plan import Rewrite
from pgtrickle.results import (
    CreateResult,
    DropResult,
    Finding,
    HistoryRow,
    Notice,
    RefreshResult,
    ReplaceResult,
    StatusRow,
    VerifyResult,
)
from pgtrickle.schedule.order import Dag

__all__ = [
    "CostExplanation",
    "CreateResult",
    "DeltaExplanation",
    "DropResult",
    "Explanation",
    "Finding",
    "HistoryRow",
    "IndexAdvice",
    "Notice",
    "OperatorExplanation",
    "PgTrickle",
    "RefreshResult",
    "ReplaceResult",
    "Rewrite",
    "SourceExplanation",
    "StageExplanation",
    "StatementExplanation",
    "StatusRow",
    "TableExplanation",
    "VerifyResult",
    "render_explanation",
]

#: After this many consumed change rows a connection trims by itself.
TRIM_AFTER = 10_000
#: A trim that finds little to delete, because others have yet to read it, makes the next one wait so many times longer.
TRIM_PATIENCE = 2
_MOST_PATIENT = 32
_CANCELED = "57014"


def _consumed_by(plan: refresh.MemberPlan) -> int:
    """Change rows that a refresh has consumed; where it made no delta, not all are counted, or none."""
    return TRIM_AFTER if plan.action in (refresh.Action.FULL, refresh.Action.RECOMPUTE) else plan.changes


class PgTrickle:
    """One connection to one database with the engine's calls on it. Not to be shared between threads.

    >>> with PgTrickle.connect("dbname=shop") as trickle:                          # doctest: +SKIP
    ...     trickle.create_stream_table("public.totals", "SELECT k, sum(v) FROM orders GROUP BY k")
    ...     trickle.refresh_stream_table("public.totals")
    """

    def __init__(
        self, conn: db.Connection, *, initiated_by: str = "manual", plans: refresh.Plans | None = None
    ) -> None:
        """Work on a connection of ``pgtrickle.db.connect``, which ``close`` closes."""
        self._conn = conn
        memory = refresh.Memory(usable=not conn.shared)
        self._session = refresh.Session(conn, initiated_by, plans=plans or refresh.Plans(), memory=memory)
        self._checked = False
        self._bound = False
        self._consumed = 0
        self._patience = 1

    @classmethod
    def connect(
        cls,
        dsn: str = "",
        *,
        role: str | None = None,
        initiated_by: str = "manual",
        query_comment: str | None = None,
        plans: refresh.Plans | None = None,
        **params: Any,
    ) -> Self:
        """Open a connection.

        Args:
            dsn: libpq connection string or URI; empty: the ``PG*`` environment variables.
            role: ``SET ROLE`` to this role after connecting, as dbt's profile key ``role`` does.
            initiated_by: who asks, for the history: ``manual``, ``runner`` or ``dbt``.
            query_comment: put before every statement, as dbt's query comment is.
            plans: what other connections to the same database have compiled, and what this one compiles; for threads
                that refresh the same stream tables in turn.
            params: further libpq parameters (``host``, ``password``, ``sslmode`` ...); they override the dsn.

        Raises:
            ConnectionFailed: the server cannot be reached or refuses.
        """
        conn = db.connect(make_conninfo(dsn, **params), role=role, query_comment=query_comment)
        return cls(conn, initiated_by=initiated_by, plans=plans)

    @property
    def conn(self) -> db.Connection:
        """The connection, for what is not the engine's business: names are looked up along the user's search_path."""
        self._conn.lend()
        return self._conn

    @property
    def own_conn(self) -> db.Connection:
        """The connection, for parts of the engine: nothing of the user's is searched for names."""
        self._conn.take_back()
        return self._conn

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()

    def cancel(self) -> None:
        """Cancel what the connection is doing; the only call that another thread may make."""
        self._conn.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- installation -----------------------------------------------------------------------------------------------

    def install(self) -> tuple[str, ...]:
        """Create or upgrade the schemas ``pgtrickle``, ``pgtrickle_changes`` and ``pgtrickle_state``.

        Idempotent. A catalog that was restored without its rows is made anew; its stream tables are ordinary tables
        then. Returns the names of the migrations that were applied, empty if none.

        Raises:
            CatalogError: the extension pg_trickle is installed, or the catalog is newer than this package.
            PermissionDenied: CREATE on the database is missing.
        """
        lifecycle.recover(self.own_conn)
        applied = installation.install(self._conn)
        lifecycle.rebind(self._conn)
        if applied:
            capture.renew(self._conn)
        return applied

    def uninstall(self, *, drop_stream_tables: bool = False) -> tuple[str, ...]:
        """Remove triggers, buffers, state and catalog.

        Args:
            drop_stream_tables: drop the stream tables as well; otherwise they stay as ordinary tables.

        Returns:
            The qualified names of the stream tables that were dropped or released.
        """
        self._check()
        names = tuple(row.name for row in self.status())
        capture.uninstall(self._conn, drop_stream_tables=drop_stream_tables)
        self._checked = self._bound = False
        return names

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
        self._check(again=True)
        configuration = _configuration(schedule, refresh_mode, initialize, options)
        with lifecycle.explained(self._conn, name, query):
            return lifecycle.create(self._session, name, query, configuration)

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
        self._check()
        target = lifecycle.resolve(self._conn, name)
        found = target.stream_table
        if found is None or target.vanished:
            return self.create_stream_table(name, query, schedule, refresh_mode, initialize, **options)
        return CreateResult(target.quoted, found.relid, False, ("none",), found.effective_mode, found.mode_reason)

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

        Nothing differs: nothing is written. Configuration differs: only that. The query differs: the table keeps its
        OID, columns are added, dropped or altered in place, the content is recomputed by difference.

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
        self._check(again=True)
        configuration = _configuration(schedule, refresh_mode, initialize, options)
        with lifecycle.explained(self._conn, name, query):
            return lifecycle.create_or_replace(self._session, name, query, configuration, full_refresh=full_refresh)

    def preview_stream_table(
        self,
        name: str,
        query: str,
        schedule: str | None = None,
        refresh_mode: str | None = None,
        **options: Any,
    ) -> tuple[str, ...]:
        """What ``create_or_replace_stream_table`` would change; nothing is written.

        Returns:
            ``("create",)``; or any of ``configuration``, ``query``, ``suspend``, ``resume``; or ``("none",)``.
        """
        self._check(writes=False)
        configuration = _configuration(schedule, refresh_mode, True, options)
        return lifecycle.preview(self._session, name, query, configuration)

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
        self._check(again=True)
        configuration = _configuration(schedule, refresh_mode, True, {**options, "status": status})
        with lifecycle.explained(self._conn, name, query):
            return lifecycle.alter(self._session, name, query, configuration)

    def drop_stream_table(self, name: str, cascade: bool = False, *, if_exists: bool = False) -> DropResult:
        """Drop a stream table with its triggers, buffers and state as far as nobody else needs them.

        Args:
            cascade: drop the stream tables that depend on it as well (never other objects).
            if_exists: an unknown name is no error.

        Raises:
            DependentsExist: stream tables (without ``cascade``), views or other objects depend on it; all are listed.
        """
        self._check(again=True)
        return lifecycle.drop(self._session, name, cascade=cascade, if_exists=if_exists)

    def release_stream_table(self, name: str) -> None:
        """Forget a stream table but keep the table and its content, as an ordinary table.

        Raises:
            DependentsExist: stream tables read it.
        """
        self._check(again=True)
        lifecycle.release(self._session, name)

    def suspend(self, name: str) -> ReplaceResult:
        """Stop scheduled and manual refreshes until ``resume``; capture goes on."""
        return self.alter_stream_table(name, status="SUSPENDED")

    def resume(self, name: str) -> ReplaceResult:
        """Undo ``suspend``, or the suspension after repeated errors."""
        return self.alter_stream_table(name, status="ACTIVE")

    def let_go(self, name: str) -> None:
        """Keep no more changes for a stream table that nobody refreshes: its next refresh recomputes.

        What only it held back is trimmed at once. It stays what it is otherwise, so that ``resume`` brings it back.

        Raises:
            StreamTableNotFound: no such stream table.
            LockTimeout: it is being refreshed all the time.
        """
        self._check(again=True)
        capture.let_go(self._conn, lifecycle.resolve_stream_table(self._conn, name).id)
        self._trim()

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
        self._check()
        before = self._session.statements
        with lifecycle.explained(self._conn, name, None):
            try:
                relid, members = self._refresh_named(name, full=full)
            except StreamTableNotFound:
                # Dropped meanwhile, or the database was restored under this connection and the name has another OID.
                relid, members = self._refresh_named(name, full=full)
            result = refresh.result(self._session, members, relid, self._session.statements - before)
        self._consumed += sum(_consumed_by(member.need_plan()) for member in members if member.moved)
        if self._consumed >= TRIM_AFTER * self._patience:
            # Who has waited has waited for other stream tables' sources, too.
            self._trim([member.row.id for member in members] if self._patience == 1 else None)
        return result

    def _refresh_named(self, name: str, *, full: bool) -> tuple[int, tuple[refresh.Member, ...]]:
        relid = None if full else self._session.memory.relid(name)
        if relid is not None:
            with suppress(refresh.Forgotten):
                return relid, lifecycle.refresh_group(self._session, refresh.Request((relid,), sure=False))
        relid = lifecycle.stream_table_oid(self._conn, name)
        self._session.statements += 1
        return relid, lifecycle.refresh_group(self._session, refresh.Request((relid,), full=full))

    def refresh_all(self, names: Iterable[str] | None = None, *, full: bool = False) -> tuple[RefreshResult, ...]:
        """Refresh all, or these and their ancestors, in dependency order.

        A failing one does not stop the others: it and its descendants have action ``FAILED`` or ``SKIPPED``.
        """
        self._check()
        if names is None:
            relids = [table.relid for table in stream_tables.fetch_all(self._conn)]
        else:
            relids = [lifecycle.resolve_stream_table(self._conn, name).relid for name in names]
        results = self._refresh_groups(relids, manual=True, full=full)
        self._trim()
        self.tidy()
        return results

    def refresh_due(self, relids: Iterable[int]) -> tuple[RefreshResult, ...]:
        """What the runner calls: refresh these stream tables and their stale ancestors, if their gates are open.

        Args:
            relids: OIDs of stream tables that are due and belong together: they move in one transaction.

        Never raises for a failing stream table; the result and the history say what happened.
        """
        wanted = tuple(relids)
        try:
            return self._refresh_group(wanted, manual=False, full=False)
        except StreamTableNotFound:
            # Some were dropped in the meantime, and perhaps the others do not belong together any more.
            return self._refresh_groups(list(wanted), manual=False, full=False)

    def verify(self, name: str, *, repair: bool = False, state: bool = False) -> VerifyResult:
        """Prove that the stream table equals its query.

        Refreshes DIFFERENTIALLY inside its own transaction, compares on one snapshot, rolls back; works under load.

        Args:
            repair: if they differ, or if the state does, recompute by difference and commit.
            state: also compare the state from which later refreshes go on, which takes as long as a recompute.
        """
        self._check()
        found = lifecycle.resolve_stream_table(self._conn, name)
        result = lifecycle.verify(self._session, found.relid, state=state or repair)
        if repair and result.proven is False:
            lifecycle.repair(self._session, found.relid)
            return replace(result, repaired=True)
        return result

    def doctor(self, *, fix: bool = False) -> tuple[Finding, ...]:
        """Look at everything that could be wrong: capture, buffers, state, frontiers, leftovers, privileges, server.

        Args:
            fix: mend what can be mended. Where changes may have been missed, what reads them is recomputed.

        Returns:
            What is wrong, the worst first; with ``fix`` also what is not any more. Empty: nothing is wrong.
        """
        # Nothing is bound to this database or migrated by looking at it.
        installation.check(self.own_conn)
        if fix:
            return doctor.treat(self._session)
        return tuple(one.finding for one in doctor.examine(self._conn))

    # --- reading ----------------------------------------------------------------------------------------------------

    def is_stream_table(self, name: str) -> bool:
        """Whether this name is a registered stream table; False for anything else, also for what does not exist."""
        self._check(writes=False)
        target = lifecycle.resolve(self._conn, name)
        return target.stream_table is not None and not target.vanished

    def status(self, name: str | None = None) -> tuple[StatusRow, ...]:
        """The state of one or, ordered by name, of all stream tables.

        Raises:
            StreamTableNotFound: ``name`` is not registered.
        """
        self._check(writes=False)
        if name is None:
            return overview.fetch(self._conn)
        return overview.fetch(self._conn, lifecycle.resolve_stream_table(self._conn, name).id)

    def history(self, name: str | None = None, limit: int = 20) -> tuple[HistoryRow, ...]:
        """The last refreshes, newest first."""
        self._check(writes=False)
        stream_table_id = None if name is None else lifecycle.resolve_stream_table(self._conn, name).id
        return tuple(_history_row(entry) for entry in history.fetch(self._conn, stream_table_id, limit=limit))

    def explain(self, name: str) -> Explanation:
        """How a stream table is maintained: operators, rules, rewrites, delta SQL, tables, costs, gates.

        ``pgtrickle.api.render_explanation`` shows it as text or as a picture.
        """
        self._check(writes=False)
        return explain.explain_stream_table(self._conn, name)

    def validate_query(self, query: str, refresh_mode: str = "AUTO") -> Explanation:
        """All that ``explain`` tells, of a query, without creating anything.

        Raises:
            InvalidQuery: PostgreSQL refuses it.
            UnsupportedQuery: mode DIFFERENTIAL and it cannot be maintained incrementally.
        """
        return explain.explain_query(self.own_conn, query, check_mode(refresh_mode))

    def tidy(self) -> None:
        """Finish drops that were interrupted; what somebody else is working on has another turn."""
        self._check()
        with suppress(LockTimeout, TransactionConflict):
            lifecycle.finish_drops(self._session, db.LockPolicy(give_up_after_s=0))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _check(self, *, writes: bool = True, again: bool = False) -> None:
        """Refuse a database where the catalog is missing or of another version.

        Binds a catalog that was restored from elsewhere to this database first; who only reads need not be able to.

        Args:
            writes: the caller is going to write.
            again: ask also if it was asked before: it may have been migrated since. Refreshes ask by themselves.
        """
        self._conn.take_back()
        if not again and (self._bound or (self._checked and not writes)):
            return
        try:
            installation.check(self._conn)
            self._checked = True
            lifecycle.rebind(self._conn)
            self._bound = True
        except PermissionDenied as error:
            if self._checked and not writes:
                return
            error.hint = error.hint or overview.missing_grant(self._conn)
            raise
        except (CatalogError, StatementFailed):
            # Who only reads can read a copy that is restored or read-only.
            if not self._checked or writes:
                raise

    def _trim(self, only_for: Sequence[int] | None = None) -> None:
        """Drop consumed changes: where no runner runs, nobody else does."""
        consumed, self._consumed = self._consumed, 0
        # Somebody else is at work on a buffer; what is left now goes with the next trim.
        with suppress(LockTimeout, TransactionConflict):
            try:
                little = capture.trim(self._conn, only_for).deleted < consumed // TRIM_PATIENCE
            except StatementFailed as error:
                # Refreshed is refreshed: behind a pooler a time-out of the role's may end this, as the doctor says.
                if error.sqlstate != _CANCELED:
                    raise
                little = True
            self._patience = min(self._patience * TRIM_PATIENCE, _MOST_PATIENT) if little else 1

    def _refresh_groups(self, relids: Sequence[int], *, manual: bool, full: bool) -> tuple[RefreshResult, ...]:
        """Refresh what belongs together in one transaction, one group after the other."""
        known = {table.relid: table.name for table in stream_tables.fetch_all(self._conn)}
        done: list[RefreshResult] = []
        for group in Dag(known, overview.edges(self._conn), known).groups(relid for relid in relids if relid in known):
            try:
                done += self._refresh_group(group, manual=manual, full=full)
            except StreamTableNotFound as error:
                done += [RefreshResult(known[relid], "FAILED", fallback_reason=error.message) for relid in group]
        return tuple(done)

    def _refresh_group(self, group: tuple[int, ...], *, manual: bool, full: bool) -> tuple[RefreshResult, ...]:
        """Refresh these in one transaction; what goes wrong is in the results.

        Raises:
            StreamTableNotFound: one of them is not registered.
            CatalogError: the catalog is of another version by now.
        """
        before = self._session.statements
        try:
            patience = refresh.PATIENCE_S if manual else refresh.RUNNER_PATIENCE_S
            request = refresh.Request(group, manual=manual, full=full, patience_s=patience)
            members = lifecycle.refresh_group(self._session, request)
        except (ConnectionFailed, StreamTableNotFound, CatalogError):
            raise
        except PgTrickleError as error:
            # What is missing may be missing because somebody has migrated the catalog.
            installation.check(self._conn)
            found = [stream_tables.fetch_by_relid(self._conn, relid) for relid in group]
            return tuple(RefreshResult(one.name, "FAILED", fallback_reason=error.message) for one in found if one)
        return refresh.results(self._session, members, self._session.statements - before)


def _configuration(
    text: str | None, mode: str | None, initialize: bool, options: Mapping[str, Any]
) -> lifecycle.Configuration:
    parsed = None if text is None else schedule.parse(text)
    promised = None if parsed is None or parsed.promise is None else parsed.promise.total_seconds()
    given = None if parsed is None else (parsed.text, promised)
    return lifecycle.configure(schedule=given, mode=mode, initialize=initialize, options=options)


def _history_row(entry: HistoryEntry) -> HistoryRow:
    error = entry.error or {}
    return HistoryRow(
        name=f"{entry.schema_name}.{entry.table_name}",
        started_at=entry.started_at,
        duration_ms=entry.duration_ms,
        action=entry.action,
        initiated_by=entry.initiated_by,
        rows_inserted=entry.rows_inserted,
        rows_updated=entry.rows_updated,
        rows_deleted=entry.rows_deleted,
        reason=entry.reason,
        error=error.get("message"),
    )
