"""Connections of the engine."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import psycopg
from psycopg import generators
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier, Literal
from typing_extensions import LiteralString

from pgtrickle.db import refusals
from pgtrickle.db.errors import wrapped
from pgtrickle.errors import CatalogError, ConnectionFailed, StatementFailed

#: Where names that the engine writes are looked up: nobody else can create anything there. Of functions and operators
#: not the first one is taken but the one that matches best, so the user's schemas may not even come behind
#: (CVE-2018-1058).
SAFE_PATH = "pg_catalog, pg_temp"


def use_path(path: str) -> Composed:
    """The statement that makes a ``search_path`` the transaction's."""
    return SQL("SELECT pg_catalog.set_config('search_path', {}, true)").format(path)


USE_SAFE_PATH = use_path(SAFE_PATH)

_SESSION_PATH = SQL("SELECT pg_catalog.set_config('search_path', %s, false)")

#: What a role or a database carries for people at a prompt, and what would end or refuse work of ours. A limit on idle
#: transactions stays, for an engine that is stopped in the middle of one.
_PATIENT: Mapping[str, str] = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "600000",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}
#: Since which version of the server there is such a setting.
_SINCE: Mapping[str, int] = {"transaction_timeout": 170000}
_NAME = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


class Connection(psycopg.Connection[TupleRow]):
    """A connection of the engine.

    Attributes:
        user_path: the ``search_path`` that the user's names are looked up along; the session's own is `SAFE_PATH`.
        behind: a path that the transaction has instead, for text of the user's; None: it has the safe one.
        shared: other clients use the same backend between two transactions, so nothing can be set for the session.
        lent: the session's path is the user's, because the connection is out of our hands.
        start: what every transaction of a shared backend begins with, because nothing is set for the session.
        comment: put before every message, in SQL.
    """

    user_path: str = ""
    behind: str | None = None
    shared: bool = False
    lent: bool = False
    start: Composed = USE_SAFE_PATH
    comment: str = ""

    def converse(self, text: str) -> list[PGresult]:
        """Send a message of statements; the server's answers as they come, one per statement.

        What a cursor does beside takes as long as a short statement: it adapts values and has them turned into rows.

        Raises:
            psycopg.Error: the first error ended the message.
        """
        with self.lock:
            self.pgconn.send_query(f"{self.comment}{text}".encode())
            answers = self.wait(generators.execute(self.pgconn))
        if answers and answers[-1].status == ExecStatus.FATAL_ERROR:
            raise error_from_result(answers[-1])
        return answers

    def lend(self) -> None:
        """Give the session the user's path, for statements of the user's."""
        failed = self.info.transaction_status == TransactionStatus.INERROR
        if not (self.shared or self.lent or self.closed or failed):
            with wrapped():
                self.execute(_SESSION_PATH, (self.user_path,))
            self.lent = True

    def take_back(self) -> None:
        """Give the session the safe path again; what the user has made of the path meanwhile is kept."""
        if self.lent and not self.closed and self.info.transaction_status != TransactionStatus.INERROR:
            with wrapped():
                found = self.execute("SELECT pg_catalog.current_setting('search_path')").fetchone()
                self.user_path = self.user_path if found is None else found[0]
                self.execute(_SESSION_PATH, (SAFE_PATH,))
            self.lent = False

    def schemas(self) -> list[str]:
        """The schemas of ``user_path``, in order, as they are written; ``$user`` stands for the current role."""
        found = _NAME.finditer(self.user_path)
        return [one[1].replace('""', '"') if one[1] is not None else one[2].lower() for one in found]


#: The driver prepares by itself what was executed this often.
_ONLY_WHEN_ASKED = 2**31

#: "Cannot write in a read-only transaction": a standby; after a failover the same name leads to the new primary.
READ_ONLY = "25006"

_live: weakref.WeakSet[Connection] = weakref.WeakSet()

#: How long the server gets to hear that all statements are to be cancelled.
_CANCEL_SECONDS = 3.0

