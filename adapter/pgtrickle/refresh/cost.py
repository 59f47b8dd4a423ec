"""FULL or DIFFERENTIAL for this refresh: decided from the window's size and the stream table's own history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

#: With fewer changes the fixed cost of a differential refresh dominates: it says nothing about the cost per change.
SMALL_WINDOW = 1_000
#: Without history: a change costs this many times what a row of a full evaluation costs.
COLD_CHANGE_FACTOR = 4.0
#: FULL has to be this much cheaper before it is preferred.
MARGIN = 1.1
#: What a first load takes says little about a recompute, which computes in parallel and writes what differs: where
#: differential refreshes take this part of it, a recompute is tried.
TRY_FULL = 0.3
#: After so many full refreshes by decision DIFFERENTIAL is tried again if it is not expected to take longer than
#: ``TRY_MARGIN`` times as long.
TRY_EVERY = 8
TRY_MARGIN = 2.0
#: ... and after so many if both are expected to take about as long: then being wrong costs little and lasts long.
TRY_CLOSE_EVERY = 3
TRY_CLOSE_MARGIN = 1.3
#: ... and save this much, milliseconds: below it, timings of small tables are mostly noise.
WORTH_MS = 50.0
#: A decision for FULL is put to the test again after this many refreshes.
EXPLORE_EVERY = 50
#: One slow refresh may be an accident: cold caches, somebody else's work. It takes so many to leave DIFFERENTIAL.
ENOUGH = 2
#: Windows are never counted further than this.
COUNT_CAP = 1_000_000
#: Timings err upwards, so a shorter one counts for more.
_LONGER_WEIGHT = 0.25
_SHORTER_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class CostHistory:
    """What earlier refreshes of one stream table cost.

    Attributes:
        full_ms: moving average of a full evaluation, milliseconds; None before the first.
        change_ms: moving average per change in windows of at least ``SMALL_WINDOW``, milliseconds.
        small_ms: moving average of a differential refresh with a smaller window, milliseconds.
        full_streak: full refreshes by decision since the last differential one.
        full_is_load: ``full_ms`` is that of the first load, which compares nothing.
        changes_seen: windows that ``change_ms`` comes from, counted up to ``ENOUGH``.
        smalls_seen: windows that ``small_ms`` comes from, counted up to ``ENOUGH``.
    """

    full_ms: float | None = None
    change_ms: float | None = None
    small_ms: float | None = None
    full_streak: int = 0
    full_is_load: bool = False
    changes_seen: int = 0
    smalls_seen: int = 0

    def stored(self) -> dict[str, Any]:
        """For the catalog."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> CostHistory:
        """As the catalog has it; keys of other versions are ignored."""
        return cls(**{key: value for key, value in stored.items() if key in cls.__slots__})


def crossover(history: CostHistory, source_rows: int) -> int:
    """From how many changes on FULL is expected to be cheaper.

    Args:
        history: what is known.
        source_rows: estimated rows of all sources together.
    """
    if history.full_ms is None:
        return COUNT_CAP
    if history.full_streak >= EXPLORE_EVERY:
        return COUNT_CAP
    slow = history.small_ms is not None and history.small_ms > MARGIN * history.full_ms + WORTH_MS
    if slow and history.smalls_seen >= ENOUGH:
        return 1
    change_ms = COLD_CHANGE_FACTOR * history.full_ms / max(source_rows, SMALL_WINDOW)
    if history.change_ms is not None:
        change_ms = history.change_ms if history.changes_seen >= ENOUGH else min(change_ms, history.change_ms)
    margin = MARGIN
    if history.full_streak >= TRY_CLOSE_EVERY:
        margin = TRY_CLOSE_MARGIN if history.full_streak < TRY_EVERY else TRY_MARGIN
    if history.full_is_load and history.changes_seen >= ENOUGH:
        margin = TRY_FULL
    return int(min(max(margin * history.full_ms / max(change_ms, 1e-6), SMALL_WINDOW), COUNT_CAP))


def full_from(history: CostHistory, source_rows: int, max_delta_fraction: float | None) -> int:
    """From how many changes on AUTO recomputes: where it is cheaper, or where the option says so.

    Args:
        history: what is known.
        source_rows: estimated rows of all sources together.
        max_delta_fraction: the option of the stream table.
    """
    learned = crossover(history, source_rows)
    if max_delta_fraction:
        return min(learned, max(int(max_delta_fraction * source_rows), 1))
    return min(learned, COUNT_CAP)


def learn_full(history: CostHistory, duration_ms: float, *, by_decision: bool, load: bool = False) -> CostHistory:
    """The history after a full evaluation; ``load``: into an empty table."""
    streak = history.full_streak + 1 if by_decision else history.full_streak
    before = None if history.full_is_load else history.full_ms
    return replace(history, full_ms=_average(before, duration_ms), full_streak=streak, full_is_load=load)


def learn_differential(history: CostHistory, changes: int, duration_ms: float) -> CostHistory:
    """The history after a differential refresh over this many changes."""
    # The first one makes plans, reads catalogs and warms caches: the second counts instead, later ones are averaged.
    if changes < SMALL_WINDOW:
        before = history.small_ms if history.smalls_seen >= ENOUGH else None
        seen = min(history.smalls_seen + 1, ENOUGH)
        return replace(history, small_ms=_average(before, duration_ms), smalls_seen=seen, full_streak=0)
    before = history.change_ms if history.changes_seen >= ENOUGH else None
    seen = min(history.changes_seen + 1, ENOUGH)
    return replace(history, change_ms=_average(before, duration_ms / changes), changes_seen=seen, full_streak=0)


def _average(old: float | None, new: float) -> float:
    if old is None:
        return new
    weight = _SHORTER_WEIGHT if new < old else _LONGER_WEIGHT
    return (1 - weight) * old + weight * new
