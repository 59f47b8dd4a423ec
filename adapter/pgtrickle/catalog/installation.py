"""Installing and migrating the schema ``pgtrickle``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL

import pgtrickle
from pgtrickle import db
from pgtrickle.catalog import access
from pgtrickle.catalog.model import Installation
from pgtrickle.errors import CatalogError, PermissionDenied

if TYPE_CHECKING:
    from typing_extensions import LiteralString

_FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_INSTALL_HINT = "Run `pgtrickle init`, or PgTrickle.install()."

# Two first installs have no row to lock yet. The number spells "pgtrickl".
_LOCK = SQL("SELECT pg_catalog.pg_advisory_xact_lock(8099849053226721132)")
_SCHEMA_OID = SQL("SELECT pg_catalog.to_regnamespace('pgtrickle')::oid")
_MIGRATIONS_OID = SQL("SELECT pg_catalog.to_regclass('pgtrickle.schema_migrations')::oid")
_TABLES = SQL(
    "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'pgtrickle' AND c.relkind = 'r'"
)
_BOOTSTRAP = (
    SQL("CREATE SCHEMA pgtrickle"),
    # Default privileges may have opened it: errors that are kept here can quote rows.
    SQL("""DO $$ DECLARE statement text; BEGIN
        FOR statement IN
            SELECT pg_catalog.format('REVOKE ALL ON SCHEMA pgtrickle FROM %s', CASE a.grantee WHEN 0 THEN 'PUBLIC'
                                     ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
            FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
            WHERE n.nspname = 'pgtrickle' AND a.grantee <> n.nspowner
        LOOP EXECUTE statement; END LOOP; END $$"""),
    SQL(
        "CREATE TABLE pgtrickle.schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT pg_catalog.now())"
    ),
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the catalog's history."""

    version: int
    name: str
    script: SQL


@cache
def migrations() -> tuple[Migration, ...]:
    """The migrations that this engine knows, in order."""
    found = []
    for file in files("pgtrickle.catalog").joinpath("migrations").iterdir():
        if match := _FILE_NAME.match(file.name):
            text = cast("LiteralString", file.read_text(encoding="utf-8"))
            found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), SQL(text)))
    return tuple(sorted(found, key=lambda migration: migration.version))


def known_version() -> int:
    """The version of the catalog that this engine works with."""
    return migrations()[-1].version


def _applied(conn: db.Connection) -> int | None:
    """The catalog's version; 0 if nothing is installed, None if the schema is somebody else's.

    Raises:
        CatalogError: it has one, but does not say so any more.
    """
    if db.fetch_value(conn, _MIGRATIONS_OID) is None:
        return 0 if db.fetch_value(conn, _SCHEMA_OID) is None else None
    version = access.value(conn, "catalog_version")
    if version == 0:
        raise CatalogError(
            "the catalog has lost its rows",
            object_name="pgtrickle.schema_migrations",
            detail="The database was restored without the data of our tables, or is being restored.",
            hint="When it is restored, run `pgtrickle init`: it begins anew where nothing is left to be kept.",
        )
    return version


def is_silent(conn: db.Connection) -> bool:
    """Whether there is a catalog that does not say its version: restored without rows, or damaged."""
    return db.fetch_value(conn, _MIGRATIONS_OID) is not None and access.value(conn, "catalog_version") == 0


def has_rows(conn: db.Connection) -> bool:
    """Whether anything is registered in a catalog, whatever its version."""
    return db.fetch_value(
        conn, SQL("SELECT EXISTS (SELECT FROM pgtrickle.stream_tables) OR EXISTS (SELECT FROM pgtrickle.sources)")
    )


def record_version(conn: db.Connection) -> None:
    """Say again that all migrations were applied."""
    with db.transaction(conn):
        for migration in migrations():
            access.run(conn, "record_migration", version=migration.version, name=migration.name)


def refuse_restoring(conn: db.Connection) -> None:
    """Raise while the database is being restored: what is not there yet would be taken for dropped.

    Raises:
        CatalogError: it is.
    """
    if access.value(conn, "is_being_restored"):
        error = CatalogError(
            "the database is being restored",
            object_name="pgtrickle",
            detail="There are no constraints yet, or pg_restore is at work.",
            hint="Wait for the end of it; nothing else has to be done.",
        )
        # "Cannot connect now": it passes by itself.
        error.sqlstate = "57P03"
        raise error


