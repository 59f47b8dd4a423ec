"""What a run found, as a table for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.benchmarks import goals
from tests.benchmarks.model import (
    AUTO,
    CONCURRENTLY,
    DIFFERENTIAL,
    FULL,
    HAND,
    METHODS,
    REFRESH,
    Measurement,
    Run,
    ratio,
)

_SHORT = {HAND: "hand", DIFFERENTIAL: "diff", AUTO: "auto", FULL: "full", REFRESH: "refresh", CONCURRENTLY: "concur."}
_RATIOS = (
    ("R/diff", REFRESH, DIFFERENTIAL),
    ("C/diff", CONCURRENTLY, DIFFERENTIAL),
    ("R/hand", REFRESH, HAND),
    ("diff/hand", DIFFERENTIAL, HAND),
    ("auto/best", AUTO, "best"),
)


def table(run: Run) -> str:
    """Medians in milliseconds and their ratios, one line per scenario and change rate."""
    titles = [
        "scenario",
        "SF",
        "change",
        "rows",
        *_SHORT.values(),
        *(name for name, _, _ in _RATIOS),
        "cpu d/h",
        "commit",
        "decisions",
    ]
    lines = []
    for (scenario, scale, change), times in run.medians().items():
        kept = {m.method: m for m in run.measurements if (m.scenario, m.scale, m.change) == (scenario, scale, change)}
        best = [times[method] for method in (DIFFERENTIAL, FULL) if method in times]
        judged = {**times, **({"best": min(best)} if best else {})}
        lines.append(
            [
                scenario,
                f"{scale:g}",
                change,
                f"{next(iter(kept.values())).rows:,}",
                *(_ms(times.get(method)) for method in METHODS),
                *(_times(ratio(judged, over, under)) for _, over, under in _RATIOS),
                _times(_cpu(kept)),
                _ms(next(iter(kept.values())).commit_ms),
                _decisions(kept),
            ]
        )
    return aligned(titles, lines)


def aligned(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table in even columns."""
    widths = [max(len(row[place]) for row in [titles, *lines]) for place in range(len(titles))]

    def show(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return "\n".join([show(titles), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(show, lines)])


def _cpu(kept: dict[str, Measurement]) -> float | None:
    """Processor time of our differential refresh over that of the hand-written delta."""
    spent = [kept[method].cpu_ms for method in (DIFFERENTIAL, HAND) if method in kept]
    return None if len(spent) < 2 or not all(spent) else statistics.median(spent[0]) / statistics.median(spent[1])


def _decisions(kept: dict[str, Measurement]) -> str:
    """What AUTO did, and what DIFFERENTIAL did where it was something else."""
    said = []
    for method in (AUTO, DIFFERENTIAL):
        if method in kept:
            words = {}
            for note, count in kept[method].notes.items():
                word = note.split(":")[0]
                words[word] = words.get(word, 0) + count
            if method == AUTO or set(words) != {"DIFFERENTIAL"}:
                said.append(f"{_SHORT[method]} " + " ".join(f"{word}×{count}" for word, count in sorted(words.items())))
    return ", ".join(said)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}x" if value < 100 else f"{value:,.0f}x"


def text(run: Run) -> str:
    """The whole report."""
    about = run.about
    head = [
        "",
        f"{about.get('date')}, {about.get('processors')} x {about.get('processor')}, {about.get('server')}",
        f"settings: {about.get('settings')}",
        f"load {about.get('load_before', 0):.1f} before, {about.get('load_after', 0):.1f} after; pg_ivm "
        f"{'is' if about.get('pg_ivm') else 'is not'} available on this server",
        "medians in ms; R = REFRESH MATERIALIZED VIEW, C = CONCURRENTLY, hand = delta SQL written by hand",
        "",
    ]
    parts = [*head, table(run), "", goals_table(run), "", *summary(run)]
    return "\n".join([*parts, *(["", *run.remarks] if run.remarks else [])])


def goals_table(run: Run) -> str:
    """Goal by goal: target, measured, met or not."""
    lines = []
    for reading in goals.judged(run):
        target = "" if reading.target is None else f"{'<=' if reading.at_most else '>='} {reading.target:.4g}"
        met = {None: "", True: "met", False: "NOT met"}[reading.met]
        number = f"{reading.value:.3g}" if abs(reading.value) < 1000 else f"{reading.value:,.0f}"
        lines.append([str(reading.goal), reading.name, target, f"{number} {reading.unit}", met, reading.note])
    return aligned(["goal", "what", "target", "measured", "", "note"], lines)


def summary(run: Run) -> list[str]:
    """One line per goal: how many of its targets are met."""
    counted: dict[int, list[bool]] = {}
    for reading in goals.judged(run):
        if reading.met is not None:
            counted.setdefault(reading.goal, []).append(reading.met)
    return [f"goal {goal}: {sum(met)} of {len(met)} met" for goal, met in sorted(counted.items())]
