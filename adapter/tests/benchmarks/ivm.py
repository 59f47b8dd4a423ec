"""pg_ivm beside us, where the server has it: what each puts on the writer, and what each costs in total."""

from __future__ import annotations

import statistics

import psycopg

from tests.benchmarks import databases
from tests.benchmarks.cases import ALONE
from tests.benchmarks.changes import Writer
from tests.benchmarks.methods import Bench, Window, timed
from tests.benchmarks.model import DIFFERENTIAL, Reading, Run, change

GOAL = 9
SCENARIOS = (
    "row_view",
    "groups_10",
    "groups_1k",
    "groups_100k",
    "join_two",
    "join_q3",
    "join_q5",
    "min_max",
    "distinct",
)
WRITER = 0.5
TOTAL = 1.6
TOTAL_MANY = 0.2
MANY = frozenset({"groups_100k", "distinct"})


def available(dsn: str) -> bool:
    """Whether the server offers the extension."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        return bool(conn.execute("SELECT FROM pg_available_extensions WHERE name = 'pg_ivm'").rowcount)


def measure(run: Run, dsn: str, *, scale: float, repeats: int) -> None:
    """All readings of goal 9; one remark where there is no pg_ivm.

    Both sets of triggers fire on the same statements, and the server tells the time of each trigger.

    Args:
        run: gets the readings.
        dsn: of the server.
        scale: scale factor of TPC-H.
        repeats: windows of 1 % per scenario.
    """
    if not available(dsn):
        run.remarks.append("goal 9: this server does not have the extension pg_ivm: not measured")
        return
    original = databases.template(dsn, scale)
    for scenario in ALONE:
        if scenario.name in SCENARIOS:
            with databases.copy_of(dsn, original) as inside:
                bench = Bench(inside)
                run.readings += _beside(bench, inside, scenario.name, repeats)
                bench.close()


def _beside(bench: Bench, dsn: str, name: str, repeats: int) -> list[Reading]:
    (scenario,) = (found for found in ALONE if found.name == name)
    for statement in scenario.setup:
        bench.conn.execute(statement.encode())
    (method,) = bench.prepare(scenario, (DIFFERENTIAL,))
    bench.conn.execute("CREATE EXTENSION pg_ivm")
    bench.conn.execute("SELECT pgivm.create_immv('immediate', %s)", (scenario.query,))
    bench.conn.execute("VACUUM ANALYZE")
    writer = Writer(dsn, scenario.changed)
    on_writer, total = [], []
    for repeat in range(repeats + 1):
        since = databases.since(bench.conn)
        triggers: dict[str, float] = {}
        rows = writer.apply(change("1%"), triggers)
        window = Window(since, rows)
        refresh, _ = timed(lambda window=window: method.run(window))
        ours = sum(took for trigger, took in triggers.items() if trigger.startswith("zz_pgtrickle"))
        theirs = sum(took for trigger, took in triggers.items() if "IVM" in trigger.upper())
        if repeat:
            on_writer.append(ours / theirs)
            total.append((ours + refresh) / theirs)
    writer.close()
    limit = TOTAL_MANY if name in MANY else TOTAL
    return [
        Reading(GOAL, f"{name}, 1%: on the writer / pg_ivm", statistics.median(on_writer), "x", WRITER),
        Reading(GOAL, f"{name}, 1%: capture + refresh / pg_ivm", statistics.median(total), "x", limit),
    ]
