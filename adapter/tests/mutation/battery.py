"""What a mutant has to get past: fixture queries with their histories, regressions, and random cases.

The sound compiler plays everything once; a mutant has to give the same rows, modes and refusals. Rows are compared by
the tests' own oracle with what the sound compiler says the query means, never by code that may be mutated.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from tests.mutation.screen import Tree, recorded
from tests.property.case import Case, StreamTable, Window, read
from tests.property.cases import draw_case
from tests.property.choices import Seeded
from tests.support.fixtures import TOPICS, Statements, queries_of, schema
from tests.support.oracle import APPROXIMATE, EQUAL, EXACT, compare

ADAPTER = Path(__file__).resolve().parents[2]
REGRESSIONS = ADAPTER / "tests" / "fixtures" / "regressions"
SEED = 20
WINDOWS = 7
"""Windows that a mutant has to get past; twice as many while it is tried with few queries."""
LEARNT = 1
"""Windows for which the sound compiler is watched: all statements are printed at creation already."""
FREE = "free"
"""Comparison class of a column whose value the query leaves open."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to play: a query over the fixture tables, or a whole case. ``name`` says where it comes from."""

    name: str
    query: str | None = None
    case: Case | None = None


@dataclass(slots=True)
class Baseline:
    """What the sound compiler made of an item.

    Attributes:
        seconds: how long it took.
        lines: path -> lines that were executed.
        meanings: stream table -> (query with its free orders made total, comparison per column).
        result: modes, refusals and queries that are of no use.
        trees: what was compiled, to see whether a mutant makes something else of it.
    """

    seconds: float = 0.0
    lines: dict[str, set[int]] = field(default_factory=dict)
    meanings: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    result: tuple[Any, ...] = ()
    trees: list[Tree] = field(default_factory=list)


def items(seeds: Sequence[int]) -> list[Item]:
    """The whole battery."""
    found = [
        Item(f"fixtures/sql/{topic} {number}", query=query)
        for topic in TOPICS
        for number, query in enumerate(queries_of(topic), 1)
    ]
    found += [Item(f"regressions/{path.stem}", case=read(path.read_text())) for path in sorted(REGRESSIONS.glob("*"))]
    found += [Item(f"seed {seed}", case=draw_case(Seeded(seed), extras=50)) for seed in seeds]
    return found


def case_of(queries: Iterable[str], windows: int) -> Case:
    """Queries over the fixture tables, all with the same history of so many windows."""
    history = Statements(SEED)
    tables = tuple(StreamTable(f"p.st_{number}", query, "DIFFERENTIAL", ()) for number, query in enumerate(queries, 1))
    names = tuple(each.name for each in tables)
    filled = (*schema(), *history.fill())
    played = []
    for number in range(windows):
        changes = [(statement,) for statement in history.window()]
        if number in (windows - 5, windows - 3):  # first what others look for, then everything
            changes += [(f"DELETE FROM {table}",) for table in ("b", "c", "a", "e")[: 2 if number < windows - 3 else 4]]
        played.append(Window(tuple(changes), names))
    return Case(filled, tables, tuple(played))


class Noticed(Exception):
    """Something is not as it was with the sound compiler."""


def learn(dsn: str, item: Item, targets: frozenset[str]) -> Baseline | None:
    """Play an item with the sound compiler; None if it fails even so.

    Args:
        dsn: a database with the engine installed; `p` is its first schema.
        item: what to play.
        targets: absolute paths of the modules whose executed lines are wanted.
    """
    from pgtrickle.analyze import compile_query
    from pgtrickle.db import connect
    from pgtrickle.rewrite.classes import column_classes
    from tests.property.replay import Outcome, Replay

    names = {"exact": EXACT, "representative": EQUAL, "approximate": APPROXIMATE, "ordered": FREE}
    baseline = Baseline()

    class Learner(Replay):
        def _create(self, each: StreamTable, outcome: Outcome) -> bool:
            created = super()._create(each, outcome)
            if created and item.query is not None:
                with connect(dsn) as conn:
                    plan = compile_query(conn, each.query, mode="AUTO", check=False).plan
                classes = tuple(names[kind.value] for kind in column_classes(plan))
                baseline.meanings[each.name] = (plan.reference, classes)
            return created

        def _compare(self, alive: Any, names: Any, outcome: Outcome, when: str) -> None:
            return None if item.query is not None else super()._compare(alive, names, outcome, when)

    player = Learner(dsn)
    began = time.monotonic()
    sys.settrace(_tracer(targets, baseline.lines))
    try:
        with recorded(baseline.trees):
            outcome = player.run(item.case if item.case is not None else case_of([item.query or ""], LEARNT))
    finally:
        sys.settrace(None)
    baseline.seconds = time.monotonic() - began
    player.close()
    baseline.result = result_of(outcome)
    useless = outcome.failures or (item.query is not None and (outcome.invalid or outcome.refused))
    return None if useless else baseline


