"""What change buffers hold for a refresh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.catalog.model import Frontier, Source


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """The window of one source: number of change rows, and whether a mark demands a recompute."""

    source_id: int
    relid: int
    rows: int
    marked: bool


def changes(conn: db.Connection, frontier: Frontier, sources: Sequence[Source]) -> tuple[SourceChanges, ...]:
    """Count the windows of several sources in one statement, in the order given.

    Args:
        conn: inside the refresh's transaction.
        frontier: with a snapshot.
        sources: the captured sources of the stream table.
    """
    raise NotImplementedError


def own_writes(conn: db.Connection, sources: Sequence[Source]) -> tuple[Source, ...]:
    """Those of the sources whose change buffer has rows of the current transaction. One statement, at its end."""
    raise NotImplementedError
