"""What a role lacks: when the server refuses, the grants that are missing, all of them, as statements to be run.

The server names one object at a time. Who may grant is usually somebody else, and wants to be asked once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgtrickle import db
from pgtrickle.errors import PermissionDenied, PgTrickleError
from pgtrickle.lifecycle.target import QUERIES
from pgtrickle.parse.mentions import mentions

_log = logging.getLogger(__name__)


@contextmanager
def explained(conn: db.Connection, name: str | None, query: str | None) -> Iterator[None]:
    """Let refusals of the block say which grants are missing.

    Args:
        conn: the engine's.
        name: of the stream table.
        query: its defining query; None: that of the stream table of this name.
    """
    try:
        yield
    except PermissionDenied as error:
        if error.hint is None and not conn.closed and conn.info.transaction_status == conn.info.transaction_status.IDLE:
            grants = missing(conn, name, query)
            error.hint = "; ".join(grants) or None
        raise


def missing(conn: db.Connection, name: str | None, query: str | None) -> Sequence[str]:
    """The GRANTs that the current role lacks for a stream table, in the order in which they can be given.

    Looked up by the names in the text, because the server tells nothing about a query that it refuses to read. Views
    are followed to their tables, which refreshes read themselves.
    """
    lacking: list[str] = []
    try:
        if query is None and name is not None:
            query = db.fetch_value(conn, QUERIES["query_by_name"], {"name": name, "path": conn.schemas()})
        relations, functions = mentions(query) if query is not None else ((), ())
        params = {
            "relations": [one[1] for one in relations],
            "relation_schemas": [one[0] for one in relations],
            "functions": [one[1] for one in functions],
            "function_schemas": [one[0] for one in functions],
            "path": conn.schemas(),
            "name": name,
        }
        lacking = [row["grant"] for row in db.fetch_all(conn, QUERIES["missing_grants"], dict, params)]
    except PgTrickleError as error:
        # The refusal itself is what has to be told; this is only about how to help it.
        _log.debug("what privileges are missing cannot be told: %s", error)
    return lacking
