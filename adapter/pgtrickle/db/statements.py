"""Running statements and transactions, with errors of this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from psycopg import ClientCursor, Cursor, IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed

from pgtrickle.db.connection import USE_SAFE_PATH, Connection, use_path
from pgtrickle.db.errors import wrapped

if TYPE_CHECKING:
    from typing_extensions import LiteralString

Query: TypeAlias = SQL | Composed
Params: TypeAlias = Mapping[str, Any] | Sequence[Any] | None
Row = TypeVar("Row")


def _run(
    conn: Connection, cursor: Cursor[Any], query: Query, params: Params, *, prepare: bool = False, alone: bool = False
) -> None:
    """Execute a statement of ours; where the search_path is not the safe one, together with that."""
    status = conn.info.transaction_status
    if conn.shared and status == TransactionStatus.IDLE and not alone:
        # Up to the end of the pipeline it is one transaction.
        with conn.pipeline():
            conn.execute(conn.start)
            cursor.execute(query, params, prepare=prepare)
    elif conn.behind is not None and status == TransactionStatus.INTRANS:
        with conn.pipeline():
            conn.execute(USE_SAFE_PATH)
            cursor.execute(query, params, prepare=prepare)
            conn.execute(use_path(conn.behind))
    else:
        cursor.execute(query, params, prepare=prepare)


def execute(
    conn: Connection, query: Query, params: Params = None, *, object_name: str | None = None, alone: bool = False
) -> int:
    """Run one statement; the number of rows it reports (-1 where it reports none).

    ``alone``: it is one that may not be part of a transaction, and writes all its names in full.
    """
    with wrapped(object_name), conn.cursor() as cursor:
        _run(conn, cursor, query, params, alone=alone)
        return cursor.rowcount


def bound(conn: Connection, query: Query, params: Params) -> SQL:
    """A statement with its parameters as literals, for messages of several statements, which have no parameters."""
    with wrapped():
        return SQL(cast("LiteralString", ClientCursor(conn).mogrify(query, params)))


def fetch_all(
    conn: Connection,
    query: Query,
    row: type[Row],
    params: Params = None,
    *,
    object_name: str | None = None,
    prepare: bool = False,
) -> tuple[Row, ...]:
    """The rows of a query as values of ``row``, whose fields are the columns by name (``dict`` and ``tuple`` work).

    Args:
        conn: any connection.
        query: one statement.
        row: what a row becomes.
        params: its parameters.
        object_name: for errors.
        prepare: keep its plan for the session, where the session is ours (`Connection`s through poolers have none).
    """
    with wrapped(object_name), conn.cursor(row_factory=class_row(row)) as cursor:
        _run(conn, cursor, query, params, prepare=prepare)
        return tuple(cursor.fetchall())


def fetch_one(
    conn: Connection,
    query: Query,
    row: type[Row],
    params: Params = None,
    *,
    object_name: str | None = None,
    prepare: bool = False,
) -> Row | None:
    """The first row of a query, or None; arguments as for `fetch_all`."""
    rows = fetch_all(conn, query, row, params, object_name=object_name, prepare=prepare)
    return rows[0] if rows else None


def fetch_value(
    conn: Connection,
    query: Query,
    params: Params = None,
    *,
    object_name: str | None = None,
    prepare: bool = False,
    alone: bool = False,
) -> Any:
    """The first column of the first row of a query, or None; arguments as for `fetch_all` and `execute`."""
    with wrapped(object_name), conn.cursor() as cursor:
        _run(conn, cursor, query, params, prepare=prepare, alone=alone)
        found = cursor.fetchone()
    return None if found is None else found[0]


@contextmanager
def transaction(conn: Connection, *, repeatable_read: bool = False, object_name: str | None = None) -> Iterator[None]:
    """A transaction (a savepoint, if there is one already); commits, or rolls back on any exception.

    Driver errors of the block and of COMMIT itself come out as errors of this package.

    Args:
        conn: an autocommit connection.
        repeatable_read: begin at REPEATABLE READ instead of READ COMMITTED, whatever the session's default.
        object_name: for errors.
    """
    before, behind = conn.isolation_level, conn.behind
    level = IsolationLevel.REPEATABLE_READ if repeatable_read else IsolationLevel.READ_COMMITTED
    with wrapped(object_name):
        outermost = conn.info.transaction_status == TransactionStatus.IDLE
        if outermost:
            conn.isolation_level = level
        try:
            with conn.transaction():
                if outermost and conn.shared:
                    conn.execute(conn.start)
                yield
        except BaseException:
            conn.behind = behind
            raise
        finally:
            conn.behind = None if outermost else conn.behind
            if outermost and not conn.closed:
                conn.isolation_level = before
