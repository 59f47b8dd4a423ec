"""Whether descriptions have to be written: dbt writes every comment on every run, an unchanged one too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dbt.adapters.pgtrickle import queries
from dbt.adapters.pgtrickle.relation import PgTrickleRelation
from psycopg.sql import Composable


def differ(
    fetch: Callable[[Composable], list[dict[str, Any]]],
    relation: PgTrickleRelation,
    model: Mapping[str, Any],
    for_relation: bool,
    for_columns: bool,
) -> bool:
    """Whether a comment in the database is not the model's description.

    Args:
        fetch: runs a query over dbt's connection.
        relation: the stream table.
        model: the node.
        for_relation: ``persist_docs.relation``.
        for_columns: ``persist_docs.columns``.
    """
    if not (for_relation or for_columns):
        return False
    rows = fetch(queries.comments(relation.stored_schema, relation.stored_identifier))
    stored = {row["column_name"]: row["comment"] for row in rows}
    if for_relation and (model.get("description") or "") != (stored.get(None) or ""):
        return True
    if not for_columns:
        return False
    return any(
        (column.get("description") or "") != (stored.get(name) or stored.get(name.lower()) or "")
        for name, column in (model.get("columns") or {}).items()
    )
