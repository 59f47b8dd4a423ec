"""Breaks the compiler on purpose, one rule at a time, and reports the faults that no test notices.

python tools/mutate.py --module delta/outer --module delta/join
python tools/mutate.py --limit 200 --seed 7 --json found.json

A mutant lives in a forked process only; no file is changed. Survivors are to be killed by a new case, removed with the
code that nothing can tell apart, or listed in tools/equivalent_mutants.txt with the reason.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapter"))

from tests.mutation.battery import ADAPTER, Baseline, Item, items
from tests.mutation.journal import Journal
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.picked import PICKED, mutant_of
from tests.mutation.report import Excuses, as_json, read_equivalents, table
from tests.mutation.trial import Laboratory, Verdict

#: What decides about rows. What only tells about decisions (the support matrix, reasons) does not.
TARGETS = ("pgtrickle/delta/**/*.py", "pgtrickle/rewrite/**/*.py", "pgtrickle/emit/**/*.py")
DOCUMENTATION = ("pgtrickle/delta/support.py", "pgtrickle/delta/choice.py", "pgtrickle/rewrite/record.py")
CACHE = ADAPTER.parent / ".dev" / "mutation"
#: What decides about what the sound compiler makes of an item.
SOUND = ("pgtrickle/**/*.py", "pgtrickle/**/*.sql", "tests/fixtures/sql/schema.sql", "tests/mutation/*.py")
#: An item that takes the sound compiler longer is left out: a trial has to be a matter of seconds.
MOST_SECONDS = 8.0
#: Mutants that are tried before what is known of them is written down.
PART = 20
Chosen = Callable[[Mutant], Sequence[tuple[Item, Baseline]]]


def main() -> int:
    """Try the mutants. Returns 1 if one survived that is not listed."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # what is printed is compared from run to run
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    options = _arguments().parse_args()
    if options.picked:
        return _try_picked(options.workers)
    excuses = Excuses(read_equivalents())
    paths = [path for path in target_paths() if not options.module or any(part in path for part in options.module)]
    mutants = [mutant for path in paths for mutant in mutants_of(path)]
    excused = [mutant for mutant in mutants if excuses.of(mutant) is not None]
    for stale in excuses.unused(paths):
        print(f"no such mutant any more: {stale.path}: {stale.before} -> {stale.after}")
    tried = [mutant for mutant in mutants if mutant not in set(excused)]
    if options.limit and options.limit < len(tried):
        tried = sorted(random.Random(options.seed).sample(tried, options.limit), key=mutants.index)
    if options.list:
        for mutant in tried:
            _show(mutant)
        return 0
    print(f"{len(tried)} mutants of {len(paths)} modules, {len(excused)} more are listed as equivalent", flush=True)
    began = time.monotonic()
    battery = items(range(options.random_cases))
    journal = Journal(CACHE / "verdicts.jsonl", hashlib.sha256(f"{_sound()} {battery}".encode()).hexdigest()[:16])
    verdicts = [] if options.anew else journal.known(tried)
    print(f"{len(verdicts)} of them were tried before", flush=True)
    done = {verdict.mutant for verdict in verdicts}
    verdicts += _try([mutant for mutant in tried if mutant not in done], battery, journal, options)
    _report(verdicts, excused, time.monotonic() - began)
    if options.json:
        options.json.write_text(json.dumps(as_json(verdicts, excused), indent=1))
    return 1 if any(verdict.notice is None for verdict in verdicts) else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", help="only modules whose path contains this; may be repeated")
    parser.add_argument("--limit", type=int, help="so many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--list", action="store_true", help="show the mutants, try none")
    parser.add_argument("--picked", action="store_true", help="only one picked fault for each rule: a minute at most")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--anew", action="store_true", help="also try what earlier runs have tried")
    parser.add_argument("--seconds", type=float, help="try no other mutant after so many seconds")
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at the same time")
    parser.add_argument("--random-cases", type=int, default=60, help="cases of the property generator in the battery")
    parser.add_argument("--verbose", action="store_true", help="say of every mutant how it was noticed")
    return parser


def target_paths() -> list[str]:
    """The modules that are mutated, relative to the directory of the packages."""
    found = {str(path.relative_to(ADAPTER)) for pattern in TARGETS for path in ADAPTER.glob(pattern)}
    return sorted(found - set(DOCUMENTATION))


