"""What is known about mutants from earlier runs, so that a run that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutation.battery import ADAPTER
from tests.mutation.mutants import Mutant
from tests.mutation.trial import Verdict


@dataclass(slots=True)
class Journal:
    """A file with one line per verdict.

    A mutant that was noticed is not tried again as long as its module is the same; one that survived is tried again
    when anything has changed that could notice it.

    Attributes:
        path: the file; made at the first verdict.
        battery: names the battery and the compiler that survivors have met.
    """

    path: Path
    battery: str
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self._known[entry["mutant"]] = entry

    def verdict(self, mutant: Mutant) -> Verdict | None:
        """What is known, or None if the mutant has to be tried."""
        entry = self._known.get(self._name(mutant))
        if entry is None or (entry["notice"] is None and entry["battery"] != self.battery):
            return None
        return Verdict(mutant, entry["notice"], entry["items"], entry["changed"], entry["seconds"])

    def known(self, mutants: Iterable[Mutant]) -> list[Verdict]:
        """What is known about these."""
        return [verdict for mutant in mutants if (verdict := self.verdict(mutant)) is not None]

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Write verdicts down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for each in verdicts:
                entry = {
                    "mutant": self._name(each.mutant),
                    "battery": self.battery,
                    "module": each.mutant.path,
                    "line": each.mutant.lines[0],
                    "notice": each.notice,
                    "items": each.items,
                    "changed": each.changed,
                    "seconds": round(each.seconds, 2),
                }
                self._known[entry["mutant"]] = entry
                file.write(json.dumps(entry) + "\n")

    def _name(self, mutant: Mutant) -> str:
        """A digest of the module with the fault in it."""
        if mutant.path not in self._texts:
            self._texts[mutant.path] = (ADAPTER / mutant.path).read_text(encoding="utf-8")
        text = mutant.source(self._texts[mutant.path])
        return hashlib.sha256(f"{mutant.path}\n{text}".encode()).hexdigest()[:24]
