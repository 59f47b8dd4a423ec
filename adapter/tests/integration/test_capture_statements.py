"""Capture is exact under every kind of statement and transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgtrickle import db as engine_db
from tests.support.consumers import Consumer, need_of

User = psycopg.Connection[Any]

STATEMENTS = {
    "insert": "INSERT INTO t VALUES (100, 'x', 1.50)",
    "insert_of_duplicates": "INSERT INTO t SELECT id, 'dup', 1.0 FROM t",
    "update": "UPDATE t SET n = n + 1 WHERE id % 2 = 0",
    "update_to_another_image_of_an_equal_value": "UPDATE t SET n = n * 1.00",
    "update_from_a_join": "UPDATE t SET s = o.s || '!' FROM t o WHERE o.id = t.id + 1",
    "update_of_no_row": "UPDATE t SET n = 0 WHERE id < 0",
    "update_to_null": "UPDATE t SET s = NULL, n = NULL WHERE id > 5",
    "delete": "DELETE FROM t WHERE id % 3 = 0",
    "delete_of_everything": "DELETE FROM t",
    "truncate": "TRUNCATE t",
    "truncate_and_reload": "BEGIN; TRUNCATE t; INSERT INTO t VALUES (1, 'again', 1); COMMIT",
    "several_writes_of_one_table_in_one_statement": (
        "WITH a AS (DELETE FROM t WHERE id < 3 RETURNING *), b AS (UPDATE t SET n = -n WHERE id > 8 RETURNING *)"
        " INSERT INTO t SELECT id + 1000, s, n FROM a UNION ALL SELECT id + 2000, s, n FROM b"
    ),
    "rollback": "BEGIN; DELETE FROM t; ROLLBACK",
    "rollback_to_a_savepoint": (
        "BEGIN; UPDATE t SET n = 7; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; DELETE FROM t WHERE id = 1; COMMIT"
    ),
    "released_savepoint": "BEGIN; SAVEPOINT s; DELETE FROM t WHERE id = 2; RELEASE s; COMMIT",
    "error_caught_in_plpgsql": (
        "DO $$ BEGIN BEGIN DELETE FROM t; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN"
        " UPDATE t SET n = 9 WHERE id = 3; END; END $$"
    ),
}


@pytest.fixture
def consumer(storage: engine_db.Connection, conn: User) -> Consumer:
    """A consumer of a keyless table of ten rows."""
    conn.execute("CREATE TABLE t (id integer, s text, n numeric)")
    conn.execute("INSERT INTO t SELECT g, 's' || g, g * 1.10 FROM generate_series(1, 10) g")
    return Consumer(storage, need_of(conn, "t")).install().load()


@pytest.mark.parametrize("script", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_content_plus_window_is_the_table_after(script: str, consumer: Consumer, conn: User) -> None:
    conn.execute(script)
    consumer.assert_exact()
    conn.execute("INSERT INTO t VALUES (200, 'after', 2)")
    consumer.assert_exact()


def test_statement_of_no_row_captures_nothing(consumer: Consumer, conn: User) -> None:
    conn.execute(
        "UPDATE t SET n = 0 WHERE id < 0; DELETE FROM t WHERE id < 0; INSERT INTO t SELECT * FROM t WHERE id < 0"
    )
    assert (consumer.changes().rows, consumer.changes().marked) == (0, False)


def test_copy_is_captured(consumer: Consumer, conn: User) -> None:
    with conn.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        for number in range(500):
            copy.write_row((number, None if number % 7 == 0 else f"a\tb\n{number}", number / 4))
    assert consumer.changes().rows == 500
    consumer.assert_exact()


@pytest.mark.min_major(15)
def test_merge_is_captured(consumer: Consumer, conn: User) -> None:
    conn.execute(
        "MERGE INTO t USING (SELECT g FROM generate_series(5, 15) g) s ON t.id = s.g"
        " WHEN MATCHED AND g % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = n + 1"
        " WHEN NOT MATCHED THEN INSERT VALUES (g, 'merged', 0)"
    )
    consumer.assert_exact()


def test_on_conflict_is_captured(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE k (id integer PRIMARY KEY, n integer)")
    conn.execute("INSERT INTO k SELECT g, g FROM generate_series(1, 10) g")
    consumer = Consumer(storage, need_of(conn, "k")).install().load()
    conn.execute("INSERT INTO k SELECT g, 0 FROM generate_series(5, 15) g ON CONFLICT (id) DO UPDATE SET n = k.n + 100")
    conn.execute("INSERT INTO k VALUES (1, 1) ON CONFLICT DO NOTHING")
    consumer.assert_exact()


def test_cascades_of_foreign_keys_are_captured(storage: engine_db.Connection, conn: User) -> None:
    conn.execute(
        "CREATE TABLE p (id integer PRIMARY KEY, up integer REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);"
        "CREATE TABLE c (id integer PRIMARY KEY, pid integer REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE"
        " DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO p SELECT g, nullif(g / 2, 0) FROM generate_series(1, 50) g;"
        "INSERT INTO c SELECT g, 1 + g % 50 FROM generate_series(1, 100) g"
    )
    both = [Consumer(storage, need_of(conn, name)).install().load() for name in ("p", "c")]
    conn.execute("UPDATE p SET id = id + 1000 WHERE id IN (3, 7)")
    conn.execute("DELETE FROM p WHERE id = 5")
    conn.execute("TRUNCATE p CASCADE")
    for consumer in both:
        consumer.assert_exact()


def test_writes_of_a_users_triggers_are_captured(consumer: Consumer, conn: User) -> None:
    conn.execute(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF pg_trigger_depth() < 3 THEN UPDATE t SET n = n + 1 WHERE id = old.id + 1; END IF; RETURN NULL; END $$;"
        "CREATE TRIGGER again AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION again();"
        "CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " new.s := upper(new.s); RETURN new; END $$;"
        "CREATE TRIGGER before BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION before()"
    )
    conn.execute("UPDATE t SET n = n + 5 WHERE id BETWEEN 3 AND 6; INSERT INTO t VALUES (99, 'lower', 0)")
    consumer.assert_exact()


def test_rows_that_a_users_truncate_trigger_changes_are_captured_once(consumer: Consumer, conn: User) -> None:
    conn.execute(
        "CREATE FUNCTION wipe() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " DELETE FROM t WHERE id < 5; RETURN NULL; END $$;"
        "CREATE TRIGGER wipe BEFORE TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION wipe()"
    )
    conn.execute("TRUNCATE t")
    consumer.assert_exact()


def test_writer_with_an_old_snapshot_leaves_a_mark_when_it_truncates(
    consumer: Consumer, conn: User, connect: Callable[..., User]
) -> None:
    writer = connect()
    writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t LIMIT 1")
    conn.execute("INSERT INTO t VALUES (77, 'not seen by the writer', 0)")
    writer.execute("TRUNCATE t; COMMIT")
    assert consumer.changes().marked


def test_truncate_of_a_big_table_leaves_a_mark(consumer: Consumer, conn: User) -> None:
    conn.execute("INSERT INTO t SELECT g, '', 0 FROM generate_series(1, 10000) g")
    consumer.assert_exact()
    conn.execute("TRUNCATE t")
    assert consumer.changes().marked


def test_replica_role_is_captured(consumer: Consumer, conn: User) -> None:
    conn.execute("SET session_replication_role = replica; INSERT INTO t VALUES (55, 'replica', 0); RESET ALL")
    consumer.assert_exact()


def test_long_transaction_is_captured_when_it_commits(
    consumer: Consumer, conn: User, connect: Callable[..., User]
) -> None:
    slow = connect()
    slow.execute("BEGIN; INSERT INTO t VALUES (60, 'slow', 0)")
    for number in range(3):
        conn.execute("INSERT INTO t VALUES (61, 'fast', %s)", (number,))
        consumer.assert_exact()
    slow.execute("DELETE FROM t WHERE id = 4; COMMIT")
    consumer.assert_exact()
    assert consumer.changes().rows == 0


def test_prepared_transaction_is_captured_when_it_commits(
    consumer: Consumer, conn: User, connect: Callable[..., User]
) -> None:
    conn.execute("BEGIN; INSERT INTO t VALUES (70, 'two-phase', 0); SAVEPOINT s; DELETE FROM t WHERE id = 1")
    conn.execute("PREPARE TRANSACTION 'kept'")
    conn.execute("BEGIN; INSERT INTO t VALUES (71, 'never', 0); PREPARE TRANSACTION 'dropped'")
    connect().execute("INSERT INTO t VALUES (72, 'meanwhile', 0)")
    consumer.assert_exact()
    conn.execute("COMMIT PREPARED 'kept'")
    conn.execute("ROLLBACK PREPARED 'dropped'")
    consumer.assert_exact()


def test_writer_without_any_right_on_our_schemas_is_captured(consumer: Consumer, conn: User) -> None:
    conn.execute("DROP ROLE IF EXISTS poor_writer")
    conn.execute("CREATE ROLE poor_writer; GRANT INSERT, SELECT, DELETE ON t TO poor_writer")
    try:
        conn.execute(
            "SET ROLE poor_writer; INSERT INTO t VALUES (80, 'poor', 0); DELETE FROM t WHERE id = 1; RESET ROLE"
        )
        consumer.assert_exact()
    finally:
        conn.execute("RESET ROLE; DROP OWNED BY poor_writer; DROP ROLE poor_writer")


def test_mark_capture_writes_one_row_per_statement_that_changed_something(
    storage: engine_db.Connection, conn: User
) -> None:
    conn.execute("CREATE TABLE m (id integer); INSERT INTO m SELECT generate_series(1, 100)")
    consumer = Consumer(storage, need_of(conn, "m", rows=False)).install().load()
    conn.execute("UPDATE m SET id = 0 WHERE id < 0")
    assert not consumer.changes().marked
    conn.execute("UPDATE m SET id = 0; DELETE FROM m; TRUNCATE m")
    assert consumer.changes().marked
    row = conn.execute("SELECT count(*), max(__w) FROM pgtrickle_changes.b_1").fetchone()
    assert row == (3, 0)


def test_second_consumer_turns_marks_into_rows(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE m (id integer, v text); INSERT INTO m SELECT generate_series(1, 10)")
    marks = Consumer(storage, need_of(conn, "m", rows=False)).install().load()
    rows = Consumer(storage, need_of(conn, "m", ["v"])).install().load()
    conn.execute("UPDATE m SET v = 'x' WHERE id < 3")
    assert marks.changes().rows == 4
    rows.assert_exact()


def test_update_of_one_row_that_changes_nothing_captured_writes_nothing(
    storage: engine_db.Connection, conn: User
) -> None:
    conn.execute("CREATE TABLE k (id integer, n numeric, j json, seen timestamptz)")
    conn.execute("INSERT INTO k SELECT g, 1.0, '{}' FROM generate_series(1, 3) g")
    consumer = Consumer(storage, need_of(conn, "k", ["n", "j"])).install().load()
    conn.execute("UPDATE k SET seen = now() WHERE id = 1")
    conn.execute("UPDATE k SET n = n, j = '{}', id = 9 WHERE id = 2")
    assert consumer.changes().rows == 0
    conn.execute("UPDATE k SET n = 1.00 WHERE id = 1")
    conn.execute("UPDATE k SET j = NULL WHERE id = 3")
    assert consumer.changes().rows == 4
    conn.execute("UPDATE k SET seen = now()")
    consumer.assert_exact()


def test_update_of_a_column_that_was_added_later_writes_nothing(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE k (id integer PRIMARY KEY, v text); INSERT INTO k VALUES (1, 'a'), (2, 'b')")
    consumer = Consumer(storage, need_of(conn, "k")).install().load()
    conn.execute("UPDATE k SET v = 'c' WHERE id = 1")
    assert consumer.changes().rows == 2
    conn.execute("ALTER TABLE k ADD COLUMN unread text")
    conn.execute("UPDATE k SET unread = 'x' WHERE id = 1")
    conn.execute("UPDATE k SET unread = 'y'")
    assert consumer.changes().rows == 2
    conn.execute("UPDATE k SET v = 'd', unread = 'z'")
    consumer.assert_exact()


def test_update_writes_nothing_where_only_rows_are_counted(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE k (id integer); INSERT INTO k SELECT generate_series(1, 9)")
    consumer = Consumer(storage, need_of(conn, "k", [])).install().load()
    conn.execute("UPDATE k SET id = id + 1")
    assert consumer.changes().rows == 0
    conn.execute("DELETE FROM k WHERE id < 5")
    assert consumer.changes().rows == 3


def test_update_of_many_rows_writes_nothing_where_a_key_shows_that_nothing_captured_changed(
    storage: engine_db.Connection, conn: User
) -> None:
    conn.execute("CREATE TABLE k (a varchar(9), b integer, n numeric, seen timestamptz, PRIMARY KEY (b, a))")
    conn.execute("INSERT INTO k SELECT 'x' || g, g % 3, 1.0 FROM generate_series(1, 50) g")
    consumer = Consumer(storage, need_of(conn, "k", ["n", "a"])).install().load()
    conn.execute("UPDATE k SET seen = now()")
    conn.execute("UPDATE k SET n = n WHERE b = 1")
    assert consumer.changes().rows == 0
    conn.execute("UPDATE k SET n = 1.00, seen = NULL WHERE a IN ('x1', 'x2')")
    assert consumer.changes().rows == 4
    conn.execute("UPDATE k SET b = b + 1")
    consumer.assert_exact()
    conn.execute("UPDATE k SET a = 'y' || a, n = NULL")
    consumer.assert_exact()


def test_a_key_that_is_none_any_more_hides_no_change(storage: engine_db.Connection, conn: User) -> None:
    conn.execute(
        "CREATE TABLE k (id integer PRIMARY KEY, v text, unread text); INSERT INTO k VALUES (1, 'a'), (2, 'b')"
    )
    consumer = Consumer(storage, need_of(conn, "k", ["id", "v"])).install().load()
    conn.execute("ALTER TABLE k DROP CONSTRAINT k_pkey; INSERT INTO k VALUES (1, 'a')")
    # Every old row finds an equal new one, and every new one an equal old one; still a row has turned into another.
    conn.execute("UPDATE k SET id = 2, v = 'b' WHERE id = 2 OR ctid = (SELECT min(ctid) FROM k WHERE id = 1)")
    conn.execute("UPDATE k SET (id, v) = (CASE WHEN ctid = (SELECT min(ctid) FROM k) THEN 1 ELSE id END, v)")
    conn.execute("INSERT INTO k VALUES (1, 'a'), (1, 'a'), (2, 'b')")
    conn.execute("UPDATE k SET id = 2, v = 'b' WHERE id = 2 OR ctid = (SELECT min(ctid) FROM k WHERE id = 1)")
    consumer.assert_exact()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE k RENAME COLUMN id TO other",
        "ALTER TABLE k DROP COLUMN id",
        "ALTER TABLE k ALTER COLUMN id TYPE json USING to_json(id)",
        "ALTER TABLE k ALTER COLUMN id TYPE box USING NULL",
        "ALTER TABLE k ALTER COLUMN id TYPE text",
    ],
)
def test_a_changed_key_column_never_makes_writers_fail(change: str, storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE k (id integer NOT NULL UNIQUE, v integer, w integer)")
    conn.execute("INSERT INTO k SELECT g, g FROM generate_series(1, 9) g")
    consumer = Consumer(storage, need_of(conn, "k", ["v"])).install().load()
    conn.execute("ALTER TABLE k DROP CONSTRAINT k_id_key; ALTER TABLE k ALTER COLUMN id DROP NOT NULL")
    conn.execute(change)
    conn.execute("UPDATE k SET v = v + 1")
    consumer.assert_exact()
    conn.execute("UPDATE k SET w = 5")
    consumer.assert_exact()