def _try(
    mutants: Sequence[Mutant], battery: Sequence[Item], journal: Journal, options: argparse.Namespace
) -> list[Verdict]:
    """Part by part, so that a run may be interrupted: what is known of a part is kept in the journal."""
    laboratory = Laboratory(options.workers)
    verdicts: list[Verdict] = []
    try:
        known = _baselines(laboratory, battery)
        usable = [(i, known[i.name]) for i in battery if i.name in known and known[i.name].seconds < MOST_SECONDS]
        print(f"{len(usable)} of {len(battery)} items of the battery are of use", flush=True)
        began = time.monotonic()
        for start in range(0, len(mutants), PART):
            if options.seconds and time.monotonic() - began > options.seconds:
                print(f"{len(mutants) - start} mutants are left for another run")
                break
            found = _try_part(laboratory, mutants[start : start + PART], usable, options)
            journal.add(found)
            verdicts += found
            left = sum(verdict.notice is None for verdict in verdicts)
            print(f"{len(verdicts)} of {len(mutants)}, {left} survived, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        laboratory.close()
    return verdicts


def _try_part(
    laboratory: Laboratory,
    mutants: Sequence[Mutant],
    usable: Sequence[tuple[Item, Baseline]],
    options: argparse.Namespace,
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    survivors, left = list(mutants), list[Verdict]()
    for _, chosen, most in _rounds(usable):
        done = list(laboratory.trials(survivors, chosen, most=most))
        verdicts += [verdict for verdict in done if verdict.notice is not None]
        left = [verdict for verdict in done if verdict.notice is None]
        survivors = [verdict.mutant for verdict in left]
    if options.verbose:
        for verdict in (*verdicts, *left):
            _show(verdict.mutant, verdict.notice or _survived(verdict))
    return [*verdicts, *left]


def _try_picked(workers: int) -> int:
    """The picked faults, each against its own query. Returns 1 if one is not noticed."""
    queries = [Item(each.query, query=each.query) for each in {each.query: each for each in PICKED}.values()]
    laboratory = Laboratory(workers)
    try:
        known = laboratory.baselines(queries, frozenset())
        mutants = {mutant_of(each): each.query for each in PICKED}
        own = {mutant: [(Item(query, query=query), known[query])] for mutant, query in mutants.items()}
        verdicts = list(laboratory.trials(list(mutants), lambda mutant: own[mutant], most=1))
    finally:
        laboratory.close()
    survivors = [verdict for verdict in verdicts if verdict.notice is None]
    for verdict in survivors:
        _show(verdict.mutant, f"SURVIVED {mutants[verdict.mutant]}")
    print(f"{len(verdicts)} faults, {len(survivors)} not noticed")
    return 1 if survivors else 0


def _sound() -> str:
    """Names the sound compiler."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOUND for path in ADAPTER.glob(pattern)):
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _baselines(laboratory: Laboratory, battery: Sequence[Item]) -> dict[str, Baseline]:
    """What the sound compiler makes of the battery; kept until a source file changes."""
    kept = CACHE / f"{_sound()}.pickle"
    found: dict[Item, Baseline | None] = pickle.loads(kept.read_bytes()) if kept.is_file() else {}
    new = [item for item in battery if item not in found]
    if new:
        began = time.monotonic()
        learnt = laboratory.baselines(new, frozenset(str(ADAPTER / path) for path in target_paths()))
        found.update({item: learnt.get(item.name) for item in new})
        CACHE.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(found))
        print(f"the sound compiler compiled {len(new)} items in {time.monotonic() - began:.0f} s", flush=True)
    wanted = {item.name: found[item] for item in battery}
    return {name: baseline for name, baseline in wanted.items() if baseline is not None}


def _rounds(usable: Sequence[tuple[Item, Baseline]]) -> list[tuple[str, Chosen, int | None]]:
    """First a few items, then all for which the mutant makes other SQL, and the unit tests of the compiler."""

    def covering(mutant: Mutant) -> list[tuple[Item, Baseline]]:
        first, last = mutant.lines
        path = str(ADAPTER / mutant.path)
        wanted = set(range(first, last + 1))
        near = [(item, base) for item, base in usable if path in base.lines]
        # What runs when a module is loaded, as what makes rules does, is run by no item.
        hit = [(item, base) for item, base in near if mutant.function and wanted & base.lines[path]] or near
        return sorted(hit, key=lambda pair: (pair[0].query is None, pair[1].seconds))

    def shuffled(mutant: Mutant) -> list[tuple[Item, Baseline]]:
        hit = covering(mutant)
        random.Random(mutant.start).shuffle(hit)
        queries = [pair for pair in hit if pair[0].query is not None]
        cases = [pair for pair in hit if pair[0].query is None]
        return [*queries[:40], *cases[: 4 if queries else 12]]

    return [("a few cases", shuffled, 4), ("all that matter", covering, None)]


def _report(verdicts: Sequence[Verdict], excused: Sequence[Mutant], seconds: float) -> None:
    for verdict in verdicts:
        if verdict.notice is None:
            _show(verdict.mutant, _survived(verdict))
    rows = table(verdicts, excused)
    print(f"\n{'module':44}{'mutants':>8}{'noticed':>8}{'listed':>8}{'survived':>9}")
    for row in rows:
        print(f"{row.path:44}{row.mutants:8}{row.noticed:8}{row.listed:8}{row.survived:9}")
    sums = Counter[str]()
    for row in rows:
        sums.update(mutants=row.mutants, noticed=row.noticed, listed=row.listed, survived=row.survived)
    print(f"{'all':44}{sums['mutants']:8}{sums['noticed']:8}{sums['listed']:8}{sums['survived']:9}")
    print(f"{seconds:.0f} s")


def _survived(verdict: Verdict) -> str:
    if not verdict.items:
        return "SURVIVED, nothing runs this line"
    return f"SURVIVED {verdict.items} queries, of which {verdict.changed} have other SQL"


def _show(mutant: Mutant, what: str = "") -> None:
    before, after = mutant.diff((ADAPTER / mutant.path).read_text(encoding="utf-8"))
    print(f"@ {mutant.path}:{mutant.lines[0]} {mutant.function}: {mutant.rule}. {what}\n- {before}\n+ {after}\n")


if __name__ == "__main__":
    sys.exit(main())
