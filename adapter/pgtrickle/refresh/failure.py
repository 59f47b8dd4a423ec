"""What is recorded of members that failed or were left alone, after the refresh's own transaction has ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pgtrickle import db
from pgtrickle.catalog import groups
from pgtrickle.catalog import stream_tables as catalog
from pgtrickle.errors import PgTrickleError
from pgtrickle.gates import retry
from pgtrickle.refresh.execute import CountMismatch
from pgtrickle.refresh.finish import entry_base, trail_records
from pgtrickle.refresh.member import Member
from pgtrickle.refresh.session import Session


def record_failures(session: Session, members: Sequence[Member]) -> None:
    """Count failures, set the time of the next try or suspend, and add to history and trail."""
    failed = [member for member in members if member.error is not None]
    skipped = [member for member in members if member.error is None and member.skipped is not None and member.requested]
    if not failed and not skipped:
        return
    with db.transaction(session.conn):
        for member in failed:
            _fail(session, member, member.error)
        entries = [_entry(session, member) for member in [*failed, *skipped]]
        trail = [record for member in [*failed, *skipped] for record in trail_records(member)]
        db.batch(session.conn, [groups.record(entries, trail)], dict)


def _fail(session: Session, member: Member, error: PgTrickleError | None) -> None:
    if error is None:
        return
    failures = member.row.consecutive_errors + 1
    decision = retry.decide(error.sqlstate, failures)
    # Somebody who tries by hand sees the error; only the runner needs to be stopped.
    suspend = decision.suspend and session.initiated_by == "runner"
    status = None if retry.is_retryable(error.sqlstate) else "SUSPENDED" if suspend else "ERROR"
    delay = decision.delay if decision.delay is not None else timedelta(0)
    groups.fail(session.conn, member.row.id, error.as_dict(), delay=delay, status=status)
    if isinstance(error, CountMismatch):
        catalog.request_recompute(session.conn, member.row.id, error.message)


def _entry(session: Session, member: Member) -> dict[str, object]:
    error = member.error
    return {
        **entry_base(member, session.initiated_by),
        "action": "FAILED" if error is not None else "SKIPPED",
        "reason": member.skipped,
        "duration_ms": member.duration_ms,
        "error": None if error is None else error.as_dict(),
    }
