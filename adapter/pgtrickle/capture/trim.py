"""Trimming change buffers and logs to what some consumer still has to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtrickle import db


@dataclass(frozen=True, slots=True)
class TrimResult:
    """What a trim did: rows deleted, stream tables demoted to a recompute, sources whose capture was removed."""

    deleted: int
    demoted: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()


def trim(conn: db.Connection) -> TrimResult:
    """Delete change rows that are visible in the frontier of every registered consumer, and consumed log rows.

    Own READ COMMITTED transactions, one per buffer; a buffer that somebody else is trimming is skipped. A consumer
    that holds back more than ``installation.buffer_limit_bytes`` is demoted: its next refresh recomputes.
    """
    raise NotImplementedError


def rejoin(conn: db.Connection, stream_table_ids: Sequence[int]) -> tuple[int, ...]:
    """Make demoted stream tables hold back trimming again; those that were demoted.

    Has to commit before the snapshot of their recomputing refresh is taken, so call it before every refresh that
    finds ``stream_tables.demoted``. The recompute itself is asked for by ``recompute_reason`` as always.
    """
    raise NotImplementedError
