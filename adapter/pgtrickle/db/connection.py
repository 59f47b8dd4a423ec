"""Connections of the engine."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier
from typing_extensions import LiteralString

from pgtrickle.db.errors import wrapped
from pgtrickle.errors import CatalogError, StatementFailed

Connection: TypeAlias = psycopg.Connection[TupleRow]

#: The driver prepares by itself what was executed this often.
_ONLY_WHEN_ASKED = 2**31

#: "Cannot write in a read-only transaction": a standby; after a failover the same name leads to the new primary.
READ_ONLY = "25006"

_live: weakref.WeakSet[Connection] = weakref.WeakSet()

#: What ``deadlock_timeout`` is unless somebody changed it, milliseconds.
_USUAL_DEADLOCK_MS = 1000
_deadlock_ms: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()
_START = SQL(
    "SELECT pg_catalog.pg_backend_pid(), (1000 * extract(epoch FROM pg_catalog.current_setting("
    "'deadlock_timeout')::pg_catalog.interval))::pg_catalog.int4"
)


def connect(
    params: str | Mapping[str, Any],
    *,
    role: str | None = None,
    application_name: str = "pgtrickle",
    query_comment: str | None = None,
) -> Connection:
    """Open a connection of the engine: autocommit, nothing prepared behind our back, no start-up options.

    Such a connection also works through PgBouncer in transaction mode (but a role does not stay set there).

    Args:
        params: a libpq connection string or URI, or its keywords as a mapping.
        role: role to ``SET ROLE`` to.
        application_name: shown in ``pg_stat_activity``, unless ``params`` has one.
        query_comment: put before every statement, as dbt's query comment is.

    Raises:
        ConnectionFailed: the server cannot be reached or refuses us.
    """
    conninfo, keywords = (params, {}) if isinstance(params, str) else ("", dict(params))
    with wrapped():
        keywords.setdefault("fallback_application_name", application_name)
        conn = _open(conninfo, keywords)
    if query_comment:
        conn.cursor_factory = _commenting(query_comment)
    _live.add(conn)
    if role is not None:
        with wrapped(role):
            conn.execute(SQL("SET ROLE {}").format(Identifier(role)))
    _read_times(conn)
    _keep_plans(conn)
    return conn


def _open(conninfo: str, keywords: dict[str, Any]) -> Connection:
    """Of several hosts the one that can be written to, if there is one: after a failover the first may be a standby."""
    given = {**conninfo_to_dict(conninfo), **keywords}
    several = "," in str(given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST", ""))
    chosen = "target_session_attrs" in given or "PGTARGETSESSIONATTRS" in os.environ
    if several and not chosen:
        with suppress(psycopg.OperationalError):
            wanted = {**keywords, "target_session_attrs": "read-write"}
            return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None, **wanted)
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None, **keywords)


def is_ours(conn: Connection) -> bool:
    """Whether all transactions of a connection of `connect` come to one backend, which knows what was before."""
    return conn.prepare_threshold is not None


def _keep_plans(conn: Connection) -> None:
    """Let statements be prepared where they ask for it, if the session is ours.

    Behind a pooler in transaction mode the next transaction may run in another backend, which knows nothing of what was
    prepared in this one. A pooler answers for its backends with a key of its own, so it does not tell their pid.
    """
    with wrapped():
        found = conn.execute(_START).fetchone()
    if found is None:
        return
    _deadlock_ms[conn] = found[1]
    if found[0] == conn.info.backend_pid:
        conn.prepare_threshold = _ONLY_WHEN_ASKED


def shorter_than_deadlocks(conn: Connection, milliseconds: int) -> int:
    """How long to wait for a lock, so that it is never somebody else whom the server ends for a deadlock with us.

    PostgreSQL ends the one that finds out, which is whoever has waited for ``deadlock_timeout``: an application that
    truncates what we read, if it began to wait after us. So we give up before it can find out, and begin again.

    Args:
        conn: of ours.
        milliseconds: the longest wait.
    """
    return max(1, min(milliseconds, _deadlock_ms.get(conn, _USUAL_DEADLOCK_MS) // 2))


def _read_times(conn: Connection) -> None:
    """The driver reads times in one style only; the order of day and month stays as it is."""
    with wrapped():
        if not (conn.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
            conn.execute(SQL("SET DateStyle = 'ISO'"))
        if (conn.info.parameter_status("IntervalStyle") or "postgres") != "postgres":
            conn.execute(SQL("SET IntervalStyle = 'postgres'"))


def _commenting(comment: str) -> type[psycopg.Cursor[TupleRow]]:
    """A cursor class that puts a comment before what it executes."""
    prefix = "/* {} */ ".format(comment.strip().replace("*/", "* /"))

    class Commenting(psycopg.Cursor[TupleRow]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Commenting:
            text = prefix if params is None else prefix.replace("%", "%%")
            composed = SQL(cast(LiteralString, query)) if isinstance(query, str) else query
            super().execute(SQL(cast(LiteralString, text)) + composed, params, **options)
            return self

    return Commenting


def cancel_all() -> int:
    """Cancel what every live connection of this process is running; how many there were."""
    open_connections = [conn for conn in _live if not conn.closed]
    for conn in open_connections:
        with wrapped():
            conn.cancel()
    return len(open_connections)


def refuse_read_only(conn: Connection) -> None:
    """Raise if nothing can be written here.

    Raises:
        StatementFailed: the server is a standby, or the role or database is read-only by default.
    """
    with wrapped():
        found = conn.execute(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')"
        ).fetchone()
    if found is None or found == (False, "off"):
        return
    error = StatementFailed(
        "the server is a standby" if found[0] else "transactions are read-only here",
        detail=None if found[0] else "default_transaction_read_only is on.",
        hint="Name all hosts in the connection string, so that whichever is the primary is found."
        if found[0]
        else "See ALTER ROLE .. SET and ALTER DATABASE .. SET.",
    )
    error.sqlstate = READ_ONLY
    raise error


def refuse_extension(conn: Connection) -> None:
    """Raise if the extension pg_trickle is installed: both would use the schema ``pgtrickle``.

    Raises:
        CatalogError: it is.
    """
    with wrapped("pg_trickle"):
        found = conn.execute("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_trickle'").fetchone()
    if found is not None:
        raise CatalogError(
            f"the extension pg_trickle {found[0]} is installed in this database",
            object_name="pg_trickle",
            detail="dbt-pgtrickle and the extension both own the schema pgtrickle.",
            hint="Use another database, or DROP EXTENSION pg_trickle first.",
        )
