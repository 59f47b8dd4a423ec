"""Let the server read the defining query: names resolved, stars expanded, casts explicit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.analyze.relations import View, open_view
from pgtrickle.errors import InvalidQuery, PgTrickleError, StatementFailed
from pgtrickle.parse.scope import SYSTEM_COLUMNS
from pgtrickle.sql import load_queries

if TYPE_CHECKING:
    from typing_extensions import LiteralString

_QUERIES = load_queries("pgtrickle.analyze")

#: Settings that change what a query returns; they are recorded at creation and set for every refresh.
PINNED_SETTINGS = (
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "extra_float_digits",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "bytea_output",
    "default_text_search_config",
    "search_path",
    "xmlbinary",
    "xmloption",
    "array_nulls",
    "standard_conforming_strings",
    "quote_all_identifiers",
    "transform_null_equals",
    "backslash_quote",
)


@dataclass(frozen=True, slots=True)
class ProbeColumn:
    """An output column of the defining query; the collation is given where it is not the type's own."""

    name: str
    type_oid: int
    typmod: int
    collation_oid: int
    collation_schema: str | None
    collation_name: str | None


@dataclass(frozen=True, slots=True)
class Probe:
    """What the server says about a query."""

    canonical: str
    view: View
    columns: tuple[ProbeColumn, ...]


def pinned_settings(conn: db.Connection) -> Mapping[str, str]:
    """The settings that belong to a query: the transaction's; where the search_path is ours, the user's instead."""
    rows = db.fetch_all(conn, _QUERIES["pinned_settings"], dict, {"names": list(PINNED_SETTINGS)})
    found = {row["name"]: row["setting"] for row in rows}
    if conn.behind is not None:
        found["search_path"] = conn.behind
    elif found["search_path"] == db.SAFE_PATH:
        found["search_path"] = conn.user_path
    return found


@contextmanager
def rolled_back(conn: db.Connection) -> Iterator[None]:
    """A transaction (or savepoint) that leaves nothing behind; the search_path is undone with it."""
    before = conn.behind
    try:
        with db.wrapped(), conn.transaction(force_rollback=True):
            yield
    finally:
        conn.behind = before


def probe(conn: db.Connection, query: str, name: str, *, catalog_path: bool) -> Probe:
    """Read a query as a temporary view.

    Args:
        conn: inside a transaction that will be rolled back.
        query: the text of one SELECT.
        name: of the view.
        catalog_path: set search_path to pg_catalog for reading it (and everything after).

    Raises:
        InvalidQuery: PostgreSQL refuses it.
    """
    text = query.strip().rstrip(";")
    create = SQL("CREATE TEMPORARY VIEW {} AS ").format(SQL(cast("LiteralString", name)))
    try:
        # No parameters are passed, so percent signs in the user's text need no doubling.
        with db.wrapped(), conn.transaction():
            conn.execute(create + SQL(cast("LiteralString", text + "\n")))
    except StatementFailed as error:
        if db.passes(error):
            raise
        raise _refused(error) from error
    if catalog_path:
        with db.wrapped():
            conn.execute(db.use_path("pg_catalog"))
        conn.behind = None
    relid = db.fetch_value(conn, SQL("SELECT {}::pg_catalog.regclass::pg_catalog.oid").format("pg_temp." + name))
    columns = db.fetch_all(conn, _QUERIES["view_columns"], ProbeColumn, {"relid": relid})
    if not columns:
        raise InvalidQuery("the defining query has no columns", hint="Select at least one column.")
    _refuse_names(columns)
    view = open_view(conn, relid)
    return Probe(view.text, view, columns)


def _refuse_names(columns: tuple[ProbeColumn, ...]) -> None:
    """A view may have a column called tableoid, a table may not."""
    for column in columns:
        if column.name in SYSTEM_COLUMNS:
            raise InvalidQuery(
                f"no table can have a column called {column.name}",
                clause=column.name,
                hint=f"Give it a name of its own with AS: {column.name} AS source_{column.name}.",
            )


def _refused(error: PgTrickleError) -> InvalidQuery:
    hint = error.hint
    if error.sqlstate == "42701":
        hint = "Give every output column a name of its own with AS."
    refused = InvalidQuery(f"PostgreSQL refuses the defining query: {error.message}", detail=error.detail, hint=hint)
    refused.sqlstate = error.sqlstate
    return refused
