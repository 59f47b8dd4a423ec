"""The scenarios, as data: one module per kind of query."""

from __future__ import annotations

from tests.benchmarks.cases import aggregates, joins, others, recursion, rows
from tests.benchmarks.model import Scenario, flat

ALONE: tuple[Scenario, ...] = tuple(
    flat([rows.SCENARIOS, aggregates.SCENARIOS, joins.SCENARIOS, others.SCENARIOS, recursion.SCENARIOS])
)
"""Each has a database of its own."""
