"""`dbt source freshness` for stream tables that are declared as sources, without a `loaded_at_field`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import agate
from dbt.adapters.contracts.connection import AdapterResponse
from dbt.adapters.pgtrickle.relation import PgTrickleRelation

COLUMNS = ("schema", "identifier", "last_modified", "snapshotted_at")


@dataclass(frozen=True, slots=True)
class LastModified:
    """What dbt expects of the macro ``get_relation_last_modified``."""

    response: AdapterResponse
    table: agate.Table


def last_modified(
    relations: Iterable[PgTrickleRelation], registered: Mapping[tuple[str, str], Mapping[str, Any]]
) -> LastModified:
    """When the content of these sources was taken.

    A stream table that was never loaded has no such moment: dbt takes that as infinitely old. A source that is no
    stream table gets no row, so dbt asks again for it alone and gets an error from ``require_answer``.
    """
    rows = []
    for relation in relations:
        facts = registered.get((relation.stored_schema, relation.stored_identifier))
        if facts is not None:
            rows.append(
                (relation.schema, relation.identifier, _moment(facts["data_epoch"]), _moment(facts["now_epoch"]))
            )
    types = [agate.Text(), agate.Text(), agate.DateTime(), agate.DateTime()]
    return LastModified(AdapterResponse(_message="OK", rows_affected=len(rows)), agate.Table(rows, COLUMNS, types))


def _moment(epoch: Any) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(float(epoch), tz=timezone.utc)
