"""What a refresh of one stream table has to do: pure, facts in, steps out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pgtrickle.plan import InputKey, Plan, Stage
from pgtrickle.refresh.cost import COUNT_CAP

#: The reason of a recompute that a caller wanted.
ASKED_FOR = "asked for"
#: How the reason begins where the stages of a plan failed and the query as a whole did not.
WHOLE = "computed as a whole"


class Action(Enum):
    """What is done to one stream table; the words of the history."""

    NO_DATA = "NO_DATA"
    DIFFERENTIAL = "DIFFERENTIAL"
    FULL = "FULL"
    RECOMPUTE = "RECOMPUTE"
    INITIAL = "INITIAL"


@dataclass(frozen=True, slots=True)
class Window:
    """The changes of one base table between the frontier and this snapshot.

    Attributes:
        rows: change rows, counted up to a cap.
        marked: it has a mark: something happened that left no rows (TRUNCATE, DDL, a capture past its size).
        overflowed: capture is past its size and has stopped: before anything is read, it has to begin again.
    """

    rows: int = 0
    marked: bool = False
    overflowed: bool = False

    @property
    def empty(self) -> bool:
        """Nothing happened."""
        return self.rows == 0 and not self.marked


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """What a decision about one stream table rests on.

    Attributes:
        plan: its maintenance plan.
        adaptive: AUTO was asked for, so FULL may be preferred where it is cheaper.
        populated: it was loaded.
        recompute_reason: the content or its state cannot be trusted to be what the frontier says.
        incomplete: the stages cannot be built upon, but the content can be trusted.
        forced: a caller asked for a recompute.
        windows: base table -> changes.
        stream_tables: stream tables it reads that changed since it last read them, in this transaction or before.
        limit: from this many changes on FULL is preferred, if ``adaptive``.
    """

    plan: Plan
    adaptive: bool
    populated: bool
    recompute_reason: str | None = None
    incomplete: str | None = None
    forced: bool = False
    windows: Mapping[int, Window] = field(default_factory=dict)
    stream_tables: frozenset[int] = frozenset()
    limit: int = COUNT_CAP


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """The decision.

    Attributes:
        action: what is done.
        reason: why not DIFFERENTIAL, where it is not; None otherwise.
        changed: inputs of the plan that changed, without stages.
        changes: change rows to be read.
        by_cost: FULL was preferred because it is expected to be cheaper.
    """

    action: Action
    reason: str | None
    changed: frozenset[InputKey]
    changes: int
    by_cost: bool = False


def plan_member(facts: MemberFacts) -> MemberPlan:
    """Decide what a refresh does to one stream table."""
    changed = frozenset(
        [InputKey("table", relid) for relid, window in facts.windows.items() if not window.empty]
        + [InputKey("stream_table", relid) for relid in facts.stream_tables]
    )
    changes = sum(window.rows for window in facts.windows.values())
    action, reason, by_cost = _choose(facts, changed, changes)
    return MemberPlan(action, reason, changed, changes, by_cost)


def _choose(facts: MemberFacts, changed: frozenset[InputKey], changes: int) -> tuple[Action, str | None, bool]:
    if not facts.populated:
        return Action.INITIAL, "first load", False
    if facts.forced:
        return Action.RECOMPUTE, ASKED_FOR, False
    if facts.recompute_reason:
        return Action.RECOMPUTE, facts.recompute_reason, False
    if facts.plan.mode == "FULL":
        return _choose_full(facts, changed)
    if not changed:
        return Action.NO_DATA, None, False
    if facts.incomplete:
        return Action.RECOMPUTE, f"the last time it was {facts.incomplete}", False
    marked = [relid for relid, window in facts.windows.items() if window.marked]
    if marked:
        return Action.RECOMPUTE, "a source was truncated, or changed without rows captured", False
    if facts.adaptive and changes >= facts.limit:
        return Action.FULL, f"{changes} changes or more: recomputing is expected to be cheaper", True
    return Action.DIFFERENTIAL, None, False


def _choose_full(facts: MemberFacts, changed: frozenset[InputKey]) -> tuple[Action, str | None, bool]:
    if changed or unwatched(facts.plan):
        return Action.FULL, facts.plan.full_reason, False
    return Action.NO_DATA, None, False


def unwatched(plan: Plan) -> bool:
    """Whether the result can change without any captured change, so that every refresh has to look.

    True for sources that no trigger can watch and for queries whose functions read more than their sources.
    """
    return plan.unwatched or any(not source.capturable for source in plan.sources)


def stage_changes(stage: Stage, changed: frozenset[InputKey]) -> frozenset[InputKey]:
    """The inputs of a stage that changed; empty: nothing to do for it."""
    return stage.inputs & changed
