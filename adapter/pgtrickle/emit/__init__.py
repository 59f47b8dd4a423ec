"""From plans to SQL. See docs/contributing/architecture.md for the parameters that the statements expect."""

from __future__ import annotations

from pgtrickle.emit.apply import COUNTS
from pgtrickle.emit.ddl import locator_index, stage_indexes, stage_tables
from pgtrickle.emit.full import Step, stage_computed, stage_staged
from pgtrickle.emit.stage import stage_load, stage_recompute, stage_refresh
from pgtrickle.emit.verify import verify_query

__all__ = [
    "COUNTS",
    "Step",
    "locator_index",
    "stage_computed",
    "stage_indexes",
    "stage_load",
    "stage_recompute",
    "stage_refresh",
    "stage_staged",
    "stage_tables",
    "verify_query",
]
