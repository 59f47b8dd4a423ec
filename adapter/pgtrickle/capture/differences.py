"""What differs between two fingerprints, and what that asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

Facts = Mapping[str, Any]


class Severity(IntEnum):
    """What a difference asks for; the largest one of all differences counts.

    From REPAIR on the refresh has to roll back, call `capture.repair` and begin again.
    """

    HARMLESS = 0
    """Record the new facts, nothing else."""
    REPAIR = 1
    """Capture is not as it was installed. If something was missed, the next fingerprint says RECOMPUTE."""
    RECOMPUTE = 2
    """Changes may have been missed: recompute by difference, then record the new facts."""
    REANALYSE = 3
    """Definition or sources are not what was compiled: compile again, capture again, recompute by difference."""
    BROKEN = 4
    """A source is gone; nothing but a person helps."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that is not as recorded. ``kind`` is a short stable word, ``text`` a sentence for people."""

    kind: str
    object_name: str
    text: str
    severity: Severity

    def __str__(self) -> str:
        return f"{self.object_name}: {self.text}" if self.object_name else self.text
