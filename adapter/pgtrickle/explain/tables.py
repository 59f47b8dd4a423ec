"""The tables that a stream table needs beside its sources: their sizes and what keeping them costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from psycopg.sql import SQL, Identifier

from pgtrickle import db, emit
from pgtrickle.explain.model import TableExplanation
from pgtrickle.explain.names import relation_name
from pgtrickle.explain.statements import ddl_shown
from pgtrickle.plan import Bindings, Plan, Relation, StageBinding
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.explain")
#: Tables up to this size are counted, larger ones estimated.
COUNTED_BYTES = 8 * 1024 * 1024

#: Role -> rows written per changed row at most, and what that means.
COSTS: Mapping[str, tuple[int, str]] = {
    "output": (1, "one row written per row of the result that changes"),
    "state": (1, "per affected group one row looked up and rewritten, however many of its rows changed"),
    "log": (2, "the old and the new image of every changed row, kept until no reader needs it"),
    "changes": (2, "one row per row that a writer inserts or deletes, two per update; shared by all readers"),
}


@dataclass(frozen=True, slots=True)
class _Owned:
    relation: Relation
    role: str
    stage: int | None


@dataclass(frozen=True, slots=True)
class _Size:
    schema: str
    name: str
    bytes: int
    main_bytes: int
    estimate: float
    readable: bool


def tables_of(conn: db.Connection, plan: Plan, bindings: Bindings) -> tuple[TableExplanation, ...]:
    """All tables that refreshes of a plan write or read changes from, the stream table among them.

    Args:
        conn: outside a transaction, or inside one that may read.
        plan: the plan.
        bindings: names in this database; the tables need not exist.
    """
    owned = tuple(_owned(plan, bindings))
    found = {size.schema + "." + size.name: size for size in _sizes(conn, owned)}
    indexes = _indexes(conn, plan, bindings)
    return tuple(
        _table(conn, one, found.get(f"{one.relation.schema}.{one.relation.name}"), indexes.get(one.relation, ()))
        for one in owned
    )


def _owned(plan: Plan, bindings: Bindings) -> Iterator[_Owned]:
    for need in plan.sources:
        table, stream = bindings.tables.get(need.relid), bindings.stream_tables.get(need.relid)
        relation = stream.log if stream is not None else table.buffer if table is not None else None
        if relation is not None:
            yield _Owned(relation, "changes", None)
    for stage in plan.stages:
        binding = bindings.stages[stage.number]
        for field in fields(StageBinding):
            relation = getattr(binding, field.name)
            if isinstance(relation, Relation):
                yield _Owned(relation, field.name, stage.number)


def _indexes(conn: db.Connection, plan: Plan, bindings: Bindings) -> dict[Relation, tuple[str, ...]]:
    found: dict[Relation, tuple[str, ...]] = {}
    for stage in plan.stages:
        for relation, statement in emit.stage_indexes(plan, stage, bindings):
            found[relation] = (*found.get(relation, ()), ddl_shown(conn, statement))
    return found


def _sizes(conn: db.Connection, owned: tuple[_Owned, ...]) -> list[_Size]:
    params = {
        "schemas": [one.relation.schema for one in owned],
        "names": [one.relation.name for one in owned],
    }
    return list(db.fetch_all(conn, _QUERIES["table_sizes"], _Size, params))


def _table(conn: db.Connection, owned: _Owned, size: _Size | None, indexes: tuple[str, ...]) -> TableExplanation:
    writes, cost = COSTS[owned.role]
    rows, exact = _rows(conn, size) if size is not None else (None, False)
    return TableExplanation(
        name=relation_name(owned.relation),
        role=owned.role,
        stage=owned.stage,
        exists=size is not None,
        rows=rows,
        exact=exact,
        bytes=size.bytes if size is not None else None,
        writes=writes,
        cost=cost,
        indexes=indexes,
    )


def _rows(conn: db.Connection, size: _Size) -> tuple[int | None, bool]:
    if size.readable and size.main_bytes <= COUNTED_BYTES:
        query = SQL("SELECT pg_catalog.count(*) FROM {}").format(Identifier(size.schema, size.name))
        return db.fetch_value(conn, query), True
    return (int(size.estimate) if size.estimate >= 0 else None), False
