"""Which rule follows the changes of an operator, and why that one: for ``explain``.

What a rule says is the first sentence of its docstring, so the explanation is the rule's own. A unit test fails for an
operator or a strategy that nobody described here; in production it is shown without a description.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pgtrickle.delta import RULES, linear
from pgtrickle.delta.aggregates import AGGREGATES, rule_for
from pgtrickle.delta.outer import equality_pairs
from pgtrickle.delta.single import compared
from pgtrickle.ir.describe import show
from pgtrickle.ir.operators import (
    Aggregate,
    AggregateCall,
    Anti,
    Apply,
    Expand,
    Filter,
    Join,
    Operator,
    OuterJoin,
    Pad,
    Pick,
    Project,
    Recursion,
    Scan,
    SelfReference,
    Values,
    Window,
    children_of,
)
from pgtrickle.ir.schema import Column
from pgtrickle.plan import Stage, Strategy


@dataclass(frozen=True, slots=True)
class Choice:
    """The rule of one operator: its name, what it does, why it was chosen."""

    rule: str
    says: str
    why: str


#: Strategy -> what happens to the operator on top of a stage.
STRATEGIES: Mapping[Strategy, str] = {
    Strategy.ROWS: "The delta is computed from the changes alone.",
    Strategy.AGGREGATE: "Totals per group, or what decides it, are kept in a state table and changed by the delta.",
    Strategy.KEYS: "The keys that the delta touches are computed again and compared with what is stored.",
    Strategy.PICK: "Changes are merged with the kept rows; the input is read again where one of them leaves.",
    Strategy.RECURSION: "What the changes take away or add is followed round by round, from the rows that are stored.",
    Strategy.ALL: "Everything is computed again and compared with what is stored; only differences are written.",
}


def _scan(op: Scan) -> str:
    if op.input.kind == "stage":
        return "an earlier stage: its changes are in its log"
    return "a source: its changes were captured"


def _linear(_: Operator) -> str:
    return "linear: works on the changed rows alone"


def _project(op: Project) -> str:
    if compared(op) is None:
        return _linear(op)
    return "some input is one row that is only compared with: rows count that meet its old or its new values, not both"


def _matching(op: Anti | OuterJoin) -> str:
    pairs = equality_pairs(op)
    if pairs is not None:
        columns = ", ".join(show(expr) for expr in pairs.left)
        return f"joined by equality: whether a row has a match is decided once per changed value of {columns}"
    return "not joined by equalities alone: the matches of each affected row are counted"


def _join(op: Join) -> str:
    return f"bilinear in {len(op.inputs)} inputs: only those that changed take part, the smallest step first"


#: Operator -> why its rule in `RULES` is the one; rules of `delta.linear` need no line.
REASONS: Mapping[type, Callable[[Any], str]] = {
    Scan: _scan,
    Values: lambda _: "constants",
    Project: _project,
    Expand: lambda _: "linear: the function reads no table",
    Join: _join,
    OuterJoin: _matching,
    Anti: _matching,
    Apply: lambda _: "linear: its subqueries read no table",
    Pad: lambda _: "linear: the other side lends types only",
}

#: Operators that stand on top of a stage: the stage's strategy is their rule.
ON_TOP: tuple[type, ...] = (Aggregate, Window, Pick, Apply, Expand, Recursion)


def choices(stage: Stage) -> Mapping[int, Choice]:
    """The rule of every operator of a stage, by the node's id."""
    found: dict[int, Choice] = {}
    if stage.strategy is Strategy.ALL:
        whole = Choice(stage.strategy.value, STRATEGIES[stage.strategy], stage.reason)
        _fill(found, stage.operator, lambda _: whole)
        return found
    node = stage.operator
    if stage.strategy is not Strategy.ROWS:
        says = "Computed over the affected keys before and after, which gives the difference."
        above = Choice("before and after", says, "it stands above the operator that the strategy is about")
        while isinstance(node, Project | Filter):
            found[id(node)] = above
            node = node.child
        found[id(node)] = _on_top(node, stage)
    for child in (node,) if stage.strategy is Strategy.ROWS else children_of(node):
        _fill(found, child, choose)
    return found


def _fill(found: dict[int, Choice], op: Operator, choice: Callable[[Operator], Choice]) -> None:
    if id(op) not in found:
        found[id(op)] = choice(op)
        for child in children_of(op):
            _fill(found, child, choice)


def choose(op: Operator) -> Choice:
    """The delta rule of an operator that stands below the top of its stage."""
    if isinstance(op, SelfReference):
        step = Strategy.RECURSION
        return Choice(step.value, STRATEGIES[step], "stands for the rows of the round before")
    rule = RULES.get(type(op))
    if rule is None:
        return Choice("", "", "")
    reason = REASONS.get(type(op)) or (_linear if rule.__module__ == linear.__name__ else None)
    return Choice(rule.__name__, first_sentence(rule), reason(op) if reason else "")


def _on_top(op: Operator, stage: Stage) -> Choice:
    why = stage.reason
    if isinstance(op, Aggregate):
        # Where a group is computed again, all its aggregates are: of interest are those that forced it.
        kept = stage.strategy is Strategy.AGGREGATE
        told = [call for call in op.calls if kept or rule_for(call, op.child.columns) is None]
        why = "; ".join((why, *(f"{show(call.expr)}: {aggregate_reason(call, op.child.columns)}" for call in told)))
    return Choice(stage.strategy.value, STRATEGIES.get(stage.strategy, ""), why)


def aggregate_reason(call: AggregateCall, columns: tuple[Column, ...]) -> str:
    """By what an aggregate is kept, or why it is computed again per group.

    Args:
        call: the aggregate.
        columns: the columns of the operator below the grouping.
    """
    rule = rule_for(call, columns)
    if rule is not None:
        module = inspect.getmodule(rule.result)
        return f"rule {rule.result.__module__.rpartition('.')[2]} ({first_sentence(module).rstrip('.')})"
    if call.function is None or call.function not in AGGREGATES:
        return "computed again, no rule adds it up" if call.plain else "computed again, it looks at its rows in order"
    if not call.plain:
        return "computed again, DISTINCT or ORDER BY cannot be added up"
    return "computed again, its rules are not exact for this type"


def first_sentence(documented: object) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(documented) or "").split())
    return re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)[0]
