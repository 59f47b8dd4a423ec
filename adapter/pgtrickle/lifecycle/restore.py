"""Databases that were restored, copied or upgraded: the catalog is bound to what is there now."""

from __future__ import annotations

import logging

from pgtrickle import capture, db
from pgtrickle.catalog import installation, sources, stream_tables, structure
from pgtrickle.errors import CatalogError
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


def recover(conn: db.Connection) -> None:
    """Deal with a catalog that does not know its version: a dump without the rows of our tables was restored.

    Nothing that it knew can be had back, and its triggers fill buffers that nobody reads. So it goes, and what were
    stream tables are ordinary tables from then on. If only the version is lost, it is what the structure says.

    Args:
        conn: the engine's, not in a transaction.

    Raises:
        CatalogError: the database is being restored; or something is registered, in a catalog of another version.
        DependentsExist: somebody's view reads our tables; nothing was done.
        LockTimeout: a source stayed locked; to be called again.
    """
    if not installation.is_silent(conn):
        return
    installation.refuse_restoring(conn)
    if installation.has_rows(conn):
        if any(damage.kind != "stray" for damage in structure.damages(conn)):
            raise CatalogError(
                "nobody knows which version the catalog has",
                object_name="pgtrickle.schema_migrations",
                detail="It has no rows, and the other tables are not those of this version.",
                hint="Restore the rows of this table from a backup.",
            )
        installation.record_version(conn)
        _log.warning("pgtrickle.schema_migrations had no rows: the catalog has the structure of this version")
        return
    names = capture.clear(conn)
    _log.warning("the database was restored without the catalog's rows: the catalog begins anew")
    if names:
        _log.warning("these were stream tables and are ordinary tables now: %s", ", ".join(names))
