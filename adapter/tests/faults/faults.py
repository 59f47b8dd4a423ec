"""Faults, each one small function: it is started while others work, does its harm, and leaves the server as it was.

A fault gets a connection string of a superuser and a source of randomness, and returns how often it did harm.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Composed, Identifier, Literal

Fault = Callable[[str, random.Random], int]

#: What belongs to the engine, told by its name.
_OURS = "datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'pgtrickle%'"


def terminate_backends(dsn: str, chance: random.Random) -> int:
    """``pg_terminate_backend`` on one of the engine's sessions."""
    return _signal(dsn, chance, "pg_terminate_backend")


def cancel_statements(dsn: str, chance: random.Random) -> int:
    """``pg_cancel_backend`` on one of the engine's sessions."""
    return _signal(dsn, chance, "pg_cancel_backend")


def _signal(dsn: str, chance: random.Random, function: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as conn:
        pids = [row[0] for row in conn.execute(f"SELECT pid FROM pg_stat_activity WHERE {_OURS}").fetchall()]
        if not pids:
            return 0
        conn.execute(f"SELECT {function}(%s)", (chance.choice(pids),))
        return 1


def lock_sources(dsn: str, chance: random.Random) -> int:
    """Hold ACCESS EXCLUSIVE on a source for a while, as a migration does."""
    with psycopg.connect(dsn) as conn:
        conn.execute("SET lock_timeout = '2s'")
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            conn.execute(f"LOCK TABLE {chance.choice(('orders', 'customers', 'notes'))} IN ACCESS EXCLUSIVE MODE")
            time.sleep(chance.random())
            return 1
        return 0


def conflict(dsn: str, chance: random.Random) -> int:
    """Touch every row of the catalog that a refresh locks, in the wrong order: deadlocks and serialization failures."""
    done = 0
    with psycopg.connect(dsn) as conn:
        conn.execute("SET deadlock_timeout = '20ms'")
        for _ in range(3):
            try:
                conn.execute("UPDATE pgtrickle.stream_tables SET altered_at = now() WHERE id % 2 = 0")
                time.sleep(0.02)
                conn.execute("SELECT FROM pgtrickle.frontiers ORDER BY stream_table_id DESC FOR UPDATE")
                conn.commit()
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                conn.rollback()
            done += 1
    return done


def no_temporary_files(dsn: str, chance: random.Random) -> int:
    """``temp_file_limit``: large sorts and hashes fail, as on a full disk."""
    with _setting(dsn, SQL("temp_file_limit"), "0"), _setting(dsn, SQL("work_mem"), "64kB"):
        _renew_sessions(dsn)
        time.sleep(0.5 + chance.random())
    _renew_sessions(dsn)
    return 1


def short_timeouts(dsn: str, chance: random.Random) -> int:
    """Time-outs that a database has for its users' sessions."""
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    with psycopg.connect(dsn, autocommit=True) as conn:
        if conn.info.server_version >= 170000:
            names.append("transaction_timeout")
    with _setting(dsn, SQL("{}").format(Identifier(chance.choice(names))), "20ms"):
        _renew_sessions(dsn)
        time.sleep(0.5 + chance.random())
    _renew_sessions(dsn)
    return 1


def no_connections(dsn: str, chance: random.Random) -> int:
    """The database takes no further connections, and all that there were are gone."""
    database = str(conninfo_to_dict(dsn)["dbname"])
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as conn:
        conn.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(Identifier(database)))
        try:
            ours = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE %s"
            )
            conn.execute(ours, (database, "pgtrickle%"))
            time.sleep(0.3 + chance.random())
        finally:
            conn.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(Identifier(database)))
    return 1


def read_only(dsn: str, chance: random.Random) -> int:
    """``default_transaction_read_only``, as a provider sets it when the disk is full."""
    with _setting(dsn, SQL("default_transaction_read_only"), "on"):
        _renew_sessions(dsn)
        time.sleep(0.5 + chance.random())
    _renew_sessions(dsn)
    return 1


def forget_runners(dsn: str, chance: random.Random) -> int:
    """Registrations and leases vanish: the clock jumped, or a host was asleep and others took it for dead."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM pgtrickle.runners")
        conn.execute("UPDATE pgtrickle.leases SET expires_at = now() + interval '2 seconds'")
    return 1


def set_clock(dsn: str, chance: random.Random) -> int:
    """All that was noted was noted earlier or later than it seems: as if somebody had set the server's clock."""
    shift = f"interval '{chance.choice((-7200, -40, 40, 7200, 90000))} seconds'"
    with psycopg.connect(dsn, autocommit=True) as conn:
        for table, columns in _TIMES.items():
            moved = ", ".join(f"{column} = {column} + {shift}" for column in columns)
            conn.execute(f"UPDATE pgtrickle.{table} SET {moved}".encode())
    return 1


_TIMES = {
    "frontiers": ("last_refresh_at", "data_timestamp"),
    "stream_tables": ("retry_at",),
    "runners": ("heartbeat_at", "started_at", "checked_at"),
    "leases": ("acquired_at", "expires_at"),
}

FAULTS: tuple[Fault, ...] = (
    terminate_backends,
    cancel_statements,
    lock_sources,
    conflict,
    no_temporary_files,
    short_timeouts,
    no_connections,
    read_only,
    forget_runners,
    set_clock,
)


@contextlib.contextmanager
def _setting(dsn: str, name: SQL | Composed, value: str) -> Iterator[None]:
    """A setting of the database for the time being."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET default_transaction_read_only = off")
        database = Identifier(conn.info.dbname)
        conn.execute(SQL("ALTER DATABASE {} SET {} = {}").format(database, name, Literal(value)))
        try:
            yield
        finally:
            conn.execute(SQL("ALTER DATABASE {} RESET {}").format(database, name))


def _renew_sessions(dsn: str) -> None:
    """Settings of a database are for new sessions."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OURS}")  # type: ignore[call-overload]
