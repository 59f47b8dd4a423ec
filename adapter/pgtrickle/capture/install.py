"""Installing and releasing capture of sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.catalog.model import Source
from pgtrickle.plan import SourceNeed


@dataclass(frozen=True, slots=True)
class InstalledSource:
    """A source that is captured now. ``warnings`` are sentences for the user (said once)."""

    source: Source
    warnings: tuple[str, ...] = ()


def restrictions(conn: db.Connection, relid: int) -> str | None:
    """Why only *that* a source changes can be captured, or nothing at all; None if rows can be captured.

    To be asked before the plan is made: a restricted source is only good for FULL.
    """
    raise NotImplementedError


def install(
    conn: db.Connection,
    stream_table_id: int,
    needs: Sequence[SourceNeed],
    *,
    policy: db.LockPolicy | None = None,
) -> tuple[InstalledSource, ...]:
    """Capture what a plan needs, and register the stream table as a consumer that holds back trimming.

    One short transaction per source, in OID order; writers wait for ``policy.lock_timeout_ms`` at most. Idempotent:
    also to be called when a definition changes (buffers are widened, nothing is narrowed) and after DDL on a source.
    The load has to take its snapshot after this returns. Needs of kind ``stream_table`` and needs that are not
    capturable are registered as dependencies, too (``stream_table``, ``uncaptured``).

    Args:
        conn: autocommit, not in a transaction.
        stream_table_id: registered in ``pgtrickle.stream_tables``.
        needs: ``plan.sources``.
        policy: how long to wait for locks.

    Raises:
        LockTimeout: a source stayed locked; the detail names pid and query.
        PermissionDenied: the hint lists the GRANTs.
        UnsupportedQuery: rows are needed of a source whose rows cannot be captured.
    """
    raise NotImplementedError


def release(
    conn: db.Connection,
    stream_table_id: int,
    *,
    keep: Sequence[SourceNeed] = (),
    policy: db.LockPolicy | None = None,
) -> None:
    """Unregister the stream table from all sources except ``keep``; sources without consumers lose their capture.

    The trigger functions turn into no-ops at once, the triggers go under the lock policy, then the buffers; what
    stays locked is left for the next `trim`. Narrows buffers whose columns nobody needs any more.
    """
    raise NotImplementedError
