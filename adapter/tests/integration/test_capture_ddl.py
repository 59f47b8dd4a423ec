"""DDL on a source neither breaks its writers nor goes unnoticed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle import db as engine_db
from pgtrickle.capture import Severity
from pgtrickle.catalog import sources
from pgtrickle.catalog.model import Dependency
from tests.support.consumers import Changes, Consumer, need_of, relid_of

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]

REANALYSE, RECOMPUTE, REPAIR, HARMLESS = (
    Severity.REANALYSE,
    Severity.RECOMPUTE,
    Severity.REPAIR,
    Severity.HARMLESS,
)


@pytest.fixture
def consumer(storage: engine_db.Connection, conn: User) -> Consumer:
    """A consumer of ``id`` and ``v`` of a table with a key."""
    conn.execute("CREATE TABLE t (id integer PRIMARY KEY, v numeric(6,2) NOT NULL, unread text)")
    conn.execute("INSERT INTO t SELECT g, g, 'u' FROM generate_series(1, 5) g")
    return Consumer(storage, need_of(conn, "t", ["id", "v"])).install().load()


def facts(consumer: Consumer) -> capture.Facts:
    """The present fingerprint."""
    return capture.fingerprint(consumer.conn, [consumer.id])[consumer.id]


UNSEEN = {
    "grant": "GRANT SELECT ON t TO PUBLIC",
    "analyze": "ANALYZE t",
    "add_column": "ALTER TABLE t ADD COLUMN more text DEFAULT 'x'",
    "drop_unread_column": "ALTER TABLE t DROP COLUMN unread",
    "rename_unread_column": "ALTER TABLE t RENAME COLUMN unread TO other",
    "storage_parameter": "ALTER TABLE t SET (fillfactor = 50)",
    "index": "CREATE INDEX ON t (v)",
    "comment": "COMMENT ON TABLE t IS 'x'",
    "a_users_trigger": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()"
    ),
}

SEEN = {
    "vacuum_full": ("VACUUM FULL t", "files", HARMLESS),
    "column_grant": ("GRANT SELECT (v) ON t TO PUBLIC", "column", HARMLESS),
    "statistics": ("ALTER TABLE t ALTER v SET STATISTICS 10", "column", HARMLESS),
    "default": ("ALTER TABLE t ALTER v SET DEFAULT 1", "column", HARMLESS),
    "more_unique": ("ALTER TABLE t ADD UNIQUE (v)", "key", HARMLESS),
    "same_type_rewrite": ("ALTER TABLE t ALTER v TYPE numeric(6,2) USING v * 2", "column", RECOMPUTE),
    "type": ("ALTER TABLE t ALTER v TYPE text", "column", REANALYSE),
    "typmod": ("ALTER TABLE t ALTER v TYPE numeric(10,2)", "column", REANALYSE),
    "drop_column": ("ALTER TABLE t DROP COLUMN v", "column", REANALYSE),
    "rename_column": ("ALTER TABLE t RENAME COLUMN v TO w", "column", REANALYSE),
    "drop_not_null": ("ALTER TABLE t ALTER v DROP NOT NULL", "column", REANALYSE),
    "drop_key": ("ALTER TABLE t DROP CONSTRAINT t_pkey", "key", REANALYSE),
    "row_security": ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "row_security", REANALYSE),
    "rename_table": ("ALTER TABLE t RENAME TO t2", "renamed", REANALYSE),
    "set_schema": ("CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s", "renamed", REANALYSE),
    "swap": ("ALTER TABLE t RENAME TO old; CREATE TABLE t (id integer, v numeric(6,2))", "rebound", REANALYSE),
    "drop_table": ("DROP TABLE t", "dropped", Severity.BROKEN),
    "recreate_table": ("DROP TABLE t; CREATE TABLE t (id integer, v numeric(6,2))", "rebound", REANALYSE),
    "disable_and_enable": ("ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL", "capture", REPAIR),
    "drop_trigger": ("DROP TRIGGER zz_pgtrickle_1_insert ON t", "capture", REPAIR),
    "unlogged": ("ALTER TABLE t SET UNLOGGED", "persistence", HARMLESS),
}


@pytest.mark.parametrize("statement", UNSEEN.values(), ids=UNSEEN.keys())
def test_ddl_that_does_not_matter_is_no_difference(statement: str, consumer: Consumer, conn: User) -> None:
    recorded = facts(consumer)
    conn.execute(statement)
    assert capture.compare(recorded, facts(consumer)) == ()
    conn.execute("INSERT INTO t (id, v) VALUES (100, 1)")
    consumer.assert_exact()


@pytest.mark.parametrize(("statement", "kind", "severity"), SEEN.values(), ids=SEEN.keys())
def test_ddl_that_matters_is_a_difference(
    statement: str, kind: str, severity: Severity, consumer: Consumer, conn: User
) -> None:
    recorded = facts(consumer)
    conn.execute(statement)
    found = {difference.kind: difference.severity for difference in capture.compare(recorded, facts(consumer))}
    assert found == {kind: severity}


BREAKING = {
    "drop_column": ("ALTER TABLE t DROP COLUMN v", "INSERT INTO t VALUES (50, 'u')"),
    "rename_column": ("ALTER TABLE t RENAME COLUMN v TO w", "INSERT INTO t (id, w) VALUES (50, 1)"),
    "type": ("ALTER TABLE t ALTER v TYPE text", "INSERT INTO t (id, v) VALUES (50, 'not a number')"),
    "wider_type": ("ALTER TABLE t ALTER id TYPE bigint", "INSERT INTO t (id, v) VALUES (5000000000, 1)"),
}


@pytest.mark.parametrize(("ddl", "insert"), BREAKING.values(), ids=BREAKING.keys())
def test_writers_go_on_after_ddl_on_captured_columns_and_leave_a_mark(
    ddl: str, insert: str, consumer: Consumer, conn: User
) -> None:
    conn.execute("INSERT INTO t (id, v) VALUES (49, 1)")
    conn.execute(ddl)
    conn.execute(insert)
    conn.execute("UPDATE t SET id = id + 1000; DELETE FROM t WHERE id < 1003")
    assert consumer.changes().marked
    conn.execute("TRUNCATE t")


@pytest.mark.parametrize(("ddl", "insert"), BREAKING.values(), ids=BREAKING.keys())
def test_writers_with_a_snapshot_of_before_the_ddl_go_on_too(
    ddl: str, insert: str, consumer: Consumer, conn: User, db: str
) -> None:
    with psycopg.connect(db) as writer:
        writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        writer.execute("SELECT")
        conn.execute(ddl)
        writer.execute(insert)
        writer.execute("UPDATE t SET id = id + 1000")
        writer.execute("DELETE FROM t")
    assert consumer.changes().marked


@pytest.mark.parametrize(("ddl", "insert"), BREAKING.values(), ids=BREAKING.keys())
def test_ddl_in_the_transaction_of_the_writer_is_met_and_forgotten_with_it(
    ddl: str, insert: str, consumer: Consumer, conn: User
) -> None:
    conn.execute("INSERT INTO t (id, v) VALUES (49, 1)")
    with conn.transaction(force_rollback=True):
        conn.execute(ddl)
        conn.execute(insert)
        assert conn.execute("SELECT count(*) FROM pgtrickle_changes.b_1 WHERE __w = 0").fetchone() == (1,)
    conn.execute("INSERT INTO t (id, v) VALUES (51, 2)")
    conn.execute("UPDATE t SET v = v + 1")
    consumer.assert_exact()


def test_statements_without_rows_leave_no_mark_where_columns_do_not_fit(consumer: Consumer, conn: User) -> None:
    conn.execute("ALTER TABLE t ALTER v TYPE text")
    conn.execute("INSERT INTO t SELECT WHERE false; UPDATE t SET v = 1 WHERE false; DELETE FROM t WHERE false")
    assert not consumer.changes().marked


def test_a_schema_that_is_renamed_is_nothing_to_its_writers(storage: engine_db.Connection, conn: User) -> None:
    conn.execute('CREATE SCHEMA "a b"; CREATE TABLE "a b"."t %" (id integer PRIMARY KEY, v text)')
    consumer = Consumer(storage, need_of(conn, '"a b"."t %"')).install().load()
    conn.execute("""INSERT INTO "a b"."t %" VALUES (1, 'a')""")
    conn.execute('ALTER SCHEMA "a b" RENAME TO "c d"')
    conn.execute("""INSERT INTO "c d"."t %" VALUES (2, 'b')""")
    conn.execute('ANALYZE "c d"."t %"')
    conn.execute("""INSERT INTO "c d"."t %" VALUES (3, 'c')""")
    conn.execute("""UPDATE "c d"."t %" SET v = 'd' WHERE id < 3""")
    assert consumer.changes() == Changes(rows=7, marked=False)


def test_wider_varchar_and_numeric_still_give_rows(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE t (a varchar(3), b numeric(4,1), c bit varying(2))")
    consumer = Consumer(storage, need_of(conn, "t")).install().load()
    conn.execute("ALTER TABLE t ALTER a TYPE varchar(9), ALTER b TYPE numeric(9,1), ALTER c TYPE bit varying(9)")
    conn.execute("INSERT INTO t VALUES ('longer', 12345678.9, '1010101')")
    consumer.assert_exact()


def test_capture_follows_a_column_to_its_new_type(consumer: Consumer, conn: User) -> None:
    conn.execute("ALTER TABLE t ALTER v TYPE text")
    consumer.install().load()
    conn.execute("INSERT INTO t VALUES (60, 'a text')")
    consumer.assert_exact()


def test_installing_again_changes_nothing_and_takes_no_lock_on_the_source(consumer: Consumer, conn: User) -> None:
    before = conn.execute("SELECT oid, xmin FROM pg_trigger ORDER BY 1").fetchall()
    conn.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    consumer.install(policy=engine_db.LockPolicy(give_up_after_s=0))
    conn.execute("ROLLBACK")
    assert conn.execute("SELECT oid, xmin FROM pg_trigger ORDER BY 1").fetchall() == before


def test_widening_is_no_difference_for_other_consumers(consumer: Consumer, conn: User) -> None:
    recorded = facts(consumer)
    Consumer(consumer.conn, need_of(conn, "t", ["unread"])).install()
    assert capture.compare(recorded, facts(consumer)) == ()
    conn.execute("UPDATE t SET unread = 'x', v = v + 1")
    consumer.assert_exact()


def test_unlogged_source_is_recomputed_after_a_crash(consumer: Consumer, conn: User) -> None:
    conn.execute("ALTER TABLE t SET UNLOGGED")
    recorded = facts(consumer)
    # What a crash does to an UNLOGGED table.
    conn.execute("TRUNCATE pgtrickle.canary")
    assert [found.kind for found in capture.compare(recorded, facts(consumer))] == ["crash"]
    capture.trim(consumer.conn)
    assert [found.kind for found in capture.compare(recorded, facts(consumer))] == ["crash"]
    assert capture.compare(facts(consumer), facts(consumer)) == ()


def test_frontier_from_the_future_asks_for_a_recompute(consumer: Consumer, conn: User) -> None:
    recorded = facts(consumer)
    conn.execute("UPDATE pgtrickle.frontiers SET snapshot = '900000000:900000000:'")
    assert [found.kind for found in capture.compare(recorded, facts(consumer))] == ["restored"]


def test_another_cluster_asks_for_a_recompute(consumer: Consumer) -> None:
    recorded = {**facts(consumer), "cluster": "1/2"}
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [RECOMPUTE]


def depend(consumer: Consumer, kind: str, relid: int, schema: str, name: str) -> None:
    """Register something that is no table."""
    sources.upsert_dependency(consumer.conn, Dependency(consumer.id, 0, kind, relid, schema, name))


def test_recreated_view_with_the_same_text_is_no_difference(consumer: Consumer, conn: User) -> None:
    conn.execute("CREATE VIEW v AS SELECT id FROM t")
    depend(consumer, "view", relid_of(conn, "v"), "public", "v")
    recorded = facts(consumer)
    conn.execute(
        "SET search_path = pg_temp; DROP VIEW public.v; CREATE VIEW public.v AS SELECT id FROM public.t; RESET ALL"
    )
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [HARMLESS]
    recorded = facts(consumer)
    conn.execute("CREATE OR REPLACE VIEW v AS SELECT id FROM t WHERE id > 1")
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [REANALYSE]
    conn.execute("DROP VIEW v")
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [REANALYSE]


def test_new_body_of_a_function_asks_for_a_recompute(consumer: Consumer, conn: User) -> None:
    conn.execute("CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    row = conn.execute("SELECT 'f(integer)'::regprocedure::oid").fetchone()
    assert row is not None
    depend(consumer, "function", row[0], "public", "f(integer)")
    recorded = facts(consumer)
    conn.execute("GRANT EXECUTE ON FUNCTION f TO PUBLIC")
    assert capture.compare(recorded, facts(consumer)) == ()
    conn.execute("CREATE OR REPLACE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'")
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [RECOMPUTE]
    conn.execute("DROP FUNCTION f")
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [REANALYSE]


def test_labels_of_an_enum(consumer: Consumer, conn: User) -> None:
    conn.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    row = conn.execute("SELECT 'mood'::regtype::oid").fetchone()
    assert row is not None
    depend(consumer, "type", row[0], "public", "mood")
    recorded = facts(consumer)
    conn.execute("ALTER TYPE mood ADD VALUE 'meh' BEFORE 'happy'")
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [HARMLESS]
    conn.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    # The query may name it.
    assert [found.severity for found in capture.compare(recorded, facts(consumer))] == [REANALYSE]
