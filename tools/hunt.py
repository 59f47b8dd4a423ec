"""Hunts for wrong results: random cases from seeds, each failure reduced and written down as a case that replays.

python tools/hunt.py --seconds 600 --start 0 --out DIR
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapter"))

from psycopg.sql import SQL, Identifier

from tests.property.case import Case, write
from tests.property.cases import draw_case
from tests.property.choices import Seeded
from tests.property.replay import Outcome, Replay
from tests.support import servers


class Arena:
    """A server and, in it, a database that is thrown away when a failure may have spoilt it."""

    def __init__(self, major: int) -> None:
        self.server = servers.start(major, settings={"max_connections": "30"})
        self.count = 0
        self.replay: Replay | None = None

    def run(self, case: Case) -> Outcome:
        """Play a case; after a failure the next one gets a fresh database."""
        if self.replay is None:
            self.count += 1
            with self.server.connect() as conn:
                conn.execute(SQL("CREATE DATABASE {}").format(Identifier(f"hunt{self.count}")))
            self.replay = Replay(self.server.dsn(f"hunt{self.count}"))
        try:
            outcome = self.replay.run(case)
        except BaseException:
            self.discard()
            raise
        if outcome.spoilt:
            self.discard()
        return outcome

    def discard(self) -> None:
        """Drop the database."""
        if self.replay is not None:
            self.replay.close()
            self.replay = None
            with self.server.connect() as conn:
                name = Identifier(f"hunt{self.count}")
                conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def reduce_case(case: Case, fails: Callable[[Case], bool], attempts: int) -> Case:
    """Leave out whatever the failure does not need; go on from where something could be left out."""
    left = attempts
    position = 0
    while left > 0:
        candidates = list(case.reductions())
        for step in range(len(candidates)):
            smaller = candidates[(position + step) % len(candidates)]
            left -= 1
            if left <= 0:
                return case
            if fails(smaller):
                case, position = smaller, position + step
                break
        else:
            return case
        position = 0 if position >= len(candidates) else position
    return case


def reduce_failure(arena: Arena, case: Case, outcome: Outcome, attempts: int) -> Case:
    """The smallest case found that fails in the same way."""
    wanted = outcome.signature
    failing = outcome.failures[0][0]

    def fails(candidate: Case) -> bool:
        return arena.run(candidate).signature == wanted

    alone = case.only({failing})
    return reduce_case(alone if fails(alone) else case, fails, attempts)


def main() -> int:
    """Hunt until the time is over. Returns 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--major", type=int, default=servers.EMBEDDED_MAJOR)
    parser.add_argument("--extras", type=int, default=20, help="percentage of queries outside the incremental grammar")
    parser.add_argument("--attempts", type=int, default=400, help="replays spent on reducing one failure")
    parser.add_argument("--each", type=int, default=2, help="failures of one kind that are reduced")
    parser.add_argument("--out", type=Path, default=Path(".dev/found"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    arena = Arena(options.major)
    try:
        return hunt(arena, options)
    finally:
        arena.discard()
        arena.server.stop()


def hunt(arena: Arena, options: argparse.Namespace) -> int:
    """The loop."""
    kinds: Counter[object] = Counter()
    totals: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    deadline, seed = time.monotonic() + options.seconds, options.start
    while time.monotonic() < deadline:
        case = draw_case(Seeded(seed), extras=options.extras)
        began = time.monotonic()
        outcome = arena.run(case)
        if time.monotonic() - began > 20:
            print(f"seed {seed} took {time.monotonic() - began:.0f} s", flush=True)
        totals.update(cases=1, queries=len(outcome.created), refused=len(outcome.refused), **outcome.actions)
        totals.update(outcome.created.values())
        for name, reason in outcome.refused.items():
            if not refusals[reason[:90]]:
                query = next(each.query for each in case.stream_tables if each.name == name)
                print(f"seed {seed} refused: {reason}\n    {query}", flush=True)
            refusals[reason[:90]] += 1
        if outcome.failures:
            kinds[outcome.signature] += 1
            if kinds[outcome.signature] <= options.each:
                print(f"seed {seed}: {outcome.failures[0][1]}: {outcome.failures[0][2][:300]}", flush=True)
            if kinds[outcome.signature] <= options.each:
                smallest = reduce_failure(arena, case, outcome, options.attempts)
                text = "\n".join(arena.run(smallest).failures[0][1:]) if options.attempts else ""
                path = options.out / f"seed{seed}.sql"
                path.write_text(write(smallest, f"{text}\nseed {seed}"))
                print(f"  reduced to {path}\n{path.read_text()}", flush=True)
        seed += 1
    print(dict(totals), f"next seed {seed}")
    for what, count in (*kinds.most_common(), *refusals.most_common(20)):
        print(f"{count:5} {what}")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
