"""The engine's connections within a dbt process."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from dbt.adapters.events.logging import AdapterLogger
from dbt.adapters.exceptions.connection import FailedToConnectError
from dbt.adapters.postgres.connections import PostgresCredentials

from pgtrickle.api import PgTrickle
from pgtrickle.errors import ConnectionFailed

logger = AdapterLogger("PgTrickle")

#: libpq parameters that a dbt-postgres profile may set and that keep their name.
PASSED_ON = ("sslmode", "sslcert", "sslkey", "sslrootcert", "application_name", "connect_timeout", "keepalives_idle")


class EngineSessions:
    """One engine connection per thread: opened when first needed, closed with dbt's own."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[Hashable, PgTrickle] = {}

    def get(self, key: Hashable, connect: Callable[[], PgTrickle]) -> PgTrickle:
        """The session of a thread; ``connect`` is called if it has none."""
        with self._lock:
            session = self._open.get(key)
        if session is None:
            session = connect()
            with self._lock:
                self._open[key] = session
        return session

    def close(self, key: Hashable) -> None:
        """Close the session of a thread, if there is one."""
        with self._lock:
            session = self._open.pop(key, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """Close every session."""
        with self._lock:
            sessions = list(self._open.values())
            self._open.clear()
        for session in sessions:
            session.close()

    def cancel_others(self, key: Hashable) -> None:
        """Cancel what every other thread's session is doing; called from dbt's main thread on interruption."""
        with self._lock:
            others = [session for owner, session in self._open.items() if owner != key]
        for session in others:
            session.cancel()


def open_session(credentials: PostgresCredentials, query_comment: str | None = None) -> PgTrickle:
    """Connect the engine as dbt-postgres connects itself: same server, role, encryption and number of retries.

    Args:
        credentials: the profile's.
        query_comment: dbt's query comment, without its delimiters.

    Raises:
        FailedToConnectError: not even the last attempt succeeded.
    """
    attempt = 0
    while True:
        try:
            return PgTrickle.connect(
                role=_folded(credentials.role),
                initiated_by="dbt",
                query_comment=query_comment,
                **connection_parameters(credentials),
            )
        except ConnectionFailed as error:
            if attempt >= credentials.retries:
                raise FailedToConnectError(str(error)) from error
            logger.debug(f"The engine could not connect, trying again in {attempt * attempt} s: {error}")
            time.sleep(attempt * attempt)
            attempt += 1


def connection_parameters(credentials: PostgresCredentials) -> dict[str, Any]:
    """A profile as libpq parameters; what is not set is left to libpq."""
    given = {name: getattr(credentials, name) for name in PASSED_ON}
    parameters = {name: value for name, value in given.items() if value}
    parameters |= {
        "host": credentials.host,
        "port": credentials.port,
        "user": credentials.user,
        "password": credentials.password,
        "dbname": credentials.database,
    }
    if credentials.search_path:
        parameters["options"] = "-c search_path={}".format(credentials.search_path.replace(" ", "\\ "))
    return parameters


def _folded(role: str | None) -> str | None:
    """dbt-postgres sends ``set role <role>`` as it stands, so the server folds a role that is not quoted."""
    if not role:
        return None
    return role[1:-1].replace('""', '"') if role.startswith('"') else role.lower()
