"""What a run reports of a stream table: the line in the log and ``adapter_response`` in run_results.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from dbt.adapters.contracts.connection import AdapterResponse

from pgtrickle.api import HistoryRow, ReplaceResult


@dataclass
class StreamTableResponse(AdapterResponse):
    """dbt's response with what the engine did.

    Attributes:
        action: ``create``, ``none``, ``skip``, or what was changed, joined by commas.
        refresh_mode: ``DIFFERENTIAL`` or ``FULL``: how the stream table is maintained from now on.
        mode_reason: why it is not DIFFERENTIAL.
        rows_inserted: rows written by INSERT during this run.
        rows_updated: rows written by UPDATE.
        rows_deleted: rows removed.
        duration_ms: wall time of the engine's work.
        notices: what the engine did implicitly and told as warnings.
    """

    action: str = "none"
    refresh_mode: str = ""
    mode_reason: Optional[str] = None  # noqa: UP045 - read by mashumaro
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    duration_ms: float = 0.0
    notices: list[str] = field(default_factory=list)


def respond(result: ReplaceResult, last: HistoryRow | None, duration_ms: float) -> StreamTableResponse:
    """Put what the engine returned into dbt's terms.

    Args:
        result: what create_or_replace returned.
        last: the history of the load or recompute that this run caused, if any.
        duration_ms: wall time.
    """
    counts = (last.rows_inserted, last.rows_updated, last.rows_deleted) if last else (result.rows_changed, 0, 0)
    action = "create" if "create" in result.actions else ", ".join(result.actions)
    return StreamTableResponse(
        _message=_message(result, counts),
        code=action.upper(),
        rows_affected=result.rows_changed,
        action=action,
        refresh_mode=result.effective_mode,
        mode_reason=result.mode_reason,
        rows_inserted=counts[0],
        rows_updated=counts[1],
        rows_deleted=counts[2],
        duration_ms=round(duration_ms, 3),
        notices=[notice.code for notice in result.notices],
    )


def skipped(message: str) -> StreamTableResponse:
    """The response of a run that deliberately left the stream table as it was."""
    return StreamTableResponse(_message=f"SKIP ({message})", code="SKIP", rows_affected=0, action="skip")


def _message(result: ReplaceResult, counts: tuple[int, int, int]) -> str:
    mode = result.effective_mode
    if not result.changed:
        return f"UNCHANGED ({mode})"
    if "create" in result.actions:
        return f"CREATED ({mode}, {result.rows_changed} rows)"
    inserted, updated, deleted = counts
    return f"ALTERED {', '.join(result.actions)} ({mode}, +{inserted} ~{updated} -{deleted})"
