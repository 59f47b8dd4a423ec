"""What stands on top of a stage: a chain of projections and filters over the operator that its strategy is about."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.errors import InternalError
from pgtrickle.ir.operators import Aggregate, Apply, Expand, Filter, Operator, Project, Window


def keyed_of(op: Operator) -> tuple[tuple[Operator, ...], Aggregate | Window | Apply | Expand]:
    """The projections and filters above a stage's grouping or windows (outermost first), and these."""
    chain: list[Operator] = []
    while isinstance(op, Project | Filter):
        chain.append(op)
        op = op.child
    if not isinstance(op, Aggregate | Window | Apply | Expand):
        raise InternalError("a stage of this strategy has a grouping on top")
    return tuple(chain), op


def grouping_of(op: Operator) -> tuple[tuple[Operator, ...], Aggregate]:
    """The projections and filters above a stage's grouping (outermost first), and the grouping."""
    chain, grouping = keyed_of(op)
    if not isinstance(grouping, Aggregate):
        raise InternalError("a stage of this strategy has a grouping on top")
    return chain, grouping


def rebuilt(chain: tuple[Operator, ...], bottom: Operator) -> Operator:
    """The same projections and filters over another operator."""
    for node in reversed(chain):
        if isinstance(node, Project | Filter):
            bottom = replace(node, child=bottom)
    return bottom
