"""The checks that are one question to the server each. To add one: its statement in queries.sql, its line here."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.errors import ConnectionFailed, PgTrickleError
from pgtrickle.results import Finding
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.monitor.doctor")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that may be wrong.

    Attributes:
        code: stable word, and the name of its statement.
        severity: ``ERROR`` (wrong or no results), ``WARNING`` (will hurt) or ``NOTE`` (good to know, nothing is wrong).
        text: what is wrong; ``{detail}`` is filled in.
        remedy: what to do; ``{object}`` and ``{target}`` are filled in.
        repair: name of what mends it (``repairs.REPAIRS``); None: only a person can.
    """

    code: str
    severity: str
    text: str
    remedy: str
    repair: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A finding, and what mends it."""

    finding: Finding
    repair: str | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    object_name: str
    detail: str | None
    target: str | None


#: Under which the server prints names and expressions as they are compared.
PLAIN = SQL("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL quote_all_identifiers = off")
_BEGIN = SQL("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
#: So many results come before those of the checks: that of BEGIN, and those of ``PLAIN``.
_BEFORE = 3
FIX = "pgtrickle doctor --fix"
#: What a damaged catalog keeps a check from seeing.
BLIND = Check("check_failed", "ERROR", "this could not be looked at: {detail}", "Mend the catalog first.")

CHECKS: tuple[Check, ...] = (
    # the place
    Check("extension_present", "ERROR", "the extension pg_trickle {detail} is installed too", "Use one of the two."),
    Check("server_is_standby", "ERROR", "it is a standby: nothing can be refreshed", "Connect to the primary."),
    Check("installation_moved", "WARNING", "it was restored or copied: all is recomputed once", FIX, "adopt"),
    Check(
        "installation_role",
        "ERROR",
        "it belongs to {detail}, whose rights this role does not have",
        "Run the engine as the role that installed it.",
    ),
    Check("other_version", "WARNING", "a runner has version {detail}", "Upgrade all hosts to the same version."),
    Check("schema_missing", "ERROR", "the schema was dropped with all that was in it", FIX, "schema"),
    Check("owner_changed", "ERROR", "it belongs to {detail}, so that refreshes or writers fail", FIX, "statement"),
    Check("owner_rights", "ERROR", "its owner {detail} has not all rights on it: writers fail", FIX, "statement"),
    # sources and their capture (more in captured.py)
    Check("dependency_missing", "ERROR", "the catalog does not know any more that it reads {detail}", FIX, "rebuild"),
    Check("capture_unrecorded", "ERROR", "the catalog does not know what was installed", FIX, "record"),
    Check(
        "source_missing",
        "ERROR",
        "the table (OID {detail}) does not exist any more",
        "Restore it, or drop the stream tables that read it.",
    ),
    Check("source_unread", "WARNING", "nobody reads it any more, but it is captured still", FIX, "settle"),
    Check(
        "source_replica_role",
        "NOTE",
        "sessions with session_replication_role = replica are not captured",
        "Make the engine's role a member of the owner's, then: pgtrickle doctor --fix",
    ),
    Check("capture_stopped", "WARNING", "capture has stopped, its change buffer is full: {detail}", FIX, "settle"),
    Check(
        "consumer_behind",
        "WARNING",
        "it holds back the changes of its sources: {detail}",
        "Resume it, drop it, or let it go: pgtrickle let-go {object}",
    ),
    # our own tables
    Check("table_altered", "ERROR", "somebody has added {detail}: what was written may be missing", FIX, "undo"),
    Check("buffer_broken", "ERROR", "its columns are not what capture writes to: writers fail", FIX, "buffer"),
    Check("log_broken", "ERROR", "its output log {detail} has other columns", FIX, "log"),
    Check("buffer_unlogged", "ERROR", "it is not logged, so that a crash loses changes", FIX, "set_logged"),
    Check("replica_identity", "WARNING", "it has no replica identity: publications break it", FIX, "identity"),
    Check("bloat", "WARNING", "it is bloated: {detail}", FIX, "vacuum"),
    Check("autovacuum_off", "WARNING", "autovacuum is off for it", FIX, "autovacuum"),
    Check("index_invalid", "WARNING", "the index is not valid", FIX, "reindex"),
    Check("orphan_function", "WARNING", "it captures for a source that is not registered", FIX, "drop_function"),
    Check("orphan_buffer", "WARNING", "it belongs to nothing that is registered", FIX, "drop_table"),
    Check("orphan_state", "WARNING", "it belongs to no stage of a stream table", FIX, "drop_table"),
    Check("stray_object", "WARNING", "it is not the engine's, and goes when that is uninstalled", "{target}"),
    # stream tables
    Check("target_missing", "ERROR", "the table of this stream table was dropped", FIX, "discard"),
    Check(
        "target_unregistered",
        "ERROR",
        "it was a stream table, and is not registered any more: nobody refreshes it",
        "DROP TABLE {target}, and create it again; or, for an ordinary table: DROP TRIGGER pgtrickle_guard ON {target}",
    ),
    Check("target_columns", "ERROR", "it {detail}", FIX, "rebuild"),
    Check("drop_unfinished", "WARNING", "it is {detail}, and whoever began that is gone", FIX, "finish_drops"),
    Check(
        "creation_unfinished",
        "WARNING",
        "it is being created since {detail}",
        "If nobody is at it any more, create it again (create_or_replace), or drop it.",
    ),
    Check("frontier_missing", "ERROR", "nothing is known about its last refresh", FIX, "frontier"),
    Check("frontier_ahead", "ERROR", "it has read up to refresh {detail}", FIX, "recompute"),
    Check("state_missing", "ERROR", "{detail} does not exist", FIX, "rebuild"),
    Check("log_missing", "ERROR", "its dependents cannot read its changes: {detail} does not exist", FIX, "rebuild"),
    Check("target_guard", "ERROR", "it {detail}: others may have written to it", FIX, "guard"),
    Check(
        "target_row_security",
        "WARNING",
        "row level security is forced on its owner, as whom refreshes write",
        "ALTER TABLE {object} NO FORCE ROW LEVEL SECURITY",
    ),
    Check("frontier_of_the_future", "ERROR", "its frontier is of another server: {detail}", FIX, "recompute"),
    # privileges
    Check("owner_membership", "ERROR", "the engine cannot act as its owner {detail}", "{target}"),
    Check("owner_privileges", "ERROR", "its owner {detail}", "{target}"),
    Check("public_privileges", "ERROR", "{detail} may read what was captured", FIX, "statement"),
    Check("role_privileges", "ERROR", "{detail} may see or change what is the engine's alone", FIX, "statement"),
    Check("function_privileges", "WARNING", "everybody may use it in a trigger", FIX, "statement"),
    # rubbish
    Check("dead_runner", "WARNING", "it was not heard of since {detail}", FIX, "forget_runner"),
    Check("old_history", "WARNING", "nobody has pruned it since {detail}", FIX, "prune"),
    # the server
    Check("connections_scarce", "WARNING", "{detail} connections are in use", "Raise it, or use a pooler."),
    Check("server_settings", "WARNING", "it is {detail}: our tables bloat, and plans get old", "Switch it on."),
    Check("role_settings", "WARNING", "{detail} breaks refreshes or capture", "ALTER ROLE (or DATABASE) ... RESET"),
    Check(
        "temp_file_limit",
        "NOTE",
        "temp_file_limit is {detail}: a statement that writes more than that into a captured table fails",
        "Raise it, or write in smaller statements: triggers see all rows that a statement has written.",
    ),
    Check("long_transaction", "WARNING", "a long transaction holds back vacuum: {detail}", "End it."),
    Check(
        "long_prepared", "WARNING", "a prepared transaction is forgotten: {detail}", "COMMIT PREPARED it, or ROLLBACK."
    ),
    Check("old_slot", "WARNING", "a replication slot holds back vacuum: {detail}", "Drop it if nobody uses it."),
    Check("wraparound", "WARNING", "the oldest transaction is {detail} old", "VACUUM (FREEZE) the database."),
)


def ask_all(conn: db.Connection) -> tuple[Diagnosis, ...]:
    """What all checks find, in one message; one after the other only where a check fails.

    Args:
        conn: autocommit, whose role can read the catalog.
    """
    try:
        asked = [_QUERIES[check.code] for check in CHECKS]
        sets = db.batch_sets(conn, [_BEGIN, PLAIN, *asked, SQL("COMMIT")])[_BEFORE:-1]
    except ConnectionFailed:
        raise
    except PgTrickleError:
        if conn.info.transaction_status != conn.info.transaction_status.IDLE:
            db.execute(conn, SQL("ROLLBACK"))
        return tuple(found for check in CHECKS for found in ask(conn, check))
    return tuple(judge(check, **row) for check, rows in zip(CHECKS, sets, strict=True) for row in rows)


def ask(conn: db.Connection, check: Check) -> tuple[Diagnosis, ...]:
    """What a check finds.

    Args:
        conn: autocommit, whose role can read the catalog.
        check: one of ``CHECKS``.
    """
    try:
        return tuple(judge(check, row.object_name, row.detail, row.target) for row in _rows(conn, check.code))
    except ConnectionFailed:
        raise
    except PgTrickleError as error:
        return (judge(BLIND, check.code, error.message, None),)


def _rows(conn: db.Connection, name: str) -> tuple[_Row, ...]:
    with db.transaction(conn):
        db.execute(conn, PLAIN)
        return db.fetch_all(conn, _QUERIES[name], _Row, object_name=name)


def judge(check: Check, object_name: str, detail: str | None, target: str | None) -> Diagnosis:
    """The finding for one row; pure."""
    known = {"object": object_name, "detail": detail or "", "target": target or ""}
    finding = Finding(
        code=check.code,
        severity=check.severity,
        object_name=object_name,
        text=check.text.format(**known),
        remedy=check.remedy.format(**known),
        fixable=check.repair is not None,
    )
    return Diagnosis(finding, check.repair, target or "")
