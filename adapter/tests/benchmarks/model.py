"""The values of the suite: scenarios, changes, measurements, readings, runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DIFFERENTIAL = "differential"
FULL = "full"
AUTO = "auto"
REFRESH = "refresh"
CONCURRENTLY = "concurrently"
HAND = "hand"
METHODS = (HAND, DIFFERENTIAL, AUTO, FULL, REFRESH, CONCURRENTLY)


@dataclass(frozen=True, slots=True)
class Hand:
    """Delta SQL as an engineer would write it for this one query, over the same change rows as our refresh reads.

    Attributes:
        setup: statements that make the table ``hand``; ``{query}`` stands for the defining query.
        delta: statements of one transaction; ``{lineitem}`` stands for the window of changes of ``lineitem``: its
            columns and the weight ``w``.
        result: the defining query's rows, from ``hand``.
    """

    setup: tuple[str, ...]
    delta: tuple[str, ...]
    result: str = "SELECT * FROM hand"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A defining query and what changes under it.

    Attributes:
        name: stable word; results of two runs are matched by it.
        title: for tables and pictures.
        query: the defining query.
        changed: the tables that change.
        unique: columns of a unique index on the materialized view, for REFRESH CONCURRENTLY; empty: none.
        setup: statements before anything is created, for example an index on a source; ``{scale}`` is the scale.
        hand: the hand-written delta.
        tpch: whether it reads the tables of TPC-H; otherwise ``setup`` makes its own.
    """

    name: str
    title: str
    query: str
    changed: tuple[str, ...]
    unique: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    hand: Hand | None = None
    tpch: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """How much changes between two refreshes: a number of rows, or a share of each table."""

    name: str
    rows: int | None = None
    share: float | None = None

    def of(self, table_rows: int) -> int:
        """Rows that change in a table of this size; a share of a tiny table may be none."""
        return self.rows if self.rows is not None else round((self.share or 0) * table_rows)


def change(text: str) -> Change:
    """``1%`` or ``100`` as a change."""
    if text.endswith("%"):
        return Change(text, share=float(text[:-1]) / 100)
    return Change(f"{int(text)} row{'s' if int(text) != 1 else ''}", rows=int(text))


@dataclass(slots=True)
class Measurement:
    """The times of one method in one scenario at one change rate.

    Attributes:
        scale: scale factor of the data.
        rows: change rows in the window of one refresh, the median.
        ms: wall times of the repeats, milliseconds.
        cpu_ms: processor times of our process and of the server's process for its session, without parallel workers;
            empty where the server is not on this machine. On a busy machine they say more than wall times.
        notes: word -> how often, for example the decisions of AUTO with their reasons.
        commit_ms: a one-row autocommit UPDATE at that time.
        trip_ms: a round trip at that time.
    """

    scenario: str
    scale: float
    change: str
    method: str
    rows: int = 0
    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    commit_ms: float = 0.0
    trip_ms: float = 0.0

    @property
    def median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.ms)

    def note(self, word: str) -> None:
        """Count a word."""
        self.notes[word] = self.notes.get(word, 0) + 1


@dataclass(slots=True)
class Reading:
    """One number that is no median of refreshes, with its target.

    Attributes:
        goal: number of the goal.
        name: what was measured.
        value: the number.
        unit: ``x``, ``ms``, ``us``, ``rounds`` ...
        target: the limit; None: told, not judged.
        at_most: whether the target is an upper limit.
        note: how it came about.
    """

    goal: int
    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = True
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass(slots=True)
class Run:
    """Everything one run of the suite found.

    Attributes:
        about: machine, server, date, load, options.
        measurements: the refreshes.
        readings: the other numbers.
        remarks: what was left out and why, and failures.
    """

    about: dict[str, Any] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n")

    @classmethod
    def read(cls, path: Path) -> Run:
        """What `write` wrote."""
        stored = json.loads(path.read_text())
        return cls(
            stored["about"],
            [Measurement(**found) for found in stored["measurements"]],
            [Reading(**found) for found in stored["readings"]],
            stored["remarks"],
        )

    @classmethod
    def joined(cls, runs: Sequence[Run]) -> Run:
        """Several runs as one; it is said to be about the last."""
        return cls(
            runs[-1].about,
            [measured for run in runs for measured in run.measurements],
            [reading for run in runs for reading in run.readings],
            [remark for run in runs for remark in run.remarks],
        )

    def medians(self) -> dict[tuple[str, float, str], dict[str, float]]:
        """(scenario, scale, change) -> method -> milliseconds."""
        found: dict[tuple[str, float, str], dict[str, float]] = {}
        for measured in self.measurements:
            if measured.ms:
                place = (measured.scenario, measured.scale, measured.change)
                found.setdefault(place, {})[measured.method] = measured.median
        return found


def ratio(times: Mapping[str, float], over: str, under: str) -> float | None:
    """How many times longer ``over`` takes than ``under``; None where one was not measured."""
    if over not in times or under not in times:
        return None
    return times[over] / max(times[under], 1e-6)


def flat(groups: Iterable[Iterable[Scenario]]) -> list[Scenario]:
    """All scenarios of several groups."""
    return [scenario for group in groups for scenario in group]
