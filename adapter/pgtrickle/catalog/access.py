"""Named queries of the catalog, run and turned into rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from pgtrickle import db
from pgtrickle.sql import load_queries

Row = TypeVar("Row")

#: What a runner asks all the time: planning takes longer than answering.
_REPEATED = frozenset(
    {"fetch_schedule_states", "runner_beat", "current_snapshot", "runner_checked", "drifted", "fetch_filled_buffers"}
)

_QUERIES = load_queries("pgtrickle.catalog")


def jsonb(value: Any) -> Jsonb:
    """A parameter of type jsonb. Characters stand for themselves: not every server encoding knows Unicode escapes."""
    return Jsonb(value, dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def rows(conn: db.Connection, name: str, row: type[Row], /, **params: Any) -> tuple[Row, ...]:
    """All rows of a named query."""
    return db.fetch_all(conn, _QUERIES[name], row, params, prepare=name in _REPEATED)


def row(conn: db.Connection, name: str, kind: type[Row], /, **params: Any) -> Row | None:
    """The first row of a named query, or None."""
    return db.fetch_one(conn, _QUERIES[name], kind, params, prepare=name in _REPEATED)


def value(conn: db.Connection, name: str, /, **params: Any) -> Any:
    """The first value of a named query, or None."""
    return db.fetch_value(conn, _QUERIES[name], params, prepare=name in _REPEATED)


def run(conn: db.Connection, name: str, /, **params: Any) -> int:
    """Run a named statement; the number of rows it touched."""
    return db.execute(conn, _QUERIES[name], params)


def run_on(conn: db.Connection, name: str, table: Identifier, /, **params: Any) -> int:
    """Run a named statement with the hole ``{table}``; the number of rows it touched."""
    return db.execute(conn, _QUERIES[name].format(table=table), params)


def bound(conn: db.Connection, name: str, /, holes: Mapping[str, SQL] | None = None, **params: Any) -> SQL:
    """A named statement with its parameters as literals, to be sent together with others.

    Args:
        conn: for the rules of its literals.
        name: of the statement.
        holes: queries for its holes, with parameters like its own.
        params: of all.
    """
    query = _QUERIES[name]
    return db.bound(conn, query.format(**holes) if holes else query, params)
