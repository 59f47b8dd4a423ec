"""The state of all stream tables as the runner sees it: one query, and one more for what has changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL, Composed, Literal

from pgtrickle import capture, db
from pgtrickle.catalog import access
from pgtrickle.catalog import sources as catalog_sources
from pgtrickle.errors import InvalidOption
from pgtrickle.schedule.due import TableState, effective_periods
from pgtrickle.schedule.order import Dag
from pgtrickle.schedule.situation import Situation
from pgtrickle.schedule.text import parse
from pgtrickle.sql import qualified

if TYPE_CHECKING:
    from typing_extensions import LiteralString

#: So many change buffers are looked into without asking first which ones have anything in them.
_ASKED_AT_ONCE = 20
#: So often the same question is asked before its plan is kept: it is a large one, and new stream tables make a new one.
_PREPARED_AFTER = 5


@dataclass(frozen=True, slots=True)
class _Row:
    now: datetime
    id: int | None
    relid: int
    name: str
    schedule: str
    status: str
    is_populated: bool
    last_refresh_at: datetime | None
    retry_at: datetime | None
    last_error: str | None
    watched: bool
    source_ids: list[int]
    stream_table_ids: list[int]
    runner_id: str | None
    expires_at: datetime | None
    pending: bool | None


def fetch_situation(conn: db.Connection) -> Situation:
    """Read the state of all stream tables in one statement."""
    rows = access.rows(conn, "fetch_schedule_states", _Row)
    tables: dict[int, TableState] = {}
    unreadable: list[tuple[str, InvalidOption]] = []
    for row in rows:
        if row.id is None:
            continue
        try:
            tables[row.id] = _state(row)
        except InvalidOption as error:
            unreadable.append((row.name, error))
    known = {row.id: row for row in rows if row.id in tables}
    dag = Dag(
        tables,
        [(source, key) for key, row in known.items() for source in row.stream_table_ids],
        {key: state.name for key, state in tables.items()},
    )
    return Situation(
        now=rows[0].now,
        tables=tables,
        dag=dag,
        periods=effective_periods({key: state.schedule for key, state in tables.items()}, dag),
        sources={key: tuple(row.source_ids) for key, row in known.items()},
        leases={key: (row.runner_id, row.expires_at) for key, row in known.items() if row.runner_id and row.expires_at},
        unreadable=tuple(unreadable),
    )


def _state(row: _Row) -> TableState:
    return TableState(
        relid=row.relid,
        name=row.name,
        schedule=parse(row.schedule),
        status=row.status,
        populated=row.is_populated,
        last_refresh=row.last_refresh_at,
        retry_at=row.retry_at,
        last_error=row.last_error,
        watched=row.watched,
        pending=bool(row.pending),
    )


_ONE = SQL("SELECT {id}::bigint AS stream_table_id WHERE {any}")
#: The frontier is read by uncorrelated subqueries, once per statement: correlated ones would run for every change row.
_BUFFER = SQL(
    """
    EXISTS (
        SELECT FROM {buffer} b
        WHERE b.__x >= (SELECT pg_catalog.pg_snapshot_xmax(f.snapshot) FROM pgtrickle.frontiers f
                        WHERE f.stream_table_id = {id})
           OR b.__x = ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip(f.snapshot) FROM pgtrickle.frontiers f
                                 WHERE f.stream_table_id = {id})))
    """
)


def pollable(situation: Situation) -> dict[int, tuple[int, ...]]:
    """What is worth polling, by catalog id: the captured sources of ``continuous`` ones and of their ancestors."""
    wanted = [
        key
        for key, state in situation.tables.items()
        if situation.periods[key] == timedelta(0) and state.watched and state.status != "SUSPENDED"
    ]
    return {key: situation.sources[key] for key in situation.dag.ordered({*wanted, *situation.dag.ancestors(wanted)})}


def watchable(situation: Situation) -> dict[int, tuple[int, ...]]:
    """What can be known to be quiet, by catalog id: everything whose sources are all captured."""
    return {
        key: situation.sources[key]
        for key, state in situation.tables.items()
        if state.watched and state.populated and state.status != "SUSPENDED"
    }


def changes_query(sources: Mapping[int, tuple[int, ...]]) -> Composed | None:
    """The statement that finds which stream tables have changes in their base tables; None if there is none to ask.

    Args:
        sources: catalog id -> ids of the captured sources that it reads directly.
    """
    parts = [
        _ONE.format(
            id=Literal(key),
            any=SQL(" OR ").join(_BUFFER.format(buffer=_buffer(source), id=Literal(key)) for source in sources[key]),
        )
        for key in sorted(sources)
        if sources[key]
    ]
    return SQL(" UNION ALL ").join(parts) if parts else None


def _buffer(source_id: int) -> Composed:
    relation = capture.buffer_of(source_id)
    return SQL("{}").format(qualified(relation.schema, relation.name))


def fetch_changed(conn: db.Connection, query: db.Query, *, prepare: bool = False) -> frozenset[int]:
    """Run the statement of `changes_query`: the catalog ids of those that have changes."""
    return frozenset(row["stream_table_id"] for row in db.fetch_all(conn, query, dict, prepare=prepare))


class Poll:
    """A question to the change buffers of some stream tables, composed once for as long as they stay the same."""

    def __init__(self) -> None:
        self._sources: Mapping[int, tuple[int, ...]] = {}
        self._query: SQL | None = None
        self._used = 0

    @property
    def asked(self) -> frozenset[int]:
        """Catalog ids of the stream tables."""
        return frozenset(self._sources)

    def choose(self, sources: Mapping[int, tuple[int, ...]]) -> None:
        """Ask about these from now on; argument as for `changes_query`."""
        if sources != self._sources:
            self._sources = dict(sources)
            self._query = _printed(changes_query(sources)) if self._is_short else None
            self._used = 0

    @property
    def _is_short(self) -> bool:
        return sum(map(len, self._sources.values())) <= _ASKED_AT_ONCE

    def fetch(self, conn: db.Connection) -> frozenset[int]:
        """The catalog ids of those that have changes."""
        if not self._is_short:
            # Opening a thousand tables to find them empty takes a hundred milliseconds, asking for their sizes three.
            filled = catalog_sources.filled(conn)
            few = {key: tuple(one for one in ids if one in filled) for key, ids in self._sources.items()}
            query = changes_query({key: ids for key, ids in few.items() if ids})
            return frozenset() if query is None else fetch_changed(conn, query)
        self._used += 1
        if self._query is None:
            return frozenset()
        return fetch_changed(conn, self._query, prepare=self._used > _PREPARED_AFTER)


def _printed(query: Composed | None) -> SQL | None:
    return None if query is None else SQL(cast("LiteralString", query.as_string(None)))
