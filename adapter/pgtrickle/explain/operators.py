"""The operators of a stage, each with its rule."""

from __future__ import annotations

from collections.abc import Callable

from pgtrickle.delta import delta
from pgtrickle.delta.choice import ON_TOP, Choice, choices
from pgtrickle.explain.model import OperatorExplanation
from pgtrickle.ir.describe import Node, nodes_of, tree_lines
from pgtrickle.ir.operators import Filter, InputKey, Operator, Project, Scan, children_of
from pgtrickle.plan import Stage, Strategy
from pgtrickle.rewrite.stages import subquery_inputs

_NOT_DESCRIBED = Choice("", "", "")


def operators_of(stage: Stage, name_of: Callable[[InputKey], str]) -> tuple[OperatorExplanation, ...]:
    """All operators of a stage, parents first, with the rules that the plan takes for them."""
    chosen = choices(stage)
    return tuple(
        _explained(node, chosen.get(id(node.operator), _NOT_DESCRIBED), stage.number, name_of)
        for node in nodes_of(stage.operator, name_of)
    )


def _explained(node: Node, choice: Choice, stage: int, name_of: Callable[[InputKey], str]) -> OperatorExplanation:
    op = node.operator
    reads = name_of(op.input) if isinstance(op, Scan) else None
    details = ", ".join(name for _, name in op.attributes) if isinstance(op, Scan) else node.details
    return OperatorExplanation(
        id=f"s{stage}_{node.number}",
        operator=node.title.split(" ", 1)[0],
        details=details,
        inputs=tuple(f"s{stage}_{child}" for child in node.children),
        reads=reads,
        rule=choice.rule,
        says=choice.says,
        why=choice.why,
    )


def stage_tree(stage: Stage, name_of: Callable[[InputKey], str]) -> str:
    """The operator tree of a stage as text, every operator with its rule."""
    chosen = choices(stage)

    def rule(node: Node) -> str:
        choice = chosen.get(id(node.operator), _NOT_DESCRIBED)
        return f"[{choice.rule}]" if choice.rule else ""

    return "\n".join(tree_lines(nodes_of(stage.operator, name_of), rule))


def delta_tree(stage: Stage, changed: frozenset[InputKey], name_of: Callable[[InputKey], str]) -> str | None:
    """The operator tree of the delta that a stage's statement starts from; None if it starts from the whole."""
    below = _differentiated(stage)
    if below is None or changed & subquery_inputs(stage.operator):
        return None
    return "\n".join(tree_lines(nodes_of(delta(below, changed), name_of)))


def _differentiated(stage: Stage) -> Operator | None:
    """The part of a stage that is differentiated: all of it, or what is below the operator on top."""
    if stage.strategy is Strategy.ROWS:
        return stage.operator
    if stage.strategy not in (Strategy.AGGREGATE, Strategy.KEYS, Strategy.PICK):
        return None
    node = stage.operator
    while isinstance(node, Project | Filter):
        node = node.child
    return children_of(node)[0] if isinstance(node, ON_TOP) else None
