"""``python -m tests.benchmarks``: measure, print, write, compare."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.benchmarks import (
    capture,
    cases,
    compare,
    databases,
    fixed,
    floor,
    freshness,
    harness,
    ivm,
    pictures,
    report,
    server,
)
from tests.benchmarks import (
    scale as many,
)
from tests.benchmarks.cases import tpch
from tests.benchmarks.model import AUTO, CONCURRENTLY, DIFFERENTIAL, FULL, METHODS, REFRESH, Run, change

SMALL = ("1", "100", "1%")
SWEEP = ("1", "100", "0.1%", "1%", "5%", "10%", "20%", "50%")
QUICK = {
    "scale": "0.01",
    "scenario": "row_view,groups_1k,join_q3,left_join,q0[36],capture,pg_ivm,floor,scale,freshness",
    "changes": "1,1%,20%",
    "repeats": 3,
    "methods": ",".join(method for method in METHODS if method != CONCURRENTLY),
}


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a run: its name, and how long it may take compared with the others."""

    name: str
    weight: float
    act: Callable[[Run], None]


def main(argv: list[str] | None = None) -> int:
    """Run the suite. Returns 1 if a result was wrong or a part failed."""
    parser = arguments()
    given = parser.parse_args(argv)
    if given.quick:
        vars(given).update({key: QUICK[key] for key in QUICK if getattr(given, key) == parser.get_default(key)})
    if given.compare:
        say(compare.compared(*given.compare))
        return 0
    if given.show:
        return show(Run.joined([Run.read(path) for path in given.show]), given)
    run, failed = Run(), 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with server.server(given.server) as dsn:
        databases.sweep(dsn)
        options = harness.Options(dsn, given.repeats, tuple(given.methods.split(",")), plans=given.plans)
        run.about = {**floor.about(dsn), "options": vars(given)}
        todo = list(steps(given, options))
        if not todo:
            raise SystemExit(f"no scenario is called like {given.scenario}")
        progress = Progress(todo)
        for step in todo:
            with progress.step(step):
                failed += not attempt(step, run)
            if given.json:
                run.write(given.json)
        run.about["load_after"] = harness.load()
    show(run, given)
    return 1 if failed else 0


def show(run: Run, given: argparse.Namespace) -> int:
    """Print, write and draw what was found, as far as it is wanted."""
    say(report.text(run))
    if given.json:
        run.write(given.json)
        say(f"written: {given.json}")
    if given.pictures:
        say(f"drawn: {len(pictures.draw(run, given.pictures))} pictures in {given.pictures}")
    return 0


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--scale", default="0.1", help="scale factors of TPC-H, comma-separated (default 0.1)")
    parser.add_argument("--scenario", default="*", help="globs of scenario names, comma-separated")
    parser.add_argument(
        "--changes", default=",".join(SMALL), help="rows or percentages (default 1,100,1%%), or 'sweep'"
    )
    parser.add_argument("--methods", default=",".join(METHODS), help="what to measure, comma-separated")
    parser.add_argument("--repeats", type=int, default=7, help="windows per change rate (default 7)")
    parser.add_argument("--json", type=Path, help="write the run to this file, after every scenario")
    parser.add_argument(
        "--plans", type=Path, help="write the plans of one more refresh per change rate to this directory"
    )
    parser.add_argument("--pictures", type=Path, help="draw pictures into this directory")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="only compare two JSON files")
    parser.add_argument("--show", type=Path, nargs="+", help="only report JSON files of earlier runs, joined")
    parser.add_argument("--quick", action="store_true", help="few scenarios on little data")
    parser.add_argument(
        "--long", action="store_true", help="scale: 1,000 stream tables and 10,000,000 pending rows (half an hour)"
    )
    parser.add_argument("--server", help="connection string of a superuser on a server; default: one of our own")
    return parser


def steps(given: argparse.Namespace, options: harness.Options) -> Iterator[Step]:
    """What there is to do."""
    globs = given.scenario.split(",")
    rates = [change(text) for text in (SWEEP if given.changes == "sweep" else given.changes.split(","))]
    for name, (weight, act) in others(given, options).items():
        if wanted(name, globs):
            yield Step(name, weight, act)
    for scale in map(float, given.scale.split(",")):
        for scenario in cases.ALONE:
            if wanted(scenario.name, globs):
                yield Step(
                    f"{scenario.name} SF {scale:g}",
                    scale + 0.05,
                    lambda run, s=scenario, f=scale: harness.measure(run, [s], f, rates, options),
                )
        queries = tuple(name for name in tpch.NAMES if wanted(name, globs))
        if queries:
            yield Step(
                f"TPC-H ({len(queries)} queries) SF {scale:g}",
                0.3 * len(queries) * (scale + 0.05),
                lambda run, q=queries, f=scale: measure_tpch(run, q, f, options),
            )


def others(given: argparse.Namespace, options: harness.Options) -> dict[str, tuple[float, Callable[[Run], None]]]:
    """What is no comparison of refreshes: name -> weight and act."""
    dsn, quick, repeats = options.dsn, given.quick, options.repeats
    scale = min(map(float, given.scale.split(",")))
    return {
        "capture": (0.2, lambda run: capture.measure(run, dsn, repeats=4 * repeats, seconds=1 if quick else 4)),
        "pg_ivm": (0.2, lambda run: ivm.measure(run, dsn, scale=scale, repeats=repeats)),
        "floor": (0.1, lambda run: fixed.measure(run, dsn, repeats=10 * repeats)),
        "scale": (
            0.8,
            lambda run: many.measure(
                run,
                dsn,
                tables=1000 if given.long else 50 if quick else 200,
                pending=10_000_000 if given.long else 200_000 if quick else 1_000_000,
                seconds=5 if quick else 20,
            ),
        ),
        "freshness": (0.2, lambda run: freshness.measure(run, dsn, samples=20 if quick else 100)),
    }


def wanted(name: str, globs: list[str]) -> bool:
    """Whether one of the globs matches."""
    return any(fnmatch(name, glob) for glob in globs)


def measure_tpch(run: Run, queries: tuple[str, ...], scale: float, options: harness.Options) -> None:
    """The 22 queries in one database, 1 % of every table in every window."""
    methods = tuple(method for method in options.methods if method in (DIFFERENTIAL, AUTO, FULL, REFRESH))
    chosen = harness.with_methods(options, methods)
    harness.measure(run, tpch.scenarios(scale, queries), scale, [change("1%")], chosen)


def attempt(step: Step, run: Run) -> bool:
    """Do it; a failure is told and remembered, the other steps go on."""
    try:
        step.act(run)
    except databases.NoData:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the report
        run.remarks.append(f"FAILED {step.name}: {type(error).__name__}: {error}")
        say(run.remarks[-1])
        return False
    return True


class Progress:
    """Which step runs, and how long the rest will take by what the steps before it took."""

    def __init__(self, todo: list[Step]) -> None:
        self.started = time.monotonic()
        self.total = sum(step.weight for step in todo)
        self.done = 0.0

    @contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Tell before and after."""
        began = time.monotonic()
        say(f"{step.name} ...", end=" ")
        yield
        self.done += step.weight
        now = time.monotonic()
        rest = (now - self.started) / self.done * (self.total - self.done)
        say(f"{now - began:.0f} s, load {harness.load():.1f}, about {rest / 60:.0f} min to go")


def say(text: str, end: str = "\n") -> None:
    """To the terminal, at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