def _refuse_newer(applied: int) -> None:
    known = known_version()
    if applied > known:
        raise CatalogError(
            f"the catalog has version {applied}, this engine knows {known}",
            object_name="pgtrickle",
            hint="Upgrade dbt-pgtrickle here to the version that other hosts use.",
        )


def install(conn: db.Connection, *, buffer_limit_bytes: int | None = None) -> tuple[str, ...]:
    """Create the catalog, or bring it to this engine's version. Safe to run concurrently and repeatedly.

    Args:
        conn: not in a transaction.
        buffer_limit_bytes: size from which on a change buffer only keeps marks; None keeps what is set.

    Returns:
        Names of the migrations that were applied; empty if there was nothing to do.

    Raises:
        CatalogError: the extension pg_trickle is installed, the catalog is newer than this engine, or a schema
            ``pgtrickle`` exists that is not ours.
        PermissionDenied: the role may not create schemas in this database.
        LockTimeout: somebody kept using what has to change; the detail names pid and query. Nothing was changed.
    """
    db.refuse_extension(conn)
    tables = [row["oid"] for row in db.fetch_all(conn, _TABLES, dict)]
    # Refreshes read and write what a migration changes: none of them waits for it longer than the lock_timeout.
    with _explained(conn):
        return db.under_lock_timeout(
            conn, lambda: _install(conn, buffer_limit_bytes), relids=tables, object_name="pgtrickle"
        )


def _install(conn: db.Connection, buffer_limit_bytes: int | None) -> tuple[str, ...]:
    """All or nothing, in one transaction."""
    db.execute(conn, _LOCK)
    applied = _applied(conn)
    if applied is None:
        raise CatalogError(
            "a schema pgtrickle exists, but it is not ours",
            object_name="pgtrickle",
            hint="Rename or drop that schema, or use another database.",
        )
    _refuse_newer(applied)
    missing = tuple(migration for migration in migrations() if migration.version > applied)
    for statement in () if applied else _BOOTSTRAP:
        db.execute(conn, statement)
    for migration in missing:
        db.execute(conn, migration.script, object_name=migration.name)
        access.run(conn, "record_migration", version=migration.version, name=migration.name)
    access.run(conn, "record_installation", engine_version=pgtrickle.__version__, limit=buffer_limit_bytes)
    access.run(conn, "plant_canary")
    return tuple(migration.name for migration in missing)


@contextmanager
def _explained(conn: db.Connection) -> Iterator[None]:
    try:
        yield
    except PermissionDenied as error:
        error.hint = error.hint or access.value(conn, "missing_create")
        raise


def check(conn: db.Connection) -> Installation:
    """The installation, provided that this engine can work with it.

    Raises:
        CatalogError: not installed, older (run ``pgtrickle init``) or newer than this engine.
    """
    applied = _applied(conn)
    if not applied:
        db.refuse_extension(conn)
        raise CatalogError("pgtrickle is not installed in this database", object_name="pgtrickle", hint=_INSTALL_HINT)
    _refuse_newer(applied)
    if applied < known_version():
        raise CatalogError(
            f"the catalog has version {applied}, this engine needs {known_version()}",
            object_name="pgtrickle",
            hint=_INSTALL_HINT,
        )
    found = fetch(conn)
    if found is None:
        raise CatalogError("pgtrickle.installation is empty", object_name="pgtrickle", hint=_INSTALL_HINT)
    return found


def is_elsewhere(conn: db.Connection) -> bool:
    """Whether the catalog was made in another database: restored from a dump, copied, or upgraded by pg_upgrade."""
    return access.value(conn, "is_elsewhere")


def rebind(conn: db.Connection) -> bool:
    """Bind a catalog that was made elsewhere to this database, by names; inside a transaction.

    Returns:
        False if there was nothing to do (any more).

    Raises:
        CatalogError: it is still being restored; what is not there yet would be taken for dropped.
    """
    refuse_restoring(conn)
    return access.value(conn, "rebind")


def fetch(conn: db.Connection) -> Installation | None:
    """The installation row, without any check."""
    return access.row(conn, "fetch_installation", Installation)


def hand_over(conn: db.Connection) -> None:
    """Give buffers, state and trigger functions that this role has just made to the engine's role."""
    db.execute(conn, handing_over(conn))


def handing_over(conn: db.Connection) -> SQL:
    """The statement of `hand_over`."""
    return access.bound(conn, "hand_over")
