"""Delta rules of linear operators: the same operator over the input's delta."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.delta.differentiate import Differentiation
from pgtrickle.errors import InternalError
from pgtrickle.ir.operators import Apply, Change, Empty, Expand, Filter, Operator, Pad, Project, Scan, UnionAll, Values


def delta_scan(op: Scan, d: Differentiation) -> Operator:
    """ΔR is what the change buffer holds for the window."""
    return Change(op) if op.input in d.changed else Empty(op.columns)


def delta_values(op: Values, d: Differentiation) -> Operator:
    """Constants do not change."""
    return Empty(op.columns)


def delta_unary(op: Filter | Project | Expand | Apply | Pad, d: Differentiation) -> Operator:
    """Δσ(R) = σ(ΔR), Δπ(R) = π(ΔR)."""
    below = d.delta(op.child)
    return Empty(op.columns) if isinstance(below, Empty) else replace(op, child=below)


def delta_expand(op: Expand, d: Differentiation) -> Operator:
    """Δ(R ⋉ f) = ΔR ⋉ f, for a function that reads no table."""
    if op.inputs:
        raise InternalError("a lateral query that reads tables is a stage of its own")
    return delta_unary(op, d)


def delta_apply(op: Apply, d: Differentiation) -> Operator:
    """Δ of expressions whose subqueries read no table: the same over ΔR."""
    if any(call.inputs for call in op.calls):
        raise InternalError("subqueries that read tables are a stage of their own")
    return delta_unary(op, d)


def delta_pad(op: Pad, d: Differentiation) -> Operator:
    """Padding with NULL is linear; the other side lends types only."""
    return delta_unary(op, d)


def delta_union(op: UnionAll, d: Differentiation) -> Operator:
    """Δ(R + S) = ΔR + ΔS."""
    deltas = [d.delta(child) for child in op.children]
    changed = tuple(delta for delta in deltas if not isinstance(delta, Empty))
    return UnionAll(changed, op.columns) if changed else Empty(op.columns)
