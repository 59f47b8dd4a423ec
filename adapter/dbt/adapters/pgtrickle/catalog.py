"""Tell stream tables from other tables wherever dbt lists relations, and show them in its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbt_common.clients.agate_helper import table_from_rows

if TYPE_CHECKING:
    import agate

#: What `dbt docs` shows of a stream table: column of the registration, label, description.
STATS = (
    ("schedule", "Schedule", "When it is refreshed"),
    ("requested_mode", "Refresh mode", "The refresh mode that was asked for"),
    ("mode", "Maintained by", "DIFFERENTIAL: from the changes alone; FULL: by computing everything again"),
    ("status", "Status", "Whether it is being refreshed"),
    ("data_timestamp", "Content as of", "The moment whose data it shows"),
)

Registered = Mapping[tuple[str, str], Mapping[str, Any]]


def by_name(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Registered stream tables by schema and name."""
    return {(row["schema"], row["name"]): row for row in rows}


def with_stream_tables(table: agate.Table, registered: Registered) -> agate.Table:
    """dbt's catalog with the stream tables' type and statistics.

    Args:
        table: one row per column of each relation, as dbt-postgres returns it.
        registered: the stream tables.
    """
    names = list(table.column_names)
    extra = [f"stats:{key}:{part}" for key, _, _ in STATS for part in ("label", "value", "description", "include")]
    rows = []
    for row in table.rows:
        values = dict(zip(names, row.values(), strict=True))
        facts = registered.get((values["table_schema"], values["table_name"]))
        if facts is not None:
            values["table_type"] = "STREAM TABLE"
        rows.append([values[name] for name in names] + _stats(facts))
    return table_from_rows(rows, [*names, *extra], text_only_columns=["table_database", "table_schema", "table_name"])


def _stats(facts: Mapping[str, Any] | None) -> list[Any]:
    if facts is None:
        return [part for _, label, text in STATS for part in (label, None, text, False)]
    return [part for key, label, text in STATS for part in (label, facts[key], text, facts[key] is not None)]
