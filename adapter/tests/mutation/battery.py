"""What a mutant has to get past: fixture queries with their histories, regressions, and random cases.

The sound compiler compiles everything once; a mutant has to give the right rows, the same modes and refusals. Rows are
compared by the tests' own oracle with what the sound compiler says the query means, never by code that may be mutated.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import psycopg

from tests.mutation.screen import Tree, recorded
from tests.property.case import Case, StreamTable, Window, read
from tests.property.cases import draw_case
from tests.property.choices import Seeded
from tests.support.fixtures import TOPICS, Statements, queries_of, schema
from tests.support.guard import past_guard
from tests.support.oracle import APPROXIMATE, EQUAL, EXACT, compare

ADAPTER = Path(__file__).resolve().parents[2]
REGRESSIONS = ADAPTER / "tests" / "fixtures" / "regressions"
SEED = 20
WINDOWS = 7
"""Windows that a mutant has to get past; twice as many while it is tried with few queries."""
PLAYING = 1.0
"""Seconds that the history of a query takes, roughly, beside its compilation."""
WATCHED = 20
"""Calls of a function of which the lines are noted; watching all of them takes several times as long."""
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
        seconds: how long playing it takes, roughly.
        lines: path -> lines that were executed.
        meanings: stream table -> (query with its free orders made total, comparison per column).
        result: modes and refusals.
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
    """Queries over the fixture tables, all with the same history of so many windows; of the last nobody is told."""
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
    unseen = [(statement,) for statement in ("DELETE FROM a WHERE id % 2 = 0", *history.window())]
    played.append(Window(tuple(unseen), ()))
    return Case(filled, tables, tuple(played))


#: Reasons of recomputes after an error of a statement.
GOT_OVER = ("the changes could not be applied", "computed as a whole")


class Noticed(Exception):
    """Something is not as it was with the sound compiler."""


def learn(dsn: str, battery: Sequence[Item], targets: frozenset[str]) -> dict[str, Baseline]:
    """What the sound compiler makes of items; those that it refuses are left out.

    Queries are compiled, which prints all their statements; the stream tables of a case are created as well, because
    some read others. No history is played: the other tests do that.

    Args:
        dsn: a database with the engine installed and without tables; `p` is its first schema.
        battery: the items.
        targets: absolute paths of the modules whose executed lines are wanted.
    """
    from pgtrickle.db import connect
    from tests.property.replay import Outcome, Replay

    found: dict[str, Baseline | None] = {}
    queries = [item for item in battery if item.query is not None]
    with connect(dsn) as conn:
        conn.lend()
        conn.execute("CREATE SCHEMA p")
        for statement in schema() if queries else ():
            conn.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
        for item in queries:
            found[item.name] = _learn_query(conn, item.query or "", targets)
        conn.execute("DROP SCHEMA p CASCADE")

    class Learner(Replay):
        def _compare(self, alive: Any, names: Any, outcome: Outcome, when: str) -> None:
            return None

    for item in battery:
        if item.case is not None:
            player = Learner(dsn)
            found[item.name] = _learn_case(player, item.case, targets)
            player.close()
    return {name: baseline for name, baseline in found.items() if baseline is not None}


def _learn_query(conn: Any, query: str, targets: frozenset[str]) -> Baseline | None:
    from pgtrickle.analyze import compile_query
    from pgtrickle.errors import UnsupportedQuery
    from pgtrickle.rewrite.classes import column_classes

    names = {"exact": EXACT, "representative": EQUAL, "approximate": APPROXIMATE, "ordered": FREE}
    baseline = Baseline()
    try:
        with _watched(baseline, targets):
            plan = compile_query(conn, query, mode="DIFFERENTIAL").plan
    except UnsupportedQuery:
        return None
    classes = tuple(names[kind.value] for kind in column_classes(plan))
    baseline.meanings["p.st_1"] = (plan.reference, classes)
    baseline.seconds += PLAYING
    return baseline


def _learn_case(player: Any, case: Case, targets: frozenset[str]) -> Baseline | None:
    baseline = Baseline()
    with _watched(baseline, targets):
        outcome = player.run(replace(case, windows=()))
    baseline.seconds += 0.1 * len(case.windows) * len(case.stream_tables)
    baseline.result = result_of(outcome)
    return None if outcome.failures else baseline


@contextmanager
def _watched(baseline: Baseline, targets: frozenset[str]) -> Iterator[None]:
    began = time.monotonic()
    sys.settrace(_tracer(targets, baseline.lines))
    try:
        with recorded(baseline.trees):
            yield
    finally:
        sys.settrace(None)
        baseline.seconds = time.monotonic() - began


def result_of(outcome: Any) -> tuple[Any, ...]:
    """What has to be the same however the rows come about."""
    return (sorted(outcome.created.items()), sorted(outcome.refused))


def _tracer(targets: frozenset[str], lines: dict[str, set[int]]) -> Any:
    calls = Counter[CodeType]()

    def local(frame: FrameType, event: str, _: Any) -> Any:
        lines.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
        return local

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in targets:
            return None
        calls[code] += 1
        return local(frame, event, None) if calls[code] <= WATCHED else None

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

        def _notice(self, name: str, result: Any, outcome: Outcome) -> None:
            # Statements of the sound compiler meet no error with these histories; a user would get the rows anyway.
            if any(words in (result.fallback_reason or "") for words in GOT_OVER):
                outcome.failures.append((name, "got over an error", result.fallback_reason))

        def _clean_up(self, alive: list[StreamTable], outcome: Outcome) -> None:
            if not outcome.failures:
                for each in alive:
                    self._verified(each.name, outcome)
            super()._clean_up(alive, outcome)

        def _verified(self, name: str, outcome: Outcome) -> None:
            self._recomputed(name, outcome, "after a recompute")
            proof = self.engine.verify(name)
            if not proof.proven:
                outcome.failures.append((name, "a right content is not proven", str(proof)))
            if self._spoilt(f"DELETE FROM {name} WHERE ctid = (SELECT min(ctid) FROM {name})"):
                if corrupt and self.engine.verify(name).proven:
                    outcome.failures.append((name, "a wrong content is proven", ""))
                self._recomputed(name, outcome, "after a row was lost")
            if self._spoilt(f"INSERT INTO {name} SELECT * FROM {name} WHERE ctid = (SELECT min(ctid) FROM {name})"):
                self.engine.verify(name, repair=True)
                self._compare([], [name], outcome, "after a row was doubled")

        def _recomputed(self, name: str, outcome: Outcome, when: str) -> None:
            self.engine.refresh_stream_table(name, full=True)
            self._compare([], [name], outcome, when)

        def _spoilt(self, statement: str) -> bool:
            """Whether the damage was done: a table with a unique key refuses a second row, an empty one has none."""
            try:
                return past_guard(self.conn, statement) > 0
            except psycopg.errors.IntegrityError:
                return False

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
