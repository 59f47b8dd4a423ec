"""The maintenance plan: what the compiler hands to the engine. Pure data, no I/O.

A defining query is cut into *stages*. Each stage is a chain of linear and bilinear operators, with at most one
keyed operator on top, over base tables, other stream tables and earlier stages. The last stage (the root) writes
the stream table, the others write output tables of their own in ``pgtrickle_state``. So every operator that is not
linear reads its old output from a table instead of evaluating the past a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pgtrickle.ir.operators import InputKey, Operator
from pgtrickle.ir.schema import Column


class Strategy(Enum):
    """How the net change of a stage's output is found."""

    ROWS = "delta"
    """Linear and bilinear operators: the delta is computed from the changes alone."""
    AGGREGATE = "delta with state"
    """Counts and sums are kept in a state table and changed by the delta."""
    KEYS = "recompute affected keys"
    """The groups or partitions that the delta touches are computed again and compared with what is stored."""
    PICK = "delta, refilled when rows leave"
    """The first rows in an order are kept; the input is read again only when one of them leaves."""
    RECURSION = "delta by recursion"
    """What a lost row had led to is taken away, what a new row leads to is added, round by round."""
    ALL = "recompute and compare"
    """The whole result is computed again and compared with what is stored."""


@dataclass(frozen=True, slots=True)
class SourceNeed:
    """What a plan needs captured of one source.

    Attributes:
        relid: OID of the table, or of the stream table it reads.
        kind: ``table`` or ``stream_table``.
        columns: attribute number -> column name, the columns that the plan reads. May be empty for ``count(*)``.
        rows: False if the plan only has to know *that* the source changed (a FULL plan): capture may keep a mark
            per statement instead of the rows.
        capturable: False for what no trigger can watch (materialized views, foreign tables, system views).
    """

    relid: int
    kind: str
    columns: Mapping[int, str]
    rows: bool = True
    capturable: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a plan; see the module's docstring.

    Attributes:
        number: position in topological order, from 0; the root is the last.
        strategy: how its delta is found.
        reason: why this strategy, for ``explain``.
        columns: its output columns; for the root with the names of the stream table.
        key: output columns that identify a row at any time, or None (duplicates are possible).
        inputs: what it reads.
        operator: the operator tree over Scans.
        group: for strategy KEYS the output columns by which the stored rows of an affected key are found, in the order
            of the grouping's keys.
    """

    number: int
    strategy: Strategy
    reason: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] | None
    inputs: frozenset[InputKey]
    operator: Operator
    group: tuple[str, ...] | None = None


#: The step of a `Rewrite` that makes ``timestamp = timestamptz`` a comparison of moments.
MOMENTS = "moments"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A change of form that the compiler made on the way to the plan, for ``explain``.

    Attributes:
        step: stable word, for example ``semi join``, ``push``, ``prune``.
        text: one sentence for people: what became what.
    """

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How one stream table is maintained.

    Attributes:
        stages: in topological order; the last one is the root.
        sources: what has to be captured.
        mode: ``DIFFERENTIAL`` or ``FULL`` (one stage, strategy ALL, over the query as it stands).
        canonical: the defining query as the server prints it, fully qualified.
        reference: the query that `verify` compares with: the canonical one, with views expanded and free orders made
            total.
        notices: implicit acts to be told to the user once (``code``, ``text``).
        full_reason: why the plan is FULL; None for DIFFERENTIAL.
        unwatched: the result can change although no source does (``now()``, volatile functions, functions that read
            tables): every refresh has to look.
        rewrites: what was done to the query on the way, in order.
    """

    stages: tuple[Stage, ...]
    sources: tuple[SourceNeed, ...]
    mode: str
    canonical: str
    notices: tuple[tuple[str, str], ...] = ()
    full_reason: str | None = None
    unwatched: bool = False
    reference: str = ""
    rewrites: tuple[Rewrite, ...] = ()

    @property
    def root(self) -> Stage:
        """The stage that writes the stream table."""
        return self.stages[-1]


# --- bindings: where the plan's inputs and outputs live in one database; made by `refresh`, read by `emit` ---------


@dataclass(frozen=True, slots=True)
class Relation:
    """A qualified relation name."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class TableBinding:
    """Where a base table is, and where its changes are (columns ``__x``, ``__w``, ``c<attnum>``)."""

    relation: Relation
    buffer: Relation | None


@dataclass(frozen=True, slots=True)
class StreamTableBinding:
    """Where a stream table is, and its output log (columns ``__n``, ``__w``, ``c<attnum>``)."""

    relation: Relation
    log: Relation


@dataclass(frozen=True, slots=True)
class StageBinding:
    """Where a stage writes.

    ``output`` is the stream table for the root. ``log`` holds the net changes of each refresh (``__n`` = refresh
    number, ``__w``, then ``c1..cn`` in the order of the stage's columns); a root without dependents has none.
    ``state`` exists for strategy AGGREGATE only. ``log_columns`` replaces ``c1..cn`` for a root: its log is read by
    attribute number (``c<attnum>``), and numbers have gaps once a column was dropped. ``locator`` is the name of the
    index by which refreshes find rows; it does not follow from that of the table, which may be renamed.
    """

    output: Relation
    log: Relation | None
    state: Relation | None
    log_columns: tuple[str, ...] = ()
    locator: str = "pgtrickle_locator"


@dataclass(frozen=True, slots=True)
class Bindings:
    """Names for one plan in one database."""

    tables: Mapping[int, TableBinding] = field(default_factory=dict)
    stream_tables: Mapping[int, StreamTableBinding] = field(default_factory=dict)
    stages: Mapping[int, StageBinding] = field(default_factory=dict)