#: What ``deadlock_timeout`` is unless somebody changed it, milliseconds.
_USUAL_DEADLOCK_MS = 1000
_deadlock_ms: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()
#: Asked under a search_path that is not ours yet: no operator but one of text.
_START = SQL(
    "SELECT pg_catalog.pg_backend_pid(), s.setting::pg_catalog.int4, pg_catalog.current_setting('search_path')"
    " FROM pg_catalog.pg_settings AS s WHERE s.name = 'deadlock_timeout'"
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
    keywords.setdefault("fallback_application_name", application_name)
    # Definitions and names hold any character of the database's, whatever the encoding of the user's terminal.
    keywords["client_encoding"] = "UTF8"
    try:
        with wrapped():
            conn = _open(conninfo, keywords)
    except ConnectionFailed as error:
        refusals.explain(error)
        raise
    if query_comment:
        conn.comment = f"/* {query_comment.strip().replace('*/', '* /')} */ "
        conn.cursor_factory = _commenting(conn.comment)
    _live.add(conn)
    if role is not None:
        with wrapped(role):
            conn.execute(SQL("SET ROLE {}").format(Identifier(role)))
    _read_times(conn)
    _own_session(conn)
    return conn


#: A server whose host is gone says nothing. The system's defaults are to wait two hours for it, a quarter of an hour if
#: something was sent that it has not acknowledged, and psycopg's two minutes for a connection; of several hosts that
#: are tried in turn the first may be the one that is gone. In seconds, the last in milliseconds.
_IMPATIENT: Mapping[str, int] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def _open(conninfo: str, keywords: dict[str, Any]) -> Connection:
    """Of several hosts the one that can be written to, if there is one: after a failover the first may be a standby."""
    given = {**conninfo_to_dict(conninfo), **keywords}
    said = given.keys() | ({"connect_timeout"} if "PGCONNECT_TIMEOUT" in os.environ else set())
    keywords = {**{name: value for name, value in _IMPATIENT.items() if name not in said}, **keywords}
    several = "," in str(given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST", ""))
    chosen = "target_session_attrs" in given or "PGTARGETSESSIONATTRS" in os.environ
    if several and not chosen:
        with suppress(psycopg.OperationalError):
            wanted = {**keywords, "target_session_attrs": "read-write"}
            return Connection.connect(conninfo, autocommit=True, prepare_threshold=None, **wanted)
    return Connection.connect(conninfo, autocommit=True, prepare_threshold=None, **keywords)


def _own_session(conn: Connection) -> None:
    """Learn whether the session is ours. If so, plans may be kept in it, and its search_path is the safe one.

    Behind a pooler in transaction mode the next transaction may run in another backend, which knows nothing of what was
    prepared in this one. A pooler answers for its backends with a key of its own, so it does not tell their pid.
    """
    with wrapped():
        found = conn.execute(_START).fetchone()
        if found is None:
            return
        _deadlock_ms[conn] = found[1]
        conn.user_path = found[2]
        conn.shared = found[0] != conn.info.backend_pid
        known = [name for name in _PATIENT if conn.info.server_version >= _SINCE.get(name, 0)]
        if conn.shared:
            # What a transaction begins by can be set when it has begun.
            settings = {name: _PATIENT[name] for name in known if not name.startswith("default_")}
            conn.start = _set_all({"search_path": SAFE_PATH, **settings}, local=True)
        else:
            conn.prepare_threshold = _ONLY_WHEN_ASKED
            settings = {name: _PATIENT[name] for name in known}
            conn.execute(_set_all({"search_path": SAFE_PATH, **settings}, local=False))


def _set_all(settings: Mapping[str, str], *, local: bool) -> Composed:
    """One statement that sets all of these, for the transaction or the session."""
    calls = (
        SQL("pg_catalog.set_config({}, {}, {})").format(Literal(name), Literal(value), Literal(local))
        for name, value in settings.items()
    )
    return SQL("SELECT {}").format(SQL(", ").join(calls))


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


def _commenting(prefix: str) -> type[psycopg.Cursor[TupleRow]]:
    """A cursor class that puts a comment before what it executes."""

    class Commenting(psycopg.Cursor[TupleRow]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Commenting:
            text = prefix if params is None else prefix.replace("%", "%%")
            composed = SQL(cast(LiteralString, query)) if isinstance(query, str) else query
            super().execute(SQL(cast(LiteralString, text)) + composed, params, **options)
            return self

    return Commenting


def cancel_all() -> int:
    """Cancel what every live connection of this process is running, where a server answers; how many there were."""
    open_connections = [conn for conn in _live if not conn.closed]
    # A request to cancel goes over a connection of its own, and a host that is gone leaves that unanswered.
    asking = [threading.Thread(target=_cancel, args=(conn,), daemon=True) for conn in open_connections]
    for thread in asking:
        thread.start()
    end = time.monotonic() + _CANCEL_SECONDS
    for thread in asking:
        thread.join(max(0.0, end - time.monotonic()))
    return len(open_connections)


def _cancel(conn: Connection) -> None:
    with suppress(psycopg.Error):
        conn.cancel()


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