def result_of(outcome: Any) -> tuple[Any, ...]:
    """What has to be the same however the rows come about."""
    return (sorted(outcome.created.items()), sorted(outcome.refused), sorted(outcome.invalid))


def _tracer(targets: frozenset[str], lines: dict[str, set[int]]) -> Any:
    def local(frame: FrameType, event: str, _: Any) -> Any:
        lines.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
        return local

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return local(frame, event, None) if frame.f_code.co_filename in targets else None

    return trace


def play(dsn: str, chosen: Sequence[tuple[Item, Baseline]], *, corrupt: bool) -> None:
    """Play items with whatever compiler is loaded, the cheapest first.

    Args:
        dsn: a database with the engine installed.
        chosen: what to play, fixture queries first.
        corrupt: also spoil stream tables at the end: `verify` has to see it.

    Raises:
        Noticed: something is not as it was with the sound compiler.
    """
    queries = [(item, base) for item, base in chosen if item.query is not None]
    for part in (queries[:2], queries[2:8], queries[8:]):
        if part:
            _play_queries(dsn, part, corrupt=corrupt)
    for item, base in chosen:
        if item.case is not None:
            _play_case(dsn, item, base)


def _play_queries(dsn: str, part: Sequence[tuple[Item, Baseline]], *, corrupt: bool) -> None:
    from tests.property.replay import Outcome, Replay

    case = case_of([item.query or "" for item, _ in part], WINDOWS if len(part) > 2 else 2 * WINDOWS)
    meanings = {each.name: base.meanings["p.st_1"] for each, (_, base) in zip(case.stream_tables, part, strict=True)}

    class Referee(Replay):
        def _compare(self, alive: Any, names: Any, outcome: Outcome, when: str) -> None:
            for name in names:
                query, classes = meanings[name]
                difference = difference_from(self.conn, name, query, classes)
                if difference is not None:
                    outcome.failures.append((name, "wrong rows", f"{when}: {difference}"))

        def _clean_up(self, alive: list[StreamTable], outcome: Outcome) -> None:
            if not outcome.failures:
                for each in alive:
                    self._verified(each.name, outcome)
            super()._clean_up(alive, outcome)

        def _verified(self, name: str, outcome: Outcome) -> None:
            self.engine.refresh_stream_table(name, full=True)
            self._compare([], [name], outcome, "after a recompute")
            proof = self.engine.verify(name)
            if not proof.proven:
                outcome.failures.append((name, "a right content is not proven", str(proof)))
            if corrupt:
                gone = self.conn.execute(f"DELETE FROM {name} WHERE ctid = (SELECT min(ctid) FROM {name})")
                if gone.rowcount and self.engine.verify(name).proven:
                    outcome.failures.append((name, "a wrong content is proven", ""))

    player = Referee(dsn)
    outcome = player.run(case)
    player.close()
    if outcome.failures:
        raise Noticed(" ".join(outcome.failures[0][1:])[:300])
    if outcome.invalid:
        raise Noticed(f"too slow: {sorted(outcome.invalid)}")
    wanted = sorted((each.name, "DIFFERENTIAL") for each in case.stream_tables)
    if sorted(outcome.created.items()) != wanted:
        raise Noticed(f"modes: {outcome.created}")


def difference_from(conn: Any, table: str, query: str, classes: tuple[str, ...]) -> str | None:
    """How a stream table differs from a query whose columns may have other names; None if it does not."""
    names = [column.name for column in conn.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]
    shown = [
        f'"{name}"' if kind != FREE else f'NULL::text AS "{name}"' for name, kind in zip(names, classes, strict=True)
    ]
    aliases = ", ".join(f'"{name}"' for name in names)
    asked = f"SELECT {', '.join(shown)} FROM ({query.rstrip().rstrip(';')}) AS q ({aliases})"
    stored = f"(SELECT {', '.join(shown)} FROM {table}) AS q"
    return compare(conn, stored, asked, classes=dict(enumerate(classes)))


def _play_case(dsn: str, item: Item, base: Baseline) -> None:
    from tests.property.replay import Replay

    assert item.case is not None
    kept = []
    modes = dict(base.result[0])
    for each in item.case.stream_tables:
        # What was possible has to stay possible.
        kept.append(replace(each, mode="DIFFERENTIAL") if modes.get(each.name) == "DIFFERENTIAL" else each)
    player = Replay(dsn)
    outcome = player.run(replace(item.case, stream_tables=tuple(kept)))
    player.close()
    if outcome.failures:
        raise Noticed(" ".join(outcome.failures[0][1:])[:300])
    if result_of(outcome) != base.result:
        raise Noticed(f"{item.name}: {result_of(outcome)}, not {base.result}"[:300])
