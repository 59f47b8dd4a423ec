"""A change buffer is emptied as a whole: nothing is lost or doubled, whoever writes, reads or comes back meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle import db as engine_db
from pgtrickle.api import PgTrickle
from pgtrickle.catalog import access
from tests.support.consumers import Consumer, need_of

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]
Connect = Callable[..., User]
Bounds = tuple[Any, Any]

ROWS = 12_000  # more than the 256 kB below which rows are deleted instead


@pytest.fixture
def consumer(storage: engine_db.Connection, conn: User) -> Consumer:
    """A consumer that has seen all of a long change buffer."""
    conn.execute("CREATE TABLE s (k int PRIMARY KEY, v text)")
    found = Consumer(storage, need_of(conn, "s")).install().load()
    conn.execute("INSERT INTO s SELECT g, 'bulk' FROM generate_series(1, %s) g", (ROWS,))
    found.refresh()
    return found


def bounds(conn: User) -> Bounds:
    """What a trim has found to be needed by nobody."""
    row = conn.execute("SELECT below, running FROM pgtrickle.trimmable(1)").fetchone()
    assert row is not None
    return row


def empty(conn: User, found: Bounds) -> bool:
    """The second step of a trim, some time after the first."""
    row = conn.execute("SELECT pgtrickle.empty_buffer('pgtrickle_changes.b_1', %s, %s)", found).fetchone()
    assert row is not None
    return row[0]


def buffered(conn: User) -> int:
    """Rows in the change buffer."""
    row = conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone()
    assert row is not None
    return row[0]


def test_a_buffer_that_everybody_has_read_is_emptied(consumer: Consumer, conn: User) -> None:
    assert buffered(conn) == ROWS
    assert capture.trim(consumer.conn).deleted == ROWS
    assert conn.execute("SELECT pg_relation_size('pgtrickle_changes.b_1')").fetchone() == (0,)
    consumer.assert_exact()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_writer_in_the_middle_of_a_transaction_loses_nothing(
    consumer: Consumer, conn: User, connect: Connect, level: str
) -> None:
    writer = connect()
    writer.execute(f"BEGIN ISOLATION LEVEL {level}")
    writer.execute("INSERT INTO s VALUES (-1, 'before')")
    assert not empty(conn, bounds(conn))
    capture.trim(consumer.conn)
    writer.execute("UPDATE s SET v = 'after' WHERE k < 3")
    consumer.assert_exact()
    writer.execute("COMMIT")
    consumer.assert_exact()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_writer_with_a_snapshot_from_before_writes_into_the_emptied_buffer(
    consumer: Consumer, conn: User, connect: Connect, level: str
) -> None:
    writer = connect()
    writer.execute(f"BEGIN ISOLATION LEVEL {level}")
    writer.execute("SELECT count(*) FROM s")
    assert empty(conn, bounds(conn))
    writer.execute("DELETE FROM s WHERE k <= 10")
    writer.execute("INSERT INTO s VALUES (-1, 'new')")
    consumer.assert_exact()
    writer.execute("COMMIT")
    consumer.assert_exact()
    assert consumer.content[("-1", "new")] == 1


def test_a_writer_whose_savepoint_was_undone_goes_on_in_the_emptied_buffer(
    consumer: Consumer, conn: User, connect: Connect
) -> None:
    writer = connect()
    writer.execute("BEGIN; SAVEPOINT a; INSERT INTO s VALUES (-1, 'undone'); ROLLBACK TO SAVEPOINT a")
    assert empty(conn, bounds(conn))
    writer.execute("INSERT INTO s VALUES (-2, 'stays')")
    assert not empty(conn, bounds(conn))
    writer.execute("COMMIT")
    consumer.assert_exact()


def test_a_prepared_transaction_keeps_its_changes(consumer: Consumer, conn: User) -> None:
    conn.execute("BEGIN; INSERT INTO s VALUES (-1, 'prepared'); PREPARE TRANSACTION 'kept'")
    assert not empty(conn, bounds(conn))
    capture.trim(consumer.conn)
    consumer.assert_exact()
    conn.execute("COMMIT PREPARED 'kept'")
    assert not empty(conn, bounds(conn))
    consumer.assert_exact()
    assert empty(conn, bounds(conn))


def test_what_is_committed_between_the_look_and_the_lock_stays(
    consumer: Consumer, conn: User, connect: Connect
) -> None:
    writer = connect()
    writer.execute("BEGIN; INSERT INTO s VALUES (-1, 'running')")
    found = bounds(conn)
    writer.execute("COMMIT")
    conn.execute("INSERT INTO s VALUES (-2, 'new')")
    assert not empty(conn, found)
    consumer.assert_exact()


def test_who_comes_back_between_the_look_and_the_lock_misses_nothing(
    consumer: Consumer, conn: User, connect: Connect
) -> None:
    """Its changes were given up, so that there was nobody whose frontier would have told what was running."""
    conn.execute("UPDATE pgtrickle.stream_tables SET demoted = true")
    writer = connect()
    writer.execute("BEGIN; INSERT INTO s VALUES (-1, 'running')")
    conn.execute("SELECT pg_current_xact_id()")
    found = bounds(conn)
    capture.rejoin(consumer.conn, [consumer.id])
    consumer.load()
    writer.execute("COMMIT")
    assert not empty(conn, found)
    consumer.assert_exact()
    assert consumer.content[("-1", "running")] == 1


def test_a_refresh_with_a_snapshot_from_before_begins_again(
    db: str, engine: PgTrickle, conn: User, connect: Connect, oracle: Callable[..., None]
) -> None:
    """It has a snapshot, but no locks yet, when somebody else consumes all changes and the buffer is emptied."""
    conn.execute("CREATE TABLE s (k int PRIMARY KEY, v text)")
    engine.create_stream_table("t", "SELECT k, v FROM s", refresh_mode="DIFFERENTIAL")
    late = connect()
    conn.execute("INSERT INTO s SELECT g, 'bulk' FROM generate_series(1, %s) g", (ROWS,))
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM s")
    engine.refresh_stream_table("t")
    capture.trim(engine.conn)
    assert buffered(conn) == 0
    with pytest.raises(psycopg.errors.SerializationFailure):
        late.execute("SELECT * FROM pgtrickle.lock_group(ARRAY[1]::bigint[], ARRAY[1]::bigint[], NULL, '[]')")
    late.execute("ROLLBACK")
    oracle(conn, "t", "SELECT k, v FROM s")


def test_a_refresh_with_a_snapshot_from_before_it_was_given_up_begins_again(
    consumer: Consumer, conn: User, connect: Connect
) -> None:
    """Once it is given up its changes may go; in the older snapshot nothing says so."""
    late = connect()
    conn.execute("UPDATE s SET v = 'unseen' WHERE k < 100")
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM s")
    assert access.value(consumer.conn, "demote_furthest_behind", id=1, full=True) == consumer.id
    assert capture.trim(consumer.conn).deleted > ROWS
    with pytest.raises(psycopg.errors.SerializationFailure):
        late.execute(
            "SELECT * FROM pgtrickle.lock_group(ARRAY[%(id)s]::bigint[], ARRAY[]::bigint[], NULL, '[]')",
            {"id": consumer.id},
        )
    late.execute("ROLLBACK")
