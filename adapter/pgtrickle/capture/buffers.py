"""Names of change buffers and output logs."""

from __future__ import annotations

from pgtrickle.names import CHANGES_SCHEMA
from pgtrickle.plan import Relation


def buffer_of(source_id: int) -> Relation:
    """The change buffer of a base table, by ``pgtrickle.sources.id``."""
    return Relation(CHANGES_SCHEMA, f"b_{source_id}")


def output_log_of(stream_table_id: int) -> Relation:
    """The output log of a stream table that has dependents, by ``pgtrickle.stream_tables.id``."""
    return Relation(CHANGES_SCHEMA, f"o_{stream_table_id}")
