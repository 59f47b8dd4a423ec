"""Mutants that cannot be told from the original, and the report of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutation.battery import ADAPTER
from tests.mutation.mutants import Mutant
from tests.mutation.trial import Verdict

LISTED = ADAPTER.parent / "tools" / "equivalent_mutants.txt"


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that a person has looked at: module, changed line before and after, and why it makes no difference."""

    path: str
    before: str
    after: str
    reason: str


def read_equivalents(path: Path = LISTED) -> tuple[Equivalent, ...]:
    """The list: blocks of ``@ module``, ``- line``, ``+ line``, ``# reason``.

    Raises:
        ValueError: a block is incomplete, so a mutant would be excused without a reason.
    """
    found = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        parts: dict[str, list[str]] = defaultdict(list)
        for line in block.strip().splitlines():
            parts[line[:1]].append(line[1:].strip())
        if set(parts) == {"#"} or not parts:
            continue
        if set(parts) != {"@", "-", "+", "#"} or any(len(parts[mark]) != 1 for mark in "@-"):
            raise ValueError(f"incomplete: {block}")
        reason = " ".join(parts["#"])
        found += [Equivalent(parts["@"][0], parts["-"][0], after, reason) for after in parts["+"]]
    return tuple(found)


class Excuses:
    """Says which mutants are listed, and which entries of the list no mutant answers to any more."""

    def __init__(self, listed: Iterable[Equivalent]) -> None:
        self._by_diff = {(each.path, each.before, each.after): each for each in listed}
        self.used: set[tuple[str, str, str]] = set()

    def of(self, mutant: Mutant) -> str | None:
        """The reason, or None if the mutant is not listed."""
        key = (mutant.path, *mutant.diff((ADAPTER / mutant.path).read_text(encoding="utf-8")))
        found = self._by_diff.get(key)
        if found is None:
            return None
        self.used.add(key)
        return found.reason

    def unused(self, paths: Iterable[str]) -> list[Equivalent]:
        """Entries for these modules that belong to no mutant: the line was changed since."""
        wanted = set(paths)
        return [each for key, each in self._by_diff.items() if each.path in wanted and key not in self.used]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the mutants of a module."""

    path: str
    mutants: int
    noticed: int
    listed: int
    survived: int


def table(verdicts: Sequence[Verdict], excused: Sequence[Mutant]) -> list[Row]:
    """One row per module."""
    paths = sorted({verdict.mutant.path for verdict in verdicts} | {mutant.path for mutant in excused})
    rows = []
    for path in paths:
        mine = [verdict for verdict in verdicts if verdict.mutant.path == path]
        listed = sum(mutant.path == path for mutant in excused)
        noticed = sum(verdict.notice is not None for verdict in mine)
        rows.append(Row(path, len(mine) + listed, noticed, listed, len(mine) - noticed))
    return rows


def as_json(verdicts: Sequence[Verdict], excused: Sequence[Mutant]) -> dict[str, object]:
    """Everything, for programs."""
    return {
        "modules": [asdict(row) for row in table(verdicts, excused)],
        "survivors": [describe(verdict) for verdict in verdicts if verdict.notice is None],
    }


def describe(verdict: Verdict) -> dict[str, object]:
    """A verdict with the changed line."""
    mutant = verdict.mutant
    before, after = mutant.diff((ADAPTER / mutant.path).read_text(encoding="utf-8"))
    return {
        "module": mutant.path,
        "line": mutant.lines[0],
        "function": mutant.function,
        "rule": mutant.rule,
        "before": before,
        "after": after,
        "items": verdict.items,
        "changed": verdict.changed,
        "seconds": round(verdict.seconds, 2),
        "notice": verdict.notice,
    }
