"""Registering and releasing stream tables as consumers of sources."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pgtrickle import db
from pgtrickle.capture import relations
from pgtrickle.capture.converge import converge, remove, retire
from pgtrickle.capture.gently import FEW_TABLES, hang, shed
from pgtrickle.capture.relations import Family
from pgtrickle.catalog import sources, stream_tables
from pgtrickle.catalog.model import Dependency, Source
from pgtrickle.errors import InternalError, LockTimeout, PgTrickleError, UnsupportedQuery
from pgtrickle.plan import SourceNeed

_log = logging.getLogger(__name__)

#: How long who drops or alters a stream table waits for locks on what it read, to tidy up: seconds, all together.
CLEAN_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class InstalledSource:
    """A source that is captured now. ``warnings`` are sentences for the user (said once)."""

    source: Source
    warnings: tuple[str, ...] = ()


def install(
    conn: db.Connection,
    stream_table_id: int,
    needs: Sequence[SourceNeed],
    *,
    policy: db.LockPolicy | None = None,
) -> tuple[InstalledSource, ...]:
    """Capture what a plan needs, and register the stream table as a consumer that holds back trimming.

    One short transaction per source, in OID order; writers wait for ``policy.lock_timeout_ms`` at most. Idempotent:
    also to be called when a definition changes (buffers are widened, nothing is narrowed). The load has to take its
    snapshot after this returns. Needs of kind ``stream_table`` and needs that are not capturable are registered as
    dependencies, too (``stream_table``, ``uncaptured``).

    Args:
        conn: autocommit, not in a transaction.
        stream_table_id: registered in ``pgtrickle.stream_tables``.
        needs: ``plan.sources``.
        policy: how long to wait for locks.

    Returns:
        The captured base tables in OID order.

    Raises:
        LockTimeout: a source stayed locked; the detail names pid and query.
        PermissionDenied: the hint lists the GRANTs.
        UnsupportedQuery: rows are needed of a source whose rows cannot be captured.
    """
    installed = []
    for need in sorted(needs, key=lambda need: need.relid):
        if need.kind == "stream_table":
            _register_stream_table(conn, stream_table_id, need)
            continue
        found = relations.family(conn, need.relid)
        if not need.capturable or found.unwatchable():
            _register_uncaptured(conn, stream_table_id, need, found)
            continue
        _refuse_lost_rows(conn, need)
        source = _install_one(conn, stream_table_id, need, found, policy)
        installed.append(InstalledSource(source, _warnings(found)))
    return tuple(installed)


def _refuse_lost_rows(conn: db.Connection, need: SourceNeed) -> None:
    reason = relations.restrictions(conn, need.relid) if need.rows else None
    if reason is not None:
        raise UnsupportedQuery(
            f"changes of a source cannot be captured row by row: {reason}",
            object_name=str(need.relid),
            clause="FROM",
            hint="Use refresh_mode FULL.",
        )


def _warnings(found: Family) -> tuple[str, ...]:
    return tuple(
        f"{table.name} belongs to another role: its triggers cannot be ENABLE ALWAYS, so changes by sessions with"
        " session_replication_role = replica are not captured"
        for table in found.tables
        if not table.is_owned
    )


def _register_stream_table(conn: db.Connection, stream_table_id: int, need: SourceNeed) -> None:
    read = stream_tables.fetch_by_relid(conn, need.relid)
    if read is None:
        raise InternalError("a plan reads a stream table that is not registered", object_name=str(need.relid))
    dependency = Dependency(
        stream_table_id=stream_table_id,
        position=0,
        kind="stream_table",
        relid=need.relid,
        schema_name=read.schema_name,
        object_name=read.table_name,
        source_stream_table_id=read.id,
        columns=tuple(need.columns),
        rows=need.rows,
    )
    sources.upsert_dependency(conn, dependency)


def _register_uncaptured(conn: db.Connection, stream_table_id: int, need: SourceNeed, found: Family) -> None:
    root = found.root
    if need.rows and need.capturable:
        _refuse_lost_rows(conn, need)
    dependency = Dependency(
        stream_table_id=stream_table_id,
        position=0,
        kind="uncaptured",
        relid=need.relid,
        schema_name="" if root is None else root.schema_name,
        object_name="" if root is None else root.table_name,
        columns=tuple(need.columns),
        rows=False,
    )
    sources.upsert_dependency(conn, dependency)


def _install_one(
    conn: db.Connection, stream_table_id: int, need: SourceNeed, found: Family, policy: db.LockPolicy | None
) -> Source:
    root = found.root
    if root is None:
        raise InternalError("a source vanished while it was installed", object_name=str(need.relid))

    def register() -> Source:
        source = sources.upsert(conn, need.relid, root.schema_name, root.table_name)
        dependency = Dependency(
            stream_table_id=stream_table_id,
            position=0,
            kind="table",
            relid=need.relid,
            schema_name=root.schema_name,
            object_name=root.table_name,
            source_id=source.id,
            columns=tuple(need.columns),
            rows=need.rows,
        )
        sources.upsert_dependency(conn, dependency)
        return source

    def work() -> Source:
        return converge(conn, register())

    relids = [table.relid for table in found.tables]
    if len(relids) > FEW_TABLES:
        hang(conn, db.under_lock_timeout(conn, register, policy=policy, object_name=root.name), policy)
    return db.under_lock_timeout(conn, work, policy=policy, relids=relids, object_name=root.name)


def repair(
    conn: db.Connection, stream_table_ids: Sequence[int], *, policy: db.LockPolicy | None = None
) -> tuple[Source, ...]:
    """Bring the capture of everything that these stream tables read back to what it should be.

    To be called outside a refresh when `compare` says REPAIR (a trigger was disabled, a partition came or went).
    Where changes may have been missed, the source's ``generation`` goes up, and so every consumer recomputes.

    Returns:
        The sources whose generation went up.
    """
    moved = []
    for source in sources.fetch_of(conn, stream_table_ids):
        repaired = _converge(conn, source, policy)
        if repaired is not None and repaired.generation != source.generation:
            moved.append(repaired)
    return tuple(moved)


def _converge(conn: db.Connection, source: Source, policy: db.LockPolicy | None) -> Source | None:
    def work() -> Source | None:
        locked = sources.lock(conn, source.id)
        return None if locked is None else converge(conn, locked)

    found = relations.family(conn, source.relid)
    relids = [table.relid for table in found.tables]
    name = f"{source.schema_name}.{source.table_name}"
    return db.under_lock_timeout(conn, work, policy=policy, relids=relids, object_name=name)


def release(
    conn: db.Connection,
    stream_table_id: int,
    *,
    keep: Sequence[SourceNeed] = (),
    policy: db.LockPolicy | None = None,
) -> tuple[Source, ...]:
    """Unregister the stream table from all sources but ``keep``, and from columns that ``keep`` does not name.

    A source without consumers costs its writers nothing from then on: its trigger functions do nothing at once.
    Triggers and change buffer go if they can be locked within `CLEAN_UP_S`, or else with a later `trim`: nobody who
    drops or alters a stream table has to wait for an old transaction that wrote to a source.

    Returns:
        Sources that stayed locked, whose clean-up is left to `trim` and `narrow`.
    """
    kept = {need.relid: need for need in keep}
    touched = []
    with db.transaction(conn):
        for dependency in sources.dependencies(conn, stream_table_id):
            _release_one(conn, dependency, kept.get(dependency.relid))
            if dependency.source_id is not None:
                touched.append(dependency.source_id)
        for source_id in sorted(touched):
            source = sources.lock(conn, source_id)
            if source is not None and sources.needs(conn, source_id).consumers == 0:
                retire(conn, source)
    deadline = time.monotonic() + min(CLEAN_UP_S, (policy or db.LockPolicy()).give_up_after_s)
    left = []
    for source in sources.fetch_all(conn):
        if source.id in touched:
            rest = max(0.0, deadline - time.monotonic())
            if not settle(conn, source, policy=replace(policy or db.LockPolicy(), give_up_after_s=rest)):
                _log.info("%s.%s is locked: its triggers go later", source.schema_name, source.table_name)
                left.append(source)
    return tuple(left)


def _release_one(conn: db.Connection, dependency: Dependency, need: SourceNeed | None) -> None:
    if dependency.kind not in ("table", "stream_table", "uncaptured"):
        return
    if need is None:
        sources.delete_dependency(conn, dependency.stream_table_id, dependency.kind, dependency.relid)
        return
    if dependency.kind == "uncaptured":
        return
    columns = tuple(need.columns)
    if (tuple(sorted(columns)), need.rows) == (tuple(sorted(dependency.columns)), dependency.rows):
        return
    fields = {name: getattr(dependency, name) for name in Dependency.__slots__}
    sources.narrow_dependency(conn, Dependency(**{**fields, "columns": columns, "rows": need.rows}))


def settle(conn: db.Connection, source: Source, *, policy: db.LockPolicy | None = None) -> bool:
    """Remove a source that has no consumers, or narrow one that has; False if locks did not allow it now."""

    def work() -> None:
        locked = sources.lock(conn, source.id)
        if locked is None:
            return
        if sources.needs(conn, source.id).consumers == 0:
            remove(conn, locked)
        else:
            converge(conn, locked)

    try:
        if sources.needs(conn, source.id).consumers == 0:
            shed(conn, source, policy)
        db.under_lock_timeout(conn, work, policy=policy, object_name=f"{source.schema_name}.{source.table_name}")
    except LockTimeout:
        return False
    return True


def narrow(conn: db.Connection, policy: db.LockPolicy | None = None) -> None:
    """Capture no more than what is read, where somebody died who was about to see to that."""
    wide = {row["id"] for row in db.fetch_all(conn, relations.QUERIES["too_wide"], dict)}
    for source in sources.fetch_all(conn) if wide else ():
        if source.id in wide:
            settle(conn, source, policy=policy)


def renew(conn: db.Connection, *, policy: db.LockPolicy | None = None) -> None:
    """Give every source the trigger functions of this engine: those of an earlier one may know less.

    What cannot be renewed now, because the source is locked for example, is said in a warning, and works as it did.

    Args:
        conn: autocommit, not in a transaction.
        policy: how long to wait for locks.
    """
    for source in sources.fetch_all(conn):
        try:
            done = settle(conn, source, policy=policy)
        except PgTrickleError as error:
            _log.warning("%s.%s: %s", source.schema_name, source.table_name, error.message)
            continue
        if not done:
            _log.warning(
                "%s.%s is locked: it keeps the trigger functions of the earlier engine until its capture changes",
                source.schema_name,
                source.table_name,
            )
