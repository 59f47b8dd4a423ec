"""What refreshes of one process share: a connection, who asks, and compiled plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgtrickle import db
from pgtrickle.refresh.compiled import Compiled, Plans
from pgtrickle.refresh.memory import Memory


@dataclass(slots=True)
class Session:
    """One connection with the plans compiled on it. Not to be shared between threads.

    Attributes:
        conn: autocommit, outside a transaction between calls.
        initiated_by: ``manual``, ``runner`` or ``dbt``; for the history.
        compiled: by stream table id; one whose definition has another version is compiled again.
        plans: compiled by any session that shares them, on the same database.
        statements: messages sent for refreshes so far.
        pinned: the settings of a definition that the current transaction works under.
        role: the role that the current transaction works as; None: the engine's.
        near: whether the current transaction's plans take pages to be near, as those that deltas touch are.
        few: whether the current transaction makes one plan for all values.
        memory: what need not be asked for again.
    """

    conn: db.Connection
    initiated_by: str = "manual"
    compiled: dict[int, Compiled] = field(default_factory=dict)
    plans: Plans = field(default_factory=Plans)
    statements: int = 0
    pinned: Mapping[str, str] = field(default_factory=dict)
    role: str | None = None
    near: bool = False
    few: bool = False
    memory: Memory = field(default_factory=Memory)
