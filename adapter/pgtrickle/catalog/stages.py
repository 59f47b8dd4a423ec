"""``pgtrickle.stages``: the tables in ``pgtrickle_state`` that plans own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import StageTables


def fetch(conn: db.Connection, stream_table_id: int) -> tuple[StageTables, ...]:
    """The stages of one stream table in order."""
    return access.rows(conn, "fetch_stages", StageTables, id=stream_table_id)


def replace(conn: db.Connection, stream_table_id: int, stages: Sequence[StageTables]) -> None:
    """Record these stages instead of the old ones. Creates and drops no tables."""
    access.run(conn, "delete_stages", id=stream_table_id)
    for stage in stages:
        access.run(conn, "insert_stage", **asdict(stage))
