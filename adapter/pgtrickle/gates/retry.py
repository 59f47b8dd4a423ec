"""What follows from a failed refresh: try again later, or suspend. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

#: SQLSTATE prefixes of failures that pass by themselves: serialization, connection, lock and statement time-outs,
#: missing resources, operator intervention such as a shutdown, the server's own time-outs of sessions, its disks.
RETRYABLE = ("40", "08", "55P03", "57", "53", "25P03", "25P04", "58")

FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(minutes=1)
#: Permanent errors in a row after which a stream table is suspended.
MAX_CONSECUTIVE_ERRORS = 3


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do with a stream table whose refresh failed.

    Attributes:
        suspend: stop trying until somebody resumes it.
        delay: time until the next try; None if suspended.
    """

    suspend: bool
    delay: timedelta | None


def is_retryable(sqlstate: str | None) -> bool:
    """Whether the failure may pass without anybody doing something; an unknown one (None) is not."""
    return sqlstate is not None and sqlstate.startswith(RETRYABLE)


def decide(sqlstate: str | None, failures: int, *, limit: int = MAX_CONSECUTIVE_ERRORS) -> RetryDecision:
    """After the ``failures``-th failure in a row.

    Args:
        sqlstate: five characters; None for an error that did not come from the server.
        failures: consecutive failures including this one, at least 1.
        limit: permanent failures in a row that suspend.
    """
    if failures >= limit and not is_retryable(sqlstate):
        return RetryDecision(suspend=True, delay=None)
    # The exponent is bounded: a stream table may fail for weeks.
    delay = FIRST_DELAY * 2 ** min(failures - 1, 16)
    return RetryDecision(suspend=False, delay=min(delay, LONGEST_DELAY))
