"""What an explanation consists of: plain values. Their field names are the keys of its JSON."""

from __future__ import annotations

from dataclasses import dataclass

from pgtrickle.plan import Rewrite
from pgtrickle.results import Notice


@dataclass(frozen=True, slots=True)
class OperatorExplanation:
    """One operator of a stage.

    Attributes:
        id: unique in the explanation: ``s<stage>_<number>``.
        operator: what it is, for example ``Join``, ``LeftJoin``, ``Aggregate``, ``Scan``.
        details: its conditions, keys or expressions.
        inputs: ids of the operators below it.
        reads: what a scan reads: a qualified name, or ``stage <n>``; else None.
        rule: the delta rule, or the strategy for the operator on top of a stage.
        says: what the rule does, in one sentence.
        why: why this rule.
    """

    id: str
    operator: str
    details: str
    inputs: tuple[str, ...]
    reads: str | None
    rule: str
    says: str
    why: str


@dataclass(frozen=True, slots=True)
class StageExplanation:
    """How one stage of a plan is maintained.

    Attributes:
        number: position, from 0; the last one writes the stream table.
        strategy: the words that the documentation of stages has, for example ``delta with state``.
        reason: why this strategy.
        inputs: qualified names of what it reads; an earlier stage is ``stage <n>``.
        output: qualified name of the table that it writes.
        columns: names of its output columns.
        key: the output columns that identify a row; None if rows may be duplicates.
        operators: its operators, parents first.
        tree: operator tree, one operator per line, indented.
        delta_sql: the statement sent when all its inputs changed; None where it only recomputes.
    """

    number: int
    strategy: str
    reason: str
    inputs: tuple[str, ...]
    output: str
    columns: tuple[str, ...]
    key: tuple[str, ...] | None
    operators: tuple[OperatorExplanation, ...]
    tree: str
    delta_sql: str | None


@dataclass(frozen=True, slots=True)
class SourceExplanation:
    """A table or stream table that the query reads.

    Attributes:
        name: qualified name.
        kind: ``table`` or ``stream_table``.
        columns: the columns of which changes are captured.
        rows: False if only the fact of a change is captured (FULL), or nothing can be.
        changes: qualified name of the table that holds its changes; None if there is none.
        stages: numbers of the stages that a change of it runs through.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    rows: bool
    changes: str | None
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StatementExplanation:
    """One statement of a refresh.

    Attributes:
        stage: the stage that it brings up to date.
        tree: operator tree of the delta; None where there is none because everything is computed again.
        sql: the statement with parameters ``$1``, ``$2`` ...
        parameters: what ``$1``, ``$2`` ... stand for, in order.
    """

    stage: int
    tree: str | None
    sql: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeltaExplanation:
    """What a refresh sends if exactly these sources changed.

    Attributes:
        changed: qualified names of the sources.
        statements: in order; a stage whose inputs turn out not to have changed is skipped.
    """

    changed: tuple[str, ...]
    statements: tuple[StatementExplanation, ...]


@dataclass(frozen=True, slots=True)
class TableExplanation:
    """A table that refreshes write or read changes from, and what it costs.

    Attributes:
        name: qualified name; for ``validate_query`` what it would be like.
        role: ``output``, ``state``, ``log`` (of a stage) or ``changes`` (of a source).
        stage: number of the stage; None for the changes of a source.
        exists: whether it is there. All sizes are None if not.
        rows: number of rows; the planner's estimate if ``exact`` is False; None if it is not known.
        exact: whether the rows were counted.
        bytes: with indexes and TOAST.
        writes: rows written in it per changed row of its stage's input, at most.
        cost: what keeping it costs, in words.
        indexes: the statements that create its indexes.
    """

    name: str
    role: str
    stage: int | None
    exists: bool
    rows: int | None
    exact: bool
    bytes: int | None
    writes: int
    cost: str
    indexes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that a source lacks.

    Attributes:
        table: qualified name of the source.
        columns: the columns that refreshes look rows up by.
        reason: for what.
        statement: creates the index.
        table_bytes: size of the source; an index on a small table hardly matters.
    """

    table: str
    columns: tuple[str, ...]
    reason: str
    statement: str
    table_bytes: int


@dataclass(frozen=True, slots=True)
class CostExplanation:
    """What refreshes cost so far, from which AUTO decides.

    Attributes:
        full_ms: a full evaluation, milliseconds, moving average; None before the first.
        change_ms: per change in large windows; None before the first of at least 1000 changes.
        small_ms: a differential refresh of a small window; None before the first.
        source_rows: the planner's estimate of all sources' rows together.
        full_from: from this many changes on AUTO recomputes.
    """

    full_ms: float | None
    change_ms: float | None
    small_ms: float | None
    source_rows: int
    full_from: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query is, or would be, maintained.

    Attributes:
        name: qualified name; None from ``validate_query``.
        requested_mode: the mode asked for: ``AUTO``, ``DIFFERENTIAL`` or ``FULL``.
        mode: ``DIFFERENTIAL`` or ``FULL``.
        full_reason: why not DIFFERENTIAL.
        canonical: the defining query as the server prints it.
        columns: name and type of the output columns.
        sources: what it reads.
        rewrites: what was done to the query before it was maintained, in order.
        stages: how each stage is maintained.
        deltas: the statements per changed source, and if all sources changed.
        tables: the tables that it needs, with sizes and costs.
        advice: indexes that the sources lack.
        cost: what refreshes cost so far; None from ``validate_query``.
        notices: implicit acts that a creation tells.
        gates: the gates in order with their decision now: (gate, decision, reason); empty from ``validate_query``.
    """

    name: str | None
    requested_mode: str
    mode: str
    full_reason: str | None
    canonical: str
    columns: tuple[tuple[str, str], ...]
    sources: tuple[SourceExplanation, ...]
    rewrites: tuple[Rewrite, ...]
    stages: tuple[StageExplanation, ...]
    deltas: tuple[DeltaExplanation, ...]
    tables: tuple[TableExplanation, ...]
    advice: tuple[IndexAdvice, ...]
    cost: CostExplanation | None = None
    notices: tuple[Notice, ...] = ()
    gates: tuple[tuple[str, str, str], ...] = ()
