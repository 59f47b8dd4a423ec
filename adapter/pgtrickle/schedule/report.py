"""What a runner tells its log."""

from __future__ import annotations

from pgtrickle.errors import PgTrickleError
from pgtrickle.results import RefreshResult
from pgtrickle.schedule import log
from pgtrickle.schedule.pool import Done
from pgtrickle.schedule.situation import Situation

#: Actions that changed nothing, and how loudly that is said.
_UNDONE = {"FAILED": log.error, "SKIPPED": log.warning}


def changes(before: Situation | None, after: Situation) -> None:
    """What a person should hear of: suspensions, and schedules that cannot be read; each once."""
    known = before.tables if before else {}
    for key, state in after.tables.items():
        if state.status == "SUSPENDED" and (key not in known or known[key].status != "SUSPENDED"):
            log.warning("suspended", table=state.name, reason=state.last_error or "on request")
    told = {name for name, _ in before.unreadable} if before else set()
    for name, error in after.unreadable:
        if name not in told:
            log.error("schedule_unreadable", table=name, **fields_of(error))


def refreshed(result: RefreshResult) -> None:
    """One refresh, after those of the ancestors that it took along."""
    for member in result.members:
        refreshed(member)
    if result.action in _UNDONE:
        _UNDONE[result.action](result.action.lower(), table=result.name, reason=result.fallback_reason)
        return
    log_event = log.debug if result.action == "NO_DATA" else log.info
    log_event(
        "refreshed",
        table=result.name,
        action=result.action,
        inserted=result.rows_inserted,
        updated=result.rows_updated,
        deleted=result.rows_deleted,
        duration_ms=round(result.duration_ms, 2),
        reason=result.fallback_reason,
    )


def job_failed(done: Done) -> None:
    """A job that could not even report which stream table failed."""
    if done.error is not None:
        log.error("job_failed", job=done.job.name, seconds=round(done.seconds, 3), **fields_of(done.error))


def poll_failed(error: PgTrickleError) -> None:
    """The change buffers could not be asked."""
    log.debug("poll_failed", **fields_of(error))


def fields_of(error: Exception) -> dict[str, str | None]:
    """An error as fields of an event."""
    if isinstance(error, PgTrickleError):
        return error.as_dict()
    return {"code": type(error).__name__, "message": str(error)}
