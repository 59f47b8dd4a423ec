"""Releasing and uninstalling leave nothing behind."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle import db as engine_db
from pgtrickle.api import PgTrickle
from pgtrickle.catalog import installation, sources
from pgtrickle.errors import CatalogError, DependentsExist, LockTimeout
from tests.support.consumers import Consumer, need_of

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]

IMPATIENT = engine_db.LockPolicy(lock_timeout_ms=50, give_up_after_s=0.2)


def everything(conn: User) -> dict[str, list[Any]]:
    """All objects that an uninstall could forget."""
    queries = {
        "schemas": "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast_temp)'",
        "relations": "SELECT oid::regclass::text, relkind, reloptions, relacl::text FROM pg_class WHERE oid >= 16384",
        "functions": "SELECT oid::regprocedure::text FROM pg_proc WHERE oid >= 16384",
        "triggers": "SELECT tgrelid::regclass::text, tgname FROM pg_trigger",
        "types": "SELECT oid::regtype::text FROM pg_type WHERE oid >= 16384",
        "depend": "SELECT count(*) FROM pg_depend",
        "descriptions": "SELECT count(*) FROM pg_description",
    }
    return {name: sorted(conn.execute(query).fetchall(), key=repr) for name, query in queries.items()}


@pytest.fixture
def tables(conn: User) -> User:
    """A plain table, a partitioned one, an enum column."""
    conn.execute(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE s (k integer PRIMARY KEY, m mood);"
        "CREATE TABLE pt (k integer) PARTITION BY RANGE (k);"
        "CREATE TABLE p1 PARTITION OF pt FOR VALUES FROM (0) TO (9);"
    )
    return conn


def test_uninstall_leaves_no_trace(db: str, tables: User) -> None:
    before = everything(tables)
    with engine_db.connect(db) as storage:
        installation.install(storage)
        for name in ("s", "pt", "p1"):
            Consumer(storage, need_of(tables, name)).install().load()
        tables.execute("INSERT INTO s VALUES (1, 'sad'); INSERT INTO pt VALUES (1)")
        assert everything(tables) != before
        capture.uninstall(storage)
        assert everything(tables) == before
        with pytest.raises(CatalogError, match="not installed"):
            installation.check(storage)
        assert installation.install(storage)


def test_uninstall_behind_a_writer_turns_capture_off_and_can_be_repeated(db: str, tables: User) -> None:
    before = everything(tables)
    with engine_db.connect(db) as storage, psycopg.connect(db, autocommit=True) as writer:
        installation.install(storage)
        Consumer(storage, need_of(tables, "s")).install().load()
        writer.execute("BEGIN; INSERT INTO s VALUES (1, 'sad')")
        with pytest.raises(LockTimeout):
            capture.uninstall(storage, policy=IMPATIENT)
        tables.execute("INSERT INTO s VALUES (2, 'sad')")
        row = tables.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone()
        assert row == (0,)
        writer.execute("COMMIT")
        capture.uninstall(storage)
        assert everything(tables) == before


def test_uninstall_makes_stream_tables_ordinary_tables(db: str, tables: User) -> None:
    with PgTrickle.connect(db) as engine:
        engine.install()
        tables.execute("INSERT INTO s VALUES (1, 'sad'), (2, NULL)")
        engine.create_stream_table("moods", "SELECT m, count(*) AS n FROM s GROUP BY m")
        engine.create_stream_table("all_s", "SELECT m FROM s")
        engine.uninstall()
    tables.execute("INSERT INTO moods VALUES (NULL, 7)")
    assert tables.execute("SELECT count(*) FROM moods").fetchone() == (3,)
    left = "SELECT relname FROM pg_class WHERE relname LIKE '%pgtrickle%' OR relreplident = 'f'"
    assert tables.execute(left).fetchall() == []


def test_uninstall_drops_no_view_of_others(storage: engine_db.Connection, tables: User) -> None:
    tables.execute("CREATE VIEW mine AS SELECT name, stale FROM pgtrickle.stream_table_status")
    consumer = Consumer(storage, need_of(tables, "s")).install().load()
    with pytest.raises(DependentsExist, match=r"public\.mine"):
        capture.uninstall(storage)
    tables.execute("INSERT INTO s VALUES (1, 'sad')")
    consumer.assert_exact()


def test_last_consumer_takes_triggers_functions_and_buffer_along(storage: engine_db.Connection, tables: User) -> None:
    before = everything(tables)
    first, second = (Consumer(storage, need_of(tables, "pt")).install().load() for _ in range(2))
    assert capture.release(storage, first.id) == ()
    tables.execute("INSERT INTO p1 VALUES (1)")
    second.assert_exact()
    assert capture.release(storage, second.id) == ()
    assert everything(tables) == before
    assert sources.fetch_all(storage) == ()


def test_what_stays_locked_does_nothing_and_goes_with_the_next_trim(
    storage: engine_db.Connection, tables: User, db: str
) -> None:
    before = everything(tables)
    consumer = Consumer(storage, need_of(tables, "s")).install().load()
    with psycopg.connect(db, autocommit=True) as writer:
        writer.execute("BEGIN; INSERT INTO s VALUES (1, 'sad')")
        (left,) = capture.release(storage, consumer.id, policy=IMPATIENT)
        assert left.table_name == "s"
        tables.execute("INSERT INTO s VALUES (2, 'sad')")
        row = tables.execute("SELECT count(*) FROM pgtrickle_changes.b_1").fetchone()
        assert row == (0,)
        assert capture.trim(storage).removed == ()
        writer.execute("COMMIT")
    assert capture.trim(storage).removed == (left.id,)
    assert everything(tables) == before


def test_capture_comes_back_for_a_new_consumer_before_the_old_triggers_went(
    storage: engine_db.Connection, tables: User, db: str
) -> None:
    old = Consumer(storage, need_of(tables, "s")).install().load()
    with psycopg.connect(db, autocommit=True) as writer:
        writer.execute("BEGIN; INSERT INTO s VALUES (1, 'sad')")
        capture.release(storage, old.id, policy=IMPATIENT)
        writer.execute("COMMIT")
    new = Consumer(storage, need_of(tables, "s")).install().load()
    tables.execute("INSERT INTO s VALUES (2, 'sad')")
    new.assert_exact()


def test_buffer_narrows_to_the_columns_of_those_who_stay(storage: engine_db.Connection, tables: User) -> None:
    wide = Consumer(storage, need_of(tables, "s")).install().load()
    narrow = Consumer(storage, need_of(tables, "s", ["m"])).install().load()
    recorded = capture.fingerprint(storage, [narrow.id])[narrow.id]
    capture.release(storage, wide.id)
    assert narrow.source.columns == (2,)
    columns = tables.execute("SELECT * FROM pgtrickle_changes.b_1").description
    assert columns is not None
    assert [column.name for column in columns] == ["__x", "__w", "c2"]
    assert capture.compare(recorded, capture.fingerprint(storage, [narrow.id])[narrow.id]) == ()
    tables.execute("INSERT INTO s VALUES (3, NULL)")
    narrow.assert_exact()


def test_release_keeps_what_the_new_definition_still_needs(storage: engine_db.Connection, tables: User) -> None:
    consumer = Consumer(storage, need_of(tables, "s"))
    capture.install(storage, consumer.id, [need_of(tables, "s"), need_of(tables, "pt")])
    capture.release(storage, consumer.id, keep=[need_of(tables, "s", ["k"])])
    assert [(source.table_name, source.columns) for source in sources.fetch_all(storage)] == [("s", (1,))]
    assert [(found.object_name, found.columns) for found in sources.dependencies(storage, consumer.id)] == [("s", (1,))]


def test_dropped_source_can_be_released(storage: engine_db.Connection, tables: User) -> None:
    consumer = Consumer(storage, need_of(tables, "s")).install().load()
    tables.execute("DROP TABLE s")
    assert capture.release(storage, consumer.id) == ()
    assert sources.fetch_all(storage) == ()


def test_capture_with_select_and_trigger_only(db: str, tables: User) -> None:
    tables.execute("DROP ROLE IF EXISTS modest; CREATE ROLE modest")
    try:
        tables.execute(f"GRANT CREATE ON DATABASE {tables.info.dbname} TO modest")
        tables.execute("GRANT SELECT, TRIGGER ON s TO modest")
        with engine_db.connect(db, role="modest") as storage:
            installation.install(storage)
            (found,) = capture.install(storage, Consumer(storage, need_of(tables, "s")).id, [need_of(tables, "s")])
            assert "replica" in found.warnings[0]
            consumer = Consumer(storage, need_of(tables, "s", ["m"])).install().load()
            tables.execute("INSERT INTO s VALUES (1, 'sad'); UPDATE s SET k = 2; DELETE FROM s")
            assert consumer.changes().rows == 4
            tables.execute("INSERT INTO s VALUES (9, 'sad'); TRUNCATE s")
            consumer.assert_exact()
            capture.uninstall(storage)
        row = tables.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 's'::regclass").fetchone()
        assert row == (0,)
    finally:
        tables.execute("DROP OWNED BY modest; DROP ROLE modest")


def test_missing_privileges_are_said_as_grants(db: str, tables: User) -> None:
    tables.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger")
    try:
        tables.execute(f"GRANT CREATE ON DATABASE {tables.info.dbname} TO stranger")
        with engine_db.connect(db, role="stranger") as storage:
            installation.install(storage)
            tables.execute("GRANT TRIGGER ON s TO stranger; GRANT SELECT (k, m) ON s TO stranger")
            with pytest.raises(engine_db.errors.PermissionDenied, match="single columns is not enough") as caught:
                Consumer(storage, need_of(tables, "s")).install()
            assert caught.value.hint == 'GRANT SELECT, TRIGGER ON "public"."s" TO "stranger"'
    finally:
        tables.execute("DROP OWNED BY stranger; DROP ROLE stranger")
