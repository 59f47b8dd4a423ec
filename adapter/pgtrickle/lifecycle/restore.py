"""Databases that were restored, copied or upgraded: the catalog is bound to what is there now."""

from __future__ import annotations

import logging

from pgtrickle import db
from pgtrickle.catalog import installation, sources, stream_tables
from pgtrickle.lifecycle import storage
from pgtrickle.lifecycle.target import present_name

_log = logging.getLogger(__name__)


def rebind(conn: db.Connection) -> bool:
    """Bind the catalog to this database, if it was made in another one (hazards A10).

    OIDs and transaction ids that it holds mean nothing then. Tables are found again by their names; everything that was
    captured is forgotten, and the next refresh of each stream table compiles, captures and recomputes it.

    Args:
        conn: the engine's, not in a transaction.

    Returns:
        Whether something was done.

    Raises:
        CatalogError: it is still being restored.
        LockTimeout: refreshes or writers of change buffers were in the way.
    """
    if not installation.is_elsewhere(conn):
        return False

    def work() -> bool:
        if not installation.rebind(conn):
            return False
        for one in stream_tables.fetch_all(conn):
            if sources.dependents(conn, one.id) and present_name(conn, one.relid) is not None:
                for statement in storage.create_log(one.id, storage.fetch_columns(conn, one.relid)):
                    db.execute(conn, statement, object_name=one.name)
        return True

    done = db.under_lock_timeout(conn, work, object_name="pgtrickle")
    if done:
        _log.warning("the database was restored or copied: all stream tables are going to be recomputed")
    return done
