"""The targets, and what a run says about each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.benchmarks.cases.tpch import NAMES as QUERIES
from tests.benchmarks.model import AUTO, CONCURRENTLY, DIFFERENTIAL, FULL, HAND, REFRESH, Reading, Run, ratio

Times = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Faster:
    """A scenario has to be so many times faster than another method, at a change rate and a scale."""

    goal: int
    scenario: str
    times: float
    change: str = "1%"
    scale: float = 1.0
    than: str = REFRESH


_AT_ONE_PERCENT = {
    "join_two": 6,
    "join_q5": 5,
    "join_q3": 3.5,
    "join_q3_orders": 8,
    "join_q5_orders": 8,
    "min_max": 3,
    "distinct": 7,
    "left_join": 4,
    "anti_join": 2,
    "row_number": 1.8,
    "top_100": 10,
}
_GROUPS = {"groups_10": 10, "groups_1k": 10, "groups_100k": 7}
FASTER = (
    Faster(1, "row_view", 8),
    Faster(1, "row_view", 40, than=CONCURRENTLY),
    *(Faster(2, name, times) for name, times in _GROUPS.items()),
    *(Faster(3, name, times) for name, times in _AT_ONE_PERCENT.items()),
    *(Faster(4, name, 50, "100 rows") for name in ("row_view", *_GROUPS, *_AT_ONE_PERCENT)),
    *(Faster(4, name, 20, "1 row", 0.1) for name in ("row_view", *_GROUPS, *_AT_ONE_PERCENT, "recursion")),
)
AUTO_OVER_REFRESH = 1.2
DIFFERENTIAL_OVER_REFRESH = 3.0
QUERIES_FASTER = 16
AUTO_OVER_BEST = 1.3
SWEEP = ("0.1%", "1%", "5%", "10%", "20%", "50%")
TAX = 1.5
TAX_MS = 2.0


def judged(run: Run) -> list[Reading]:
    """Everything that a run says about the goals, by goal."""
    found = [*_speed(run), *_tpch(run), *_choice(run), *_tax(run), *run.readings]
    return sorted(found, key=lambda reading: reading.goal)


def _speed(run: Run) -> Iterator[Reading]:
    """A goal is judged at every scale that was measured; at another than its own the note says so."""
    for (scenario, scale, change), times in run.medians().items():
        for goal in FASTER:
            value = ratio(times, goal.than, DIFFERENTIAL)
            if (goal.scenario, goal.change) == (scenario, change) and value is not None:
                note = "" if scale == goal.scale else f"the target is for SF {goal.scale:g}"
                name = f"{scenario}, {change}, SF {scale:g}: {goal.than} / differential"
                yield Reading(goal.goal, name, value, "x", goal.times, at_most=False, note=note)


def _tpch(run: Run) -> Iterator[Reading]:
    faster: dict[float, list[bool]] = {}
    for (scenario, scale, change), times in run.medians().items():
        if scenario not in QUERIES or change != "1%":
            continue
        limits = {AUTO: AUTO_OVER_REFRESH, DIFFERENTIAL: DIFFERENTIAL_OVER_REFRESH}
        for method, limit in limits.items():
            value = ratio(times, method, REFRESH)
            if value is not None:
                yield Reading(5, f"{scenario}, SF {scale:g}: {method} / refresh", value, "x", limit)
        if AUTO in times and REFRESH in times:
            faster.setdefault(scale, []).append(times[AUTO] < times[REFRESH])
    for scale, found in faster.items():
        target = QUERIES_FASTER if len(found) == len(QUERIES) else None
        name = f"queries of {len(found)} where auto is faster than refresh, SF {scale:g}"
        yield Reading(5, name, sum(found), "queries", target, at_most=False)


def _choice(run: Run) -> Iterator[Reading]:
    for (scenario, scale, change), times in run.medians().items():
        if change in SWEEP and {AUTO, DIFFERENTIAL, FULL} <= set(times):
            value = times[AUTO] / min(times[DIFFERENTIAL], times[FULL])
            yield Reading(6, f"{scenario}, {change}, SF {scale:g}: auto / best", value, "x", AUTO_OVER_BEST)


def _tax(run: Run) -> Iterator[Reading]:
    for (scenario, scale, change), times in run.medians().items():
        if not {HAND, DIFFERENTIAL} <= set(times):
            continue
        place = f"{scenario}, {change}, SF {scale:g}"
        if change == "1%":
            yield Reading(7, f"{place}: differential / hand", times[DIFFERENTIAL] / times[HAND], "x", TAX)
        elif change == "1 row":
            yield Reading(7, f"{place}: differential - hand", times[DIFFERENTIAL] - times[HAND], "ms", TAX_MS)
