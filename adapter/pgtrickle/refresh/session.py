"""What refreshes of one process share: a connection, who asks, and compiled plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.plan import InputKey, Stage
from pgtrickle.refresh.compiled import Compiled, Plans
from pgtrickle.refresh.memory import Memory


@dataclass(slots=True)
class Prepared:
    """Statements that a session has prepared for the refresh of one stream table.

    Attributes:
        compiled: the plan that they are of.
        versions: of what it reads.
        counting: the name of the one that looks at the windows.
        ways: inputs that change -> the names of those that apply it, and their stages, in order.
        begin: the name of the one that begins the refresh by these.
        message: what begins the refresh.
    """

    compiled: Compiled
    versions: str
    counting: str
    ways: dict[frozenset[InputKey], tuple[tuple[str, Stage], ...]]
    begin: str
    message: Sequence[SQL]


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
        foreseen: id of a stream table -> what its next refresh is likely to need; least lately used first.
        names: numbers for prepared statements.
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
    foreseen: dict[int, Prepared] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=count)
