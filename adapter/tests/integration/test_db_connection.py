"""Connections, transactions, errors and DDL under lock time-outs on a real server."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL

from pgtrickle import db as engine_db
from pgtrickle import errors

User = psycopg.Connection[Any]
#: Named otherwise on macOS.
KEEPIDLE = getattr(socket, "TCP_KEEPIDLE", 0x10)
#: Linux only.
USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


#: Nothing here differs between versions of the server.
pytestmark = pytest.mark.newest_only


@pytest.fixture
def engine_conn(db: str) -> engine_db.Connection:
    """A connection of the engine."""
    found = engine_db.connect(db)
    found.lend()
    return found


def test_connection_prepares_nothing_and_commits_by_itself(engine_conn: engine_db.Connection) -> None:
    for _ in range(10):
        engine_conn.execute("SELECT %s::integer", (1,))
    assert engine_conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert engine_conn.autocommit


def test_connection_says_who_it_is_unless_told_otherwise(db: str) -> None:
    with engine_db.connect(db) as plain, engine_db.connect(f"{db} application_name=mine") as named:
        assert plain.execute("SHOW application_name").fetchone() == ("pgtrickle",)
        assert named.execute("SHOW application_name").fetchone() == ("mine",)


def test_connection_takes_keywords_and_a_role(db: str, conn: User) -> None:
    conn.execute("DROP ROLE IF EXISTS somebody; CREATE ROLE somebody")
    try:
        with engine_db.connect(psycopg.conninfo.conninfo_to_dict(db), role="somebody") as found:
            assert found.execute("SELECT current_user").fetchone() == ("somebody",)
    finally:
        conn.execute("DROP ROLE somebody")


def test_unreachable_server_is_connection_failed() -> None:
    with pytest.raises(errors.ConnectionFailed):
        engine_db.connect("host=127.0.0.1 port=1 connect_timeout=2")


STATES = {
    "42501": errors.PermissionDenied,
    "55P03": errors.LockTimeout,
    "40001": errors.TransactionConflict,
    "40P01": errors.TransactionConflict,
    "08006": errors.ConnectionFailed,
    "57P01": errors.ConnectionFailed,
    "23505": errors.StatementFailed,
    "57014": errors.StatementFailed,
}


@pytest.mark.parametrize(("state", "kind"), STATES.items(), ids=STATES.keys())
def test_each_sqlstate_has_its_error(
    state: str, kind: type[errors.PgTrickleError], engine_conn: engine_db.Connection
) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'what happened' USING ERRCODE = '{state}', DETAIL = 'd', HINT = 'h'; END $$"
    with pytest.raises(kind) as caught:
        engine_db.execute(engine_conn, SQL(raising), object_name="a.b")
    error = caught.value
    assert type(error) is kind
    assert (error.sqlstate, error.message, error.hint, error.object_name) == (state, "what happened", "h", "a.b")
    assert isinstance(error.__cause__, psycopg.Error)


def test_lost_connection_is_connection_failed(engine_conn: engine_db.Connection, conn: User) -> None:
    conn.execute("SELECT pg_terminate_backend(%s)", (engine_conn.info.backend_pid,))
    with pytest.raises(errors.ConnectionFailed):
        engine_db.execute(engine_conn, SQL("SELECT pg_sleep(5)"))


def test_transaction_rolls_back_and_translates_errors_at_commit(engine_conn: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE d (k integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(errors.StatementFailed) as caught, engine_db.transaction(engine_conn):
        engine_conn.execute("INSERT INTO d VALUES (1), (1)")
    assert caught.value.sqlstate == "23505"
    assert conn.execute("SELECT count(*) FROM d").fetchone() == (0,)


def test_transaction_does_not_care_for_the_defaults_of_the_role(
    engine_conn: engine_db.Connection,
) -> None:
    engine_conn.execute("SET default_transaction_isolation = 'serializable'")
    for repeatable_read, level in ((False, "read committed"), (True, "repeatable read")):
        with engine_db.transaction(engine_conn, repeatable_read=repeatable_read):
            assert engine_conn.execute("SHOW transaction_isolation").fetchone() == (level,)


def test_inner_transaction_is_a_savepoint(engine_conn: engine_db.Connection) -> None:
    engine_conn.execute("CREATE TABLE s (k integer)")
    with engine_db.transaction(engine_conn):
        engine_conn.execute("INSERT INTO s VALUES (1)")
        with pytest.raises(errors.StatementFailed), engine_db.transaction(engine_conn):
            engine_conn.execute("INSERT INTO s VALUES (2); SELECT 1 / 0")
    assert engine_conn.execute("SELECT k FROM s").fetchall() == [(1,)]


def test_ddl_waits_for_its_lock_in_small_steps(
    engine_conn: engine_db.Connection, conn: User, connect: Callable[..., User]
) -> None:
    conn.execute("CREATE TABLE t (k integer)")
    conn.execute("BEGIN; INSERT INTO t VALUES (1)")
    work = threading.Thread(target=lambda: engine_db.ddl(engine_conn, SQL("ALTER TABLE t ADD COLUMN v integer")))
    work.start()
    time.sleep(0.4)
    start = time.monotonic()
    connect().execute("INSERT INTO t VALUES (2)")
    assert time.monotonic() - start < 1
    conn.execute("COMMIT")
    work.join()
    assert conn.execute("SELECT v FROM t").fetchall() == [(None,), (None,)]


def test_ddl_gives_up_without_a_trace(engine_conn: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE t (k integer)")
    row = conn.execute("SELECT 't'::regclass::oid").fetchone()
    assert row is not None
    conn.execute("BEGIN; SELECT * FROM t")
    policy = engine_db.LockPolicy(lock_timeout_ms=20, give_up_after_s=0.2)
    statements = [SQL("CREATE TABLE half (k integer)"), SQL("DROP TABLE t")]
    with pytest.raises(errors.LockTimeout) as caught:
        engine_db.ddl(engine_conn, statements, policy=policy, relids=[row[0]], object_name="t")
    assert f"pid {conn.info.backend_pid}" in str(caught.value.detail)
    assert engine_conn.execute("SELECT to_regclass('half')").fetchone() == (None,)


def test_a_process_that_is_stopped_while_it_holds_a_lock_lets_writers_go_on(db: str, conn: User) -> None:
    conn.execute("CREATE TABLE t (id int)")
    written = threading.Event()

    def write() -> None:
        with psycopg.connect(db, autocommit=True) as writer:
            writer.execute("INSERT INTO public.t VALUES (1)")
        written.set()

    def work() -> None:
        engine_db.execute(stopped, SQL("LOCK TABLE public.t IN SHARE ROW EXCLUSIVE MODE"))
        threading.Thread(target=write, daemon=True).start()
        assert written.wait(60), "a writer waits for a process that does nothing"
        engine_db.execute(stopped, SQL("INSERT INTO public.t VALUES (2)"))

    with engine_db.connect(db) as stopped, pytest.raises(errors.ConnectionFailed):
        engine_db.under_lock_timeout(stopped, lambda: (engine_db.execute(stopped, SQL("SELECT 1")), work()))
    assert conn.execute("SELECT id FROM t").fetchall() == [(1,)]


def test_a_server_that_is_gone_without_a_word_is_noticed(db: str) -> None:
    def settings(dsn: str) -> tuple[int, ...]:
        with engine_db.connect(dsn) as conn, socket.socket(fileno=os.dup(conn.fileno())) as found:
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            names = (KEEPIDLE, socket.TCP_KEEPINTVL, *filter(None, [USER_TIMEOUT]))
            return tuple(found.getsockopt(socket.IPPROTO_TCP, name) for name in names)

    assert settings(db) in ((30, 10, 60_000), (30, 10))
    assert settings(f"{db} keepalives_idle=77")[0] == 77


def test_of_several_hosts_one_that_does_not_answer_is_given_up_soon(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def timeout(dsn: str) -> str | None:
        with engine_db.connect(dsn) as conn:
            return conn.info.get_parameters().get("connect_timeout")

    assert timeout(db) == "10"
    assert timeout(f"{db} connect_timeout=7") == "7"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "8")
    assert timeout(db) in (None, "8")


def test_cancel_all_ends_running_statements(engine_conn: engine_db.Connection) -> None:
    seen: list[errors.PgTrickleError] = []

    def sleep() -> None:
        try:
            engine_db.execute(engine_conn, SQL("SELECT pg_sleep(30)"))
        except errors.PgTrickleError as error:
            seen.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    time.sleep(0.3)
    assert engine_db.cancel_all() >= 1
    thread.join(5)
    assert [error.sqlstate for error in seen] == ["57014"]


def test_what_is_prepared_between_two_locks_is_prepared_again(engine_conn: engine_db.Connection) -> None:
    for number in range(3):
        with engine_db.transaction(engine_conn):
            engine_db.lock_together(engine_conn, None, [SQL("SELECT 1")])
        assert (
            engine_db.fetch_value(engine_conn, SQL("SELECT 1 + %(n)s::int"), {"n": number}, prepare=True) == number + 1
        )
