"""Connections: dbt's own (psycopg2, from dbt-postgres) and, beside it, one of the engine (psycopg 3) per thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from typing import Any, cast

from dbt.adapters.contracts.connection import AdapterRequiredConfig
from dbt.adapters.pgtrickle.sessions import EngineSessions, open_session
from dbt.adapters.postgres.connections import PostgresConnectionManager, PostgresCredentials

from pgtrickle.api import PgTrickle


@dataclass
class PgTrickleCredentials(PostgresCredentials):
    """The keys of a dbt-postgres profile; the engine connects with the same ones."""

    @property
    def type(self) -> str:
        """The adapter's name in profiles."""
        return "pgtrickle"


class PgTrickleConnectionManager(PostgresConnectionManager):
    """dbt-postgres' connections, with the engine's sessions sharing their life."""

    TYPE = "pgtrickle"

    def __init__(self, profile: AdapterRequiredConfig, mp_context: SpawnContext) -> None:
        super().__init__(profile, mp_context)
        self.sessions = EngineSessions()

    def engine(self) -> PgTrickle:
        """This thread's engine session, opened when it is first needed."""
        credentials = cast("PgTrickleCredentials", self.profile.credentials)
        return self.sessions.get(self.get_thread_identifier(), lambda: open_session(credentials, self._query_comment()))

    def end_transaction(self) -> None:
        """Commit what dbt has begun on this thread, so that none of its locks can block the engine.

        dbt's own COMMIT is a statement: the driver goes on believing that it is inside a transaction and sends no
        further BEGIN. The driver's commit leaves both sides agreed, so that what follows is a transaction again.
        """
        connection = self.get_if_exists()
        handle = self._open_handle()
        if connection is not None and handle is not None:
            handle.commit()
            connection.transaction_open = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Statements on dbt's connection that count all or not at all, also with the profile's ``autocommit``."""
        self.end_transaction()
        explicit = cast("PgTrickleCredentials", self.profile.credentials).autocommit is True
        if explicit:
            self.add_query("BEGIN", auto_begin=False)
        finished = False
        try:
            yield
            finished = True
        finally:
            if explicit:
                self.add_query("COMMIT" if finished else "ROLLBACK", auto_begin=False)
            elif finished:
                self.end_transaction()
            else:
                self.rollback_if_open()

    def backend_pid(self) -> int | None:
        """The server process of dbt's connection on this thread, if it is open."""
        handle = self._open_handle()
        return None if handle is None else int(handle.get_backend_pid())

    def release(self) -> None:
        """Close this thread's connections, dbt's and the engine's."""
        self.sessions.close(self.get_thread_identifier())
        super().release()

    def cancel_open(self) -> list[str] | None:
        """Cancel what other threads are running, the engine's statements first: dbt waits for them."""
        self.sessions.cancel_others(self.get_thread_identifier())
        names: list[str] | None = super().cancel_open()
        return names

    def cleanup_all(self) -> None:
        """Close every connection of every thread."""
        self.sessions.close_all()
        super().cleanup_all()

    def _open_handle(self) -> Any:
        """The driver's connection of this thread; None if dbt has not opened it."""
        connection = self.get_if_exists()
        return None if connection is None or connection.state != "open" else connection.handle

    def _query_comment(self) -> str | None:
        """The comment that dbt puts on the statements of the node at work, as the project configures it."""
        return self.query_header.comment.query_comment if self.query_header is not None else None
