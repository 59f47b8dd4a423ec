"""Measuring side by side: one database, one window of changes after the other, every method on the same window."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks import databases, floor, plans
from tests.benchmarks.changes import Writer
from tests.benchmarks.check import assert_equal
from tests.benchmarks.methods import Bench, Method, Window, cpu_ms, timed
from tests.benchmarks.model import CONCURRENTLY, METHODS, Change, Measurement, Run, Scenario


@dataclass(slots=True)
class Options:
    """How to measure.

    Attributes:
        dsn: of the server.
        repeats: windows per change rate.
        methods: which.
        most_seconds: a method whose repeats have taken this long at one change rate is left out of the remaining ones
            there, but never before three.
        plans: directory for the plans of the statements of one more refresh; None: none.
        told: where progress goes.
    """

    dsn: str
    repeats: int = 7
    methods: tuple[str, ...] = METHODS
    most_seconds: float = 40.0
    plans: Path | None = None
    told: list[str] = field(default_factory=list)


def measure(run: Run, scenarios: Sequence[Scenario], scale: float, changes: Sequence[Change], options: Options) -> None:
    """Measure scenarios that share a database and its changes, and check the results.

    Args:
        run: gets the measurements.
        scenarios: one, or several over the same changed tables.
        scale: scale factor of the data.
        changes: one after the other, smallest first.
        options: how.

    Raises:
        WrongResult: a method's result is not the query's.
    """
    needs_tpch = any(scenario.tpch for scenario in scenarios)
    original = databases.template(options.dsn, scale) if needs_tpch else None
    with databases.copy_of(options.dsn, original) as dsn, _bench(dsn) as bench:
        for scenario in scenarios:
            for statement in scenario.setup:
                bench.conn.execute(statement.format(scale=scale).encode())
        prepared = {scenario.name: bench.prepare(scenario, options.methods) for scenario in scenarios}
        changed = sorted({table for scenario in scenarios for table in scenario.changed})
        writer = Writer(dsn, changed)
        bench.conn.execute("VACUUM ANALYZE")
        bench.conn.execute("CHECKPOINT")
        for change in changes:
            cycles = _Cycles(bench, writer, change, scale)
            floor_ms, trip_ms = floor.commit_floor(dsn)
            for repeat in range(options.repeats + 1):
                cycles.run(scenarios, prepared, repeat, options)
            if options.plans is not None:
                cycles.explain(scenarios, prepared, options.plans)
            for kept in cycles.found.values():
                kept.commit_ms, kept.trip_ms = floor_ms, trip_ms
            run.measurements += cycles.found.values()
            bench.conn.execute("VACUUM ANALYZE")
        for scenario in scenarios:
            for method in prepared[scenario.name]:
                assert_equal(bench.conn, method.result, scenario.query, what=f"{scenario.name}, {method.name}")
        writer.close()


@contextmanager
def _bench(dsn: str) -> Iterator[Bench]:
    bench = Bench(dsn)
    try:
        yield bench
    finally:
        bench.close()


class _Cycles:
    """The windows of one change rate. The first is for warming up and is not counted."""

    def __init__(self, bench: Bench, writer: Writer, change: Change, scale: float) -> None:
        self.bench, self.writer, self.change, self.scale = bench, writer, change, scale
        self.found: dict[tuple[str, str], Measurement] = {}

    def run(
        self, scenarios: Sequence[Scenario], prepared: dict[str, list[Method]], repeat: int, options: Options
    ) -> None:
        """Change the tables once and let every method follow, in another order each time."""
        window = self._window()
        for scenario in scenarios:
            methods = prepared[scenario.name]
            turn = repeat % len(methods) if methods else 0
            for method in methods[turn:] + methods[:turn]:
                place = (scenario.name, method.name)
                kept = self.found.setdefault(place, Measurement(*place[:1], self.scale, self.change.name, method.name))
                if self._enough(kept, options):
                    continue
                before = cpu_ms(method.backend)
                spent, noted = timed(lambda method=method: method.run(window))
                after = cpu_ms(method.backend)
                if repeat:
                    kept.cpu_ms += [after - before] if before is not None and after is not None else []
                    kept.ms.append(spent)
                    kept.rows = window.rows
                    if noted:
                        kept.note(noted)

    def explain(self, scenarios: Sequence[Scenario], prepared: dict[str, list[Method]], directory: Path) -> None:
        """One more window; the plans that our refresh and the hand-written delta run with."""
        window = self._window()
        for scenario in scenarios:
            for method in prepared[scenario.name]:
                conn = plans.connection_of(self.bench, method.name)
                if conn is None:
                    method.run(window)
                    continue
                name = f"{scenario.name}-{self.scale:g}-{self.change.name.replace(' ', '_')}-{method.name}.txt"
                with plans.collected(conn, directory / name):
                    method.run(window)

    def _window(self) -> Window:
        since = databases.since(self.writer.conn)
        window = Window(since, self.writer.apply(self.change))
        self.bench.copy_window(since)
        return window

    def _enough(self, kept: Measurement, options: Options) -> bool:
        # Whoever is left out catches up with all windows at once at the end: its result is still checked.
        return len(kept.ms) >= 3 and sum(kept.ms) > 1000 * options.most_seconds and kept.method == CONCURRENTLY


def load() -> float:
    """The machine's load average of the last minute."""
    return os.getloadavg()[0]


def with_methods(options: Options, methods: tuple[str, ...]) -> Options:
    """The same options with other methods."""
    return replace(options, methods=methods)
