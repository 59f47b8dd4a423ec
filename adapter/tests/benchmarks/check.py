"""Whether what a method maintains is what the query says; a scenario whose result differs fails loudly."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.support import oracle

BY_ROWS = 50_000
"""Results up to this size are compared row by row by the tests' oracle, larger ones by fingerprints on the server."""


class WrongResult(AssertionError):
    """A method's result is not the query's."""


def assert_equal(conn: psycopg.Connection[Any], result: str, query: str, *, what: str) -> None:
    """Compare a stored result with its query.

    Args:
        conn: autocommit.
        result: selects the stored rows.
        query: the defining query.
        what: for the message.

    Raises:
        WrongResult: they differ.
    """
    stored, expected = _fingerprint(conn, result), _fingerprint(conn, query)
    if stored == expected:
        return
    found = f"{stored} against {expected}"
    if max(stored[0], expected[0]) <= BY_ROWS:
        difference = oracle.compare(conn, f"({result}) AS r", query, classes=_classes(conn, query))
        if difference is None:
            return
        found = difference
    raise WrongResult(f"{what} differs from its query: {found}")


def _fingerprint(conn: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    """Number of rows, and sums of two hashes of their texts: the same for the same multiset in any order."""
    row = conn.execute(
        "SELECT count(*), coalesce(sum(hashtextextended(q::text, 1)), 0),"
        " coalesce(sum(hashtextextended(q::text, 2)), 0)"
        f" FROM ({query}) AS q".encode(),
        prepare=False,
    ).fetchone()
    assert row is not None
    return row


def _classes(conn: psycopg.Connection[Any], query: str) -> dict[int, str]:
    cursor = conn.execute(f"SELECT * FROM ({query}) AS q LIMIT 0".encode(), prepare=False)
    return {place: oracle.EQUAL for place, column in enumerate(cursor.description or ()) if column.type_code == 1700}
