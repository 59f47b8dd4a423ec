"""Cooling down: what was tried a moment ago without success is left alone for a growing while. In memory, pure.

The catalog has its own back-off for failures that could be recorded. This one covers the rest: a refresh that was
held back, found nothing although changes were seen, or broke before it could record anything. Without it such a stream
table would be tried again without pause.
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 10.0


class Cooling:
    """Which stream tables rest, and until when; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._delay: dict[int, float] = {}

    def fail(self, keys: Iterable[int], now: float) -> None:
        """These were tried in vain: they rest twice as long as the last time."""
        for key in keys:
            delay = min(self._delay.get(key, FIRST_SECONDS / 2) * 2, LONGEST_SECONDS)
            self._delay[key] = delay
            self._until[key] = now + delay

    def succeed(self, keys: Iterable[int]) -> None:
        """These are well."""
        for key in keys:
            self._until.pop(key, None)
            self._delay.pop(key, None)

    def resting(self, now: float) -> frozenset[int]:
        """Those that rest now."""
        return frozenset(key for key, until in self._until.items() if until > now)

    def next_end(self, now: float) -> float | None:
        """Seconds until the first of them may be tried again; None if none rests."""
        waits = [until - now for until in self._until.values() if until > now]
        return min(waits) if waits else None
