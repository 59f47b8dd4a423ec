"""Two runs side by side: what became faster and what slower."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.model import AUTO, DIFFERENTIAL, FULL, HAND, REFRESH, Run, ratio
from tests.benchmarks.report import aligned

NOTEWORTHY = 1.15
"""Medians that differ by less are noise."""
_OURS = (DIFFERENTIAL, AUTO, FULL)


def compared(before: Path, after: Path) -> str:
    """A table of what both runs measured, the largest changes for the worse first.

    Times of different runs are comparable only relative to something that did not change: each is divided by the
    hand-written delta of its own run, or by REFRESH where there is none.
    """
    old, new = Run.read(before).medians(), Run.read(after).medians()
    found = sorted(_rows(old, new), key=lambda row: -row[0])
    lines = [
        [*words, f"{was:.2f}", f"{now:.2f}", f"{change:.2f}x", _verdict(change)] for change, words, was, now in found
    ]
    return aligned(["scenario", "SF", "change", "method", "against", "before", "after", "after/before", ""], lines)


def _rows(
    old: dict[tuple[str, float, str], dict[str, float]], new: dict[tuple[str, float, str], dict[str, float]]
) -> Iterator[tuple[float, list[str], float, float]]:
    for place in old.keys() & new.keys():
        anchor = HAND if HAND in old[place] and HAND in new[place] else REFRESH
        for method in _OURS:
            was, now = ratio(old[place], method, anchor), ratio(new[place], method, anchor)
            if was is not None and now is not None:
                scenario, scale, change = place
                yield now / max(was, 1e-9), [scenario, f"{scale:g}", change, method, anchor], was, now


def _verdict(change: float) -> str:
    return "slower" if change > NOTEWORTHY else "faster" if change < 1 / NOTEWORTHY else ""
