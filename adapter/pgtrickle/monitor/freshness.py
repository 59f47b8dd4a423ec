"""Whether a stream table is well and fresh enough. Pure."""

from __future__ import annotations

from datetime import timedelta

from pgtrickle.results import StatusRow


def complaint(row: StatusRow, max_age: timedelta | None = None) -> str | None:
    """What is wrong with a stream table, in one sentence; None if nothing is.

    Args:
        row: its state.
        max_age: it must not be older than this; None: than its own schedule allows.
    """
    if row.status == "SUSPENDED":
        return f"suspended: {row.last_error}" if row.last_error else "suspended"
    if not row.is_populated:
        return "never loaded"
    if row.consecutive_errors:
        return f"{row.consecutive_errors} failed refreshes in a row: {row.last_error}"
    if max_age is None:
        return "older than its schedule allows" if row.stale else None
    age = row.staleness_seconds
    if age is None or age > max_age.total_seconds():
        return f"older than {max_age.total_seconds():g} s"
    return None
