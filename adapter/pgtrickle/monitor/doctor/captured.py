"""What has to be looked at with the eyes of who installs capture: triggers, functions, change buffers, privileges."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg.sql import SQL

from pgtrickle import capture, db
from pgtrickle.catalog import sources
from pgtrickle.catalog.model import Source
from pgtrickle.errors import CatalogError, PermissionDenied, StatementFailed
from pgtrickle.monitor.doctor.checks import BLIND, Check, Diagnosis, judge

_INCOMPLETE = Check(
    "capture_incomplete",
    "ERROR",
    "changes are not captured as they should be: {detail}",
    "pgtrickle doctor --fix",
    "settle",
)
_OUTDATED = Check(
    "capture_outdated",
    "WARNING",
    "its capture is not as this engine would install it: {detail}",
    "pgtrickle doctor --fix",
    "settle",
)
_DENIED = Check("source_privileges", "ERROR", "the engine may not capture its changes: {detail}", "{target}")
_POOLED = Check(
    "pooler",
    "NOTE",
    "a pooler is in between: refreshes prepare no statements, and a role set after connecting does not stay",
    "Nothing has to be done; long maintenance goes better on a direct connection.",
)
_HURRIED = Check(
    "pooled_timeouts",
    "WARNING",
    "behind a pooler the role's {detail} ends what takes long: trimming, vacuum",
    "ALTER ROLE .. SET it to 0, or give the runner a direct connection.",
)
_TIMEOUTS = SQL(
    "SELECT pg_catalog.string_agg(s.name, ', ' ORDER BY s.name) FROM pg_catalog.pg_settings s"
    " WHERE s.name IN ('statement_timeout', 'transaction_timeout') AND s.reset_val <> '0'"
)


def examine_capture(conn: db.Connection) -> Iterator[Diagnosis]:
    """All sources that somebody reads."""
    try:
        for source in sources.fetch_all(conn):
            if sources.consumers(conn, source.id):
                yield from _source(conn, source)
    except (CatalogError, StatementFailed) as error:
        yield judge(BLIND, "capture", error.message, None)


def _source(conn: db.Connection, source: Source) -> Iterator[Diagnosis]:
    name = f"{source.schema_name}.{source.table_name}"
    try:
        gaps = capture.examine(conn, source)
    except PermissionDenied as error:
        yield judge(_DENIED, error.object_name or name, error.message, error.hint)
        return
    if gaps.missed:
        yield judge(_INCOMPLETE, name, "; ".join((gaps.missed, *gaps.differences)), str(source.id))
    elif gaps.differences:
        yield judge(_OUTDATED, name, "; ".join(gaps.differences), str(source.id))


def examine_pooler(conn: db.Connection) -> Iterator[Diagnosis]:
    """Whether the server process is another one than it said when we connected."""
    if db.fetch_value(conn, SQL("SELECT pg_catalog.pg_backend_pid()")) != conn.info.backend_pid:
        yield judge(_POOLED, conn.info.dbname, None, None)
        hurried = db.fetch_value(conn, _TIMEOUTS)
        if hurried is not None:
            yield judge(_HURRIED, conn.info.dbname, hurried, None)
