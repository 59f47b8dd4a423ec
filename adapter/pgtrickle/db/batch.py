"""Several statements in one message: one round trip, also through PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from psycopg.rows import class_row
from psycopg.sql import SQL, Composable

from pgtrickle.db.connection import Connection
from pgtrickle.db.errors import wrapped

Row = TypeVar("Row")


def batch(
    conn: Connection, statements: Sequence[Composable], row: type[Row], *, object_name: str | None = None
) -> tuple[Row, ...]:
    """Send statements by the simple protocol; the rows of the last one.

    They have no parameters (values are literals) and may contain BEGIN and COMMIT. The first error ends the batch; a
    transaction that it opened stays open and aborted.

    Args:
        conn: an autocommit connection.
        statements: at least one.
        row: what a row of the last statement becomes (its fields are the columns); ``dict`` works.
        object_name: for errors.
    """
    with wrapped(object_name), conn.cursor(row_factory=class_row(row)) as cursor:
        cursor.execute(SQL(";\n").join(statements))
        while cursor.nextset():
            pass
        return tuple(cursor.fetchall()) if cursor.description else ()
