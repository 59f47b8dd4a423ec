"""Indexes that the sources lack: without them a refresh reads a whole table to find the partners of a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.sql import SQL, Identifier

from pgtrickle import db
from pgtrickle.explain.lookups import Lookup, lookups_of
from pgtrickle.explain.model import IndexAdvice
from pgtrickle.explain.names import relation_name, relation_of
from pgtrickle.explain.statements import ddl_shown
from pgtrickle.plan import Bindings, Plan
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.explain")


@dataclass(frozen=True, slots=True)
class _Source:
    relid: int
    bytes: int
    indexable: bool
    leading: Sequence[str]


def advice_of(conn: db.Connection, plan: Plan, bindings: Bindings) -> tuple[IndexAdvice, ...]:
    """The indexes that would turn scans of sources into look-ups, largest source first.

    Args:
        conn: to look at the sources' indexes.
        plan: a differential plan; for a FULL one there is nothing to say.
        bindings: the names of the sources.
    """
    lookups = lookups_of(plan) if plan.mode == "DIFFERENTIAL" else ()
    params = {"relids": sorted({lookup.source.ident for lookup in lookups})}
    sources = {source.relid: source for source in db.fetch_all(conn, _QUERIES["source_indexes"], _Source, params)}
    found: dict[tuple[int, tuple[str, ...]], IndexAdvice] = {}
    for lookup in lookups:
        source = sources.get(lookup.source.ident)
        if source is not None and source.indexable and not set(source.leading) & set(lookup.columns):
            found.setdefault((source.relid, lookup.columns), _advice(conn, lookup, source, bindings))
    return tuple(sorted(found.values(), key=lambda advice: (-advice.table_bytes, advice.table, advice.columns)))


def _advice(conn: db.Connection, lookup: Lookup, source: _Source, bindings: Bindings) -> IndexAdvice:
    relation = relation_of(bindings, lookup.source)
    statement = SQL("CREATE INDEX ON {} ({})").format(
        Identifier(relation.schema, relation.name), SQL(", ").join(map(Identifier, lookup.columns))
    )
    return IndexAdvice(
        table=relation_name(relation),
        columns=lookup.columns,
        reason=lookup.reason,
        statement=ddl_shown(conn, statement),
        table_bytes=source.bytes,
    )
