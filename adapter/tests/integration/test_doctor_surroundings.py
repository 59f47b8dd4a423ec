"""The doctor on what surrounds the engine: each check speaks when there is reason, and is silent when it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from pgtrickle.monitor.doctor import checks
from pgtrickle.monitor.doctor.checks import CHECKS
from pgtrickle.sql.named import Queries
from tests.integration.test_doctor import BROKEN

if TYPE_CHECKING:
    from typing_extensions import LiteralString

pytestmark = pytest.mark.newest_only

User = psycopg.Connection[Any]

#: Check -> what is replaced in its statement, so that minutes do for days and rows for millions.
LIMITS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "bloat": (("64 * 1024 * 1024", "0"), ("1000000", "10")),
    "long_transaction": (("interval '1 hour'", "interval '0'"),),
    "long_prepared": (("interval '1 hour'", "interval '0'"),),
    "old_slot": (("> 10000000", ">= 0"),),
    "wraparound": (("1000000000", "0"),),
    "connections_scarce": (("0.9 *", "0.0 *"),),
}

#: Check -> what brings it up, and what takes it back.
SPOKEN: Mapping[str, tuple[str, str]] = {
    "consumer_behind": (
        "UPDATE pgtrickle.stream_tables SET status = 'SUSPENDED';"
        "UPDATE pgtrickle.frontiers SET data_timestamp = now() - interval '2 days'",
        "UPDATE pgtrickle.stream_tables SET status = 'ACTIVE'",
    ),
    "creation_unfinished": (
        "UPDATE pgtrickle.stream_tables SET status = 'INITIALIZING', altered_at = now() - interval '2 days'",
        "UPDATE pgtrickle.stream_tables SET status = 'ACTIVE'",
    ),
    "extension_present": (
        "INSERT INTO pg_extension SELECT 4711, 'pg_trickle', 10, 2200, false, '0.1', NULL, NULL",
        "DELETE FROM pg_extension WHERE oid = 4711",
    ),
    "long_prepared": (
        "BEGIN; INSERT INTO t VALUES (9); PREPARE TRANSACTION 'doctor'",
        "ROLLBACK PREPARED 'doctor'",
    ),
    "old_slot": (
        "SELECT pg_create_logical_replication_slot('doctor', 'pgoutput')",
        "SELECT pg_drop_replication_slot('doctor')",
    ),
    "other_version": (
        "INSERT INTO pgtrickle.runners (runner_id, host, pid, engine_version) VALUES ('r', 'h', 1, '0.0.0')",
        "DELETE FROM pgtrickle.runners",
    ),
    "role_settings": (
        "ALTER DATABASE {db} SET session_replication_role = replica",
        "ALTER DATABASE {db} RESET session_replication_role",
    ),
    "temp_file_limit": (
        "ALTER DATABASE {db} SET temp_file_limit = '1GB'",
        "ALTER DATABASE {db} RESET temp_file_limit",
    ),
    "stray_object": ("CREATE VIEW pgtrickle_changes.mine AS SELECT 1 AS a", "DROP VIEW pgtrickle_changes.mine"),
    "target_row_security": (
        "ALTER TABLE s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "ALTER TABLE s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
    ),
    "target_unregistered": (
        "CREATE TABLE lost (); CREATE TRIGGER pgtrickle_guard BEFORE INSERT ON lost"
        " EXECUTE FUNCTION pgtrickle.refuse_write()",
        "DROP TRIGGER pgtrickle_guard ON lost",
    ),
}

#: Tried elsewhere: a standby and a restored database among the faults, roles where privileges are, others by hand.
ELSEWHERE = {
    "server_is_standby",
    "installation_moved",
    "installation_role",
    "source_missing",
    "source_replica_role",
    "owner_membership",
    "owner_privileges",
    "target_missing",
    "connections_scarce",
    "wraparound",
    "long_transaction",
    "bloat",
    "server_settings",
    "source_unread",
}


@pytest.fixture
def watched(conn: User, engine: PgTrickle, monkeypatch: pytest.MonkeyPatch) -> PgTrickle:
    """A stream table, and a doctor with small limits where a test asks for them."""
    conn.execute("CREATE TABLE t (k int)")
    engine.create_stream_table("s", "SELECT k, count(*) AS n FROM t GROUP BY k")
    assert engine.doctor() == ()
    return engine


@contextmanager
def lowered(monkeypatch: pytest.MonkeyPatch, code: str) -> Iterator[None]:
    """Small limits for one check."""
    text = checks._QUERIES[code].as_string(None)
    for old, new in LIMITS.get(code, ()):
        assert old in text
        text = text.replace(old, new)
    with monkeypatch.context() as patch:
        changed = {**checks._QUERIES, code: SQL(cast("LiteralString", text))}
        patch.setattr(checks, "_QUERIES", Queries(changed))
        yield


def codes(engine: PgTrickle) -> set[str]:
    return {one.code for one in engine.doctor()}


@pytest.mark.parametrize("code", SPOKEN)
def test_a_check_speaks_and_is_silent_again(
    code: str, conn: User, watched: PgTrickle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause, end = (one.replace("{db}", Identifier(conn.info.dbname).as_string(conn)) for one in SPOKEN[code])
    for statement in cause.split(";"):
        conn.execute(statement.encode())
    with lowered(monkeypatch, code):
        assert code in codes(watched)
        assert [one for one in watched.doctor(fix=True) if one.code == code and not one.fixed], "only a person can"
        conn.execute(end.encode())
        assert code not in codes(watched)


def test_dead_rows_are_bloat_until_they_are_vacuumed(
    conn: User, watched: PgTrickle, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute("ALTER TABLE s SET (autovacuum_enabled = false)")
    conn.execute("INSERT INTO t SELECT n FROM generate_series(1, 100) n")
    watched.refresh_stream_table("s")
    # Counted in this order, or else there seem to be 100 rows.
    watched.own_conn.execute("SELECT pg_catalog.pg_stat_force_next_flush()")
    conn.execute("SELECT set_config('pgtrickle.refreshing', pg_backend_pid()::text, false)")
    conn.execute("DELETE FROM s WHERE k > 1")
    conn.execute("SELECT pg_stat_force_next_flush()")
    with lowered(monkeypatch, "bloat"):
        assert "bloat" in codes(watched)
        assert {one.fixed for one in watched.doctor(fix=True) if one.code == "bloat"} == {True}
        assert "bloat" not in codes(watched)


def test_long_transactions_scarce_connections_and_old_transactions_are_told(
    conn: User, watched: PgTrickle, connect: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(autocommit=False) as other:
        other.execute("INSERT INTO t VALUES (1)")
        with lowered(monkeypatch, "long_transaction"):
            (found,) = [one for one in watched.doctor() if one.code == "long_transaction"]
            assert str(other.info.backend_pid) in found.object_name
            other.rollback()
            assert "long_transaction" not in codes(watched)
    for code in ("connections_scarce", "wraparound"):
        with lowered(monkeypatch, code):
            assert code in codes(watched)
        assert code not in codes(watched)


def test_settings_of_the_server_are_told(watched: PgTrickle) -> None:
    watched.conn.execute("SET track_counts = off")
    assert codes(watched) == {"server_settings"}
    watched.conn.execute("SET track_counts = on")
    assert watched.doctor() == ()


def test_a_source_that_nobody_reads_is_let_go(conn: User, watched: PgTrickle) -> None:
    conn.execute(
        "DELETE FROM pgtrickle.stream_tables; UPDATE pgtrickle.sources SET created_at = now() - interval '1 day'"
    )
    assert "source_unread" in codes(watched)
    assert {one.code for one in watched.doctor(fix=True) if not one.fixed} == {"target_unregistered"}
    assert conn.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass").fetchone() == (0,)


def test_a_catalog_without_a_column_is_told_and_keeps_nothing_else_from_being_looked_at(
    conn: User, watched: PgTrickle
) -> None:
    conn.execute("ALTER TABLE pgtrickle.runners DROP COLUMN unchecked CASCADE; ALTER TABLE t DISABLE TRIGGER USER")
    found = codes(watched)
    assert found >= {"catalog_table", "catalog_code", "check_failed", "capture_incomplete"}


def test_every_check_was_heard() -> None:
    known = {code for code, _ in BROKEN.values()} | set(SPOKEN) | ELSEWHERE
    assert {check.code for check in CHECKS} - known == set()
