"""The demo's own PostgreSQL 18: started for it, stopped with it unless it is to be kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.sql import SQL, Identifier

from tests.support.servers import EMBEDDED_MAJOR, Server, ServerFailed, ServerUnavailable, start

__all__ = ["DATABASE", "Server", "ServerFailed", "ServerUnavailable", "running"]

DATABASE = "flights"

#: Nothing that a production server would not have: commits are durable, so that the times mean something.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "work_mem": "32MB",
    "max_wal_size": "4GB",
}


@contextmanager
def running(*, keep: bool) -> Iterator[Server]:
    """A server with an empty database ``flights``.

    Args:
        keep: leave it running afterwards, even if this process dies.
    """
    server = start(EMBEDDED_MAJOR, settings=SETTINGS, detached=keep)
    try:
        with server.connect() as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(DATABASE)))
        yield server
    finally:
        if not keep:
            server.stop()
