"""The facts that change answers without leaving a change row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pgtrickle import db

Facts = Mapping[str, Any]


class Severity(IntEnum):
    """What a difference asks for; the largest one of all differences counts."""

    HARMLESS = 0
    """Record the new facts, nothing else."""
    RECOMPUTE = 1
    """Changes may have been missed: recompute by difference, then record the new facts."""
    REANALYSE = 2
    """Definition or sources are not what was compiled: compile again, capture again, recompute by difference."""
    BROKEN = 3
    """A source is gone or cannot be read; nothing but a person helps."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that is not as recorded. ``kind`` is a short stable word, ``text`` a sentence for people."""

    kind: str
    object_name: str
    text: str
    severity: Severity


def fingerprint(conn: db.Connection, stream_table_ids: Sequence[int]) -> dict[int, Facts]:
    """The present facts of several stream tables, one query; JSON to be stored in ``stream_tables.fingerprint``.

    Usable in any transaction; in REPEATABLE READ it is one with the snapshot that the refresh reads.
    """
    raise NotImplementedError


def compare(recorded: Facts | None, present: Facts) -> tuple[Difference, ...]:
    """Differences between two fingerprints of one stream table; pure. ``recorded=None`` demands a recompute."""
    raise NotImplementedError


def partitions_changed(conn: db.Connection, facts: Mapping[int, Facts]) -> tuple[Difference, ...]:
    """The check at the end of a refresh: partitions as the *catalog snapshot* sees them against these facts.

    ATTACH PARTITION and new partitions slip under the snapshot of a REPEATABLE READ transaction: queries see them,
    queries of the catalog do not.
    """
    raise NotImplementedError
