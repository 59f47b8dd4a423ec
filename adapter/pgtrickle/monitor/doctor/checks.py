"""The checks that are one question to the server each. To add one: its statement in queries.sql, its line here."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL

from pgtrickle import db
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


_FIX = "pgtrickle doctor --fix"

CHECKS: tuple[Check, ...] = (
    # the place
    Check("extension_present", "ERROR", "the extension pg_trickle {detail} is installed too", "Use one of the two."),
    Check("server_is_standby", "ERROR", "it is a standby: nothing can be refreshed", "Connect to the primary."),
    Check("installation_moved", "WARNING", "it was restored or copied: all is recomputed once", _FIX, "adopt"),
    Check(
        "installation_role",
        "ERROR",
        "it belongs to {detail}, whose rights this role does not have",
        "Run the engine as the role that installed it.",
    ),
    Check("other_version", "WARNING", "a runner has version {detail}", "Upgrade all hosts to the same version."),
    # sources and their capture (more in captured.py)
    Check(
        "source_missing",
        "ERROR",
        "the table (OID {detail}) does not exist any more",
        "Restore it, or drop the stream tables that read it.",
    ),
    Check("source_unread", "WARNING", "nobody reads it any more, but it is captured still", _FIX, "settle"),
    Check(
        "source_replica_role",
        "NOTE",
        "sessions with session_replication_role = replica are not captured",
        "Make the engine's role a member of the owner's, then: pgtrickle doctor --fix",
    ),
    Check("capture_stopped", "WARNING", "capture has stopped, its change buffer is full: {detail}", _FIX, "settle"),
    Check(
        "consumer_behind",
        "WARNING",
        "it holds back the changes of its sources: {detail}",
        "Resume it, drop it, or let it go: pgtrickle let-go {object}",
    ),
    # our own tables
    Check("buffer_unlogged", "ERROR", "it is not logged, so that a crash loses changes", _FIX, "set_logged"),
    Check("replica_identity", "WARNING", "it has no replica identity: publications break it", _FIX, "identity"),
    Check("bloat", "WARNING", "it is bloated: {detail}", _FIX, "vacuum"),
    Check("autovacuum_off", "WARNING", "autovacuum is off for it", _FIX, "autovacuum"),
    Check("index_invalid", "WARNING", "the index is not valid", _FIX, "reindex"),
    Check("orphan_function", "WARNING", "it captures for a source that is not registered", _FIX, "drop_function"),
    Check("orphan_buffer", "WARNING", "it belongs to nothing that is registered", _FIX, "drop_table"),
    Check("orphan_state", "WARNING", "it belongs to no stage of a stream table", _FIX, "drop_table"),
    # stream tables
    Check("target_missing", "ERROR", "the table of this stream table was dropped", _FIX, "discard"),
    Check("frontier_missing", "ERROR", "nothing is known about its last refresh", _FIX, "frontier"),
    Check("state_missing", "ERROR", "{detail} does not exist", _FIX, "rebuild"),
    Check("log_missing", "ERROR", "its dependents cannot read its changes: {detail} does not exist", _FIX, "rebuild"),
    Check("target_guard", "ERROR", "it {detail}: others may have written to it", _FIX, "guard"),
    Check(
        "target_row_security",
        "WARNING",
        "row level security is forced on its owner, as whom refreshes write",
        "ALTER TABLE {object} NO FORCE ROW LEVEL SECURITY",
    ),
    Check("frontier_of_the_future", "ERROR", "its frontier is of another server: {detail}", _FIX, "recompute"),
    # privileges
    Check("owner_membership", "ERROR", "the engine cannot act as its owner {detail}", "{target}"),
    Check("owner_privileges", "ERROR", "its owner {detail}", "{target}"),
    Check("public_privileges", "ERROR", "{detail} may read what was captured", _FIX, "statement"),
    Check("function_privileges", "WARNING", "everybody may use it in a trigger", _FIX, "statement"),
    # rubbish
    Check("dead_runner", "WARNING", "it was not heard of since {detail}", _FIX, "forget_runner"),
    Check("old_history", "WARNING", "nobody has pruned it since {detail}", _FIX, "prune"),
    # the server
    Check("connections_scarce", "WARNING", "{detail} connections are in use", "Raise it, or use a pooler."),
    Check("server_settings", "WARNING", "it is {detail}: our tables bloat, and plans get old", "Switch it on."),
    Check("role_settings", "WARNING", "{detail} breaks refreshes or capture", "ALTER ROLE (or DATABASE) ... RESET"),
    Check("long_transaction", "WARNING", "a long transaction holds back vacuum: {detail}", "End it."),
    Check(
        "long_prepared", "WARNING", "a prepared transaction is forgotten: {detail}", "COMMIT PREPARED it, or ROLLBACK."
    ),
    Check("old_slot", "WARNING", "a replication slot holds back vacuum: {detail}", "Drop it if nobody uses it."),
    Check("wraparound", "WARNING", "the oldest transaction is {detail} old", "VACUUM (FREEZE) the database."),
)


def ask(conn: db.Connection, check: Check) -> tuple[Diagnosis, ...]:
    """What a check finds.

    Args:
        conn: autocommit, whose role can read the catalog.
        check: one of ``CHECKS``.
    """
    return tuple(judge(check, row.object_name, row.detail, row.target) for row in _rows(conn, check.code))


def _rows(conn: db.Connection, name: str) -> tuple[_Row, ...]:
    with db.transaction(conn):
        db.execute(conn, SQL("SET LOCAL search_path = pg_catalog, pg_temp"))
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
