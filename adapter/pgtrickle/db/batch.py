"""Several statements in one message: one round trip, also through PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from psycopg import Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, dict_row
from psycopg.sql import SQL, Composable

from pgtrickle.db.connection import Connection
from pgtrickle.db.errors import wrapped

Row = TypeVar("Row")


def batch(
    conn: Connection, statements: Sequence[Composable], row: type[Row], *, object_name: str | None = None
) -> tuple[Row, ...]:
    """Send statements by the simple protocol; the rows of the last one.

    They have no parameters (values are literals) and may contain COMMIT; if they begin with BEGIN, they see to the
    search_path themselves. The first error ends the batch; a transaction that it opened stays open and aborted.

    Args:
        conn: an autocommit connection.
        statements: at least one.
        row: what a row of the last statement becomes (its fields are the columns); ``dict`` works.
        object_name: for errors.
    """
    if conn.shared and conn.info.transaction_status == TransactionStatus.IDLE and not _begins(statements[0]):
        statements = [conn.start, *statements]
    with wrapped(object_name), conn.cursor(row_factory=class_row(row)) as cursor:
        cursor.execute(SQL(";\n").join(statements))
        while cursor.nextset():
            pass
        return tuple(cursor.fetchall()) if _has_rows(cursor) else ()


def tell(conn: Connection, statements: Sequence[Composable], *, object_name: str | None = None) -> list[str | None]:
    """As `batch` inside a transaction, or if they begin with BEGIN; the last statement's first row as text.

    Args:
        conn: whose session is ours, or which is inside a transaction.
        statements: at least one.
        object_name: for errors.

    Returns:
        Its values as the server writes them; nothing if there is no row.
    """
    text = ";\n".join([one.as_string(conn) for one in statements])
    with wrapped(object_name):
        answer = conn.converse(text)[-1]
    if answer.ntuples == 0:
        return []
    return [None if (value := answer.get_value(0, i)) is None else value.decode() for i in range(answer.nfields)]


def _begins(statement: Composable) -> bool:
    return statement.as_string(None).startswith("BEGIN")


def batch_sets(
    conn: Connection, statements: Sequence[Composable], *, object_name: str | None = None
) -> list[list[dict[str, Any]]]:
    """As `batch`, but the rows of every statement: one list per statement, empty where it returns none.

    Outside a transaction they begin with BEGIN and see to the search_path themselves.
    """
    with wrapped(object_name), conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(SQL(";\n").join(statements))
        sets = [cursor.fetchall() if _has_rows(cursor) else []]
        while cursor.nextset():
            sets.append(cursor.fetchall() if _has_rows(cursor) else [])
        return sets


def _has_rows(cursor: Cursor[Any]) -> bool:
    # The cursor's own description is made anew, column by column, each time it is asked for.
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0
