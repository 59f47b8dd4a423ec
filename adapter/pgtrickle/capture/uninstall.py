"""Leaving a database without a trace."""

from __future__ import annotations

from pgtrickle import db


def uninstall(conn: db.Connection, *, drop_stream_tables: bool = False, policy: db.LockPolicy | None = None) -> None:
    """Remove triggers, functions, buffers, state and the catalog.

    Stream tables become ordinary tables with their present content, or are dropped (never with CASCADE) if asked.
    Safe to repeat after a LockTimeout: what is removed is removed.
    """
    raise NotImplementedError
