"""How often a tree reads tables, once all that is written once and used many times stands where it is used."""

from __future__ import annotations

from pgtrickle.ir.operators import Operator, children_of

#: Statements grow with every table read, and a CTE that is used twice is read twice: twelve such CTEs, each over the
#: one before, are thousands. No query that people write comes near.
MAX_READS = 600


def table_reads(root: Operator) -> int:
    """The number of leaves of the tree, each counted as often as it is used."""
    found: dict[int, int] = {}

    def count(op: Operator) -> int:
        if id(op) not in found:
            found[id(op)] = sum(map(count, children_of(op))) or 1
        return found[id(op)]

    return count(root)
