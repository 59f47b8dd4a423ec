"""Partitioned tables, single partitions, inheritance."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle import db as engine_db
from pgtrickle.capture import Severity
from tests.support.consumers import Consumer, need_of, relid_of

User = psycopg.Connection[Any]


@pytest.fixture
def tree(conn: User) -> User:
    """pt: p1, p2 (with two sub-partitions), pd (default). Attribute numbers differ between the partitions."""
    conn.execute(
        "CREATE TABLE pt (gone text, k integer, v text) PARTITION BY RANGE (k); ALTER TABLE pt DROP COLUMN gone;"
        "CREATE TABLE p1 (v text, x1 integer, k integer); ALTER TABLE p1 DROP COLUMN x1;"
        "ALTER TABLE pt ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE p2 PARTITION OF pt FOR VALUES FROM (100) TO (200) PARTITION BY HASH (v);"
        "CREATE TABLE p2a PARTITION OF p2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE p2b PARTITION OF p2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "CREATE TABLE pd PARTITION OF pt DEFAULT;"
        "INSERT INTO pt (k, v) SELECT g, 'v' || g FROM generate_series(0, 290, 10) g"
    )
    return conn


SCRIPT = (
    "INSERT INTO pt (k, v) SELECT g, 'n' || g FROM generate_series(5, 305, 20) g",
    "INSERT INTO p1 (k, v) VALUES (7, 'direct')",
    "INSERT INTO p2 (k, v) VALUES (107, 'middle'), (108, 'middle too')",
    "UPDATE pt SET k = k + 100 WHERE k BETWEEN 20 AND 60",
    "UPDATE p2 SET v = v || '!'",
    "UPDATE p1 SET v = 'leaf' WHERE k = 0",
    "DELETE FROM pt WHERE k % 3 = 0",
    "DELETE FROM p2b",
    "INSERT INTO pd (k, v) VALUES (1000, 'default')",
    "TRUNCATE p2a",
    "BEGIN; TRUNCATE pt; INSERT INTO pt (k, v) VALUES (1, 'reloaded'), (150, 'reloaded'), (999, NULL); COMMIT",
)


@pytest.mark.parametrize("name", ["pt", "p1", "p2", "p2a", "p2b", "pd"])
def test_table_at_any_level_is_captured_whichever_level_is_named(
    name: str, storage: engine_db.Connection, tree: User
) -> None:
    consumer = Consumer(storage, need_of(tree, name)).install().load()
    for statement in SCRIPT:
        tree.execute(statement)
        consumer.assert_exact()


@pytest.mark.parametrize("named", ["pt", "p2"])
def test_row_that_leaves_its_partition_is_a_change_even_if_nothing_captured_changed(
    named: str, storage: engine_db.Connection, tree: User
) -> None:
    consumers = [Consumer(storage, need_of(tree, name, ["v"])).install().load() for name in ("p1", "p2", "p2a", "pt")]
    tree.execute("UPDATE pt SET k = k + 100 WHERE k = 10")
    tree.execute(f"UPDATE {named} SET v = v || 'x' WHERE k = 110")
    for consumer in consumers:
        consumer.assert_exact()


MOVED = {
    "moved": ("pt", "UPDATE SET k = pt.k + 100"),
    "moved_below": ("pt", "UPDATE SET v = pt.v || 'y'"),
    "moved_in_the_middle": ("p2", "UPDATE SET v = p2.v || 'y'"),
    "moved_and_deleted": ("pt", "AND pt.k = 20 THEN DELETE WHEN MATCHED THEN UPDATE SET k = pt.k + 100"),
    "moved_and_inserted": ("pt", "UPDATE SET k = pt.k + 100 WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, 'new')"),
    "moved_or_not": ("pt", "UPDATE SET k = pt.k + CASE s.k WHEN 20 THEN 1 ELSE 100 END"),
}
"""MERGE INTO .. WHEN MATCHED THEN (or AND): at least one row goes to another partition."""


def _merge(named: str, action: str, keys: str = "(10), (20), (100), (130), (140), (5000)") -> str:
    matched = "WHEN MATCHED " if action.startswith("AND") else "WHEN MATCHED THEN "
    return f"MERGE INTO {named} USING (VALUES {keys}) AS s (k) ON s.k = {named}.k {matched}{action}"


@pytest.mark.min_major(15)
@pytest.mark.parametrize("rows", [True, False], ids=["rows", "marks"])
@pytest.mark.parametrize("moved", MOVED)
def test_merge_that_moves_a_row_to_another_partition_leaves_a_mark(
    moved: str, rows: bool, storage: engine_db.Connection, tree: User
) -> None:
    """PostgreSQL shows such rows to no transition table of an UPDATE."""
    consumers = [Consumer(storage, need_of(tree, name, rows=rows)).install().load() for name in ("pt", "p2")]
    tree.execute(_merge(*MOVED[moved]))
    assert all(consumer.changes().marked for consumer in consumers)


@pytest.mark.min_major(15)
@pytest.mark.parametrize("name", ["pt", "p2", "p2b", "pd"])
def test_merge_that_moves_no_row_is_captured_as_rows(name: str, storage: engine_db.Connection, tree: User) -> None:
    consumer = Consumer(storage, need_of(tree, name)).install().load()
    for statement in (
        _merge("pt", "UPDATE SET k = pt.k + 1", "(10), (20), (5000)"),
        _merge("pt", "AND s.k = 21 THEN DELETE WHEN MATCHED THEN UPDATE SET k = pt.k - 1", "(11), (21)"),
        _merge("pt", "UPDATE SET k = pt.k WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, 'new')"),
        "WITH a AS (DELETE FROM pt WHERE k = 10) UPDATE pt SET k = k + 0 WHERE k > 200",
    ):
        tree.execute(statement)
        consumer.assert_exact()


@pytest.mark.min_major(15)
def test_column_of_a_new_level_of_partitions_is_watched_when_it_is_merged(
    storage: engine_db.Connection, tree: User
) -> None:
    consumer = Consumer(storage, need_of(tree, "pt")).install().load()
    tree.execute(
        "ALTER TABLE pt ADD w integer; ALTER TABLE pt DETACH PARTITION p1;"
        "CREATE TABLE deep PARTITION OF pt FOR VALUES FROM (0) TO (100) PARTITION BY LIST (w);"
        "CREATE TABLE deep1 PARTITION OF deep FOR VALUES IN (1); CREATE TABLE deep2 PARTITION OF deep DEFAULT;"
        "INSERT INTO pt (k, w) VALUES (10, 1)"
    )
    capture.repair(storage, [consumer.id])
    consumer.load()
    tree.execute(_merge("pt", "UPDATE SET w = 2", "(10)"))
    assert consumer.changes().marked


def test_consumers_of_root_and_of_one_partition_do_not_disturb_each_other(
    storage: engine_db.Connection, tree: User
) -> None:
    both = [Consumer(storage, need_of(tree, name)).install().load() for name in ("pt", "p2")]
    for statement in SCRIPT:
        tree.execute(statement)
    for consumer in both:
        consumer.assert_exact()


def _differences(consumer: Consumer, recorded: capture.Facts) -> dict[str, Severity]:
    present = capture.fingerprint(consumer.conn, [consumer.id])[consumer.id]
    return {difference.kind: difference.severity for difference in capture.compare(recorded, present)}


def _facts(consumer: Consumer) -> capture.Facts:
    return capture.fingerprint(consumer.conn, [consumer.id])[consumer.id]


def test_new_empty_partition_costs_a_repair_but_no_recompute(storage: engine_db.Connection, tree: User) -> None:
    tree.execute("DROP TABLE pd")
    consumer = Consumer(storage, need_of(tree, "pt")).install().load()
    recorded = _facts(consumer)
    tree.execute("CREATE TABLE p3 PARTITION OF pt FOR VALUES FROM (200) TO (300)")
    assert _differences(consumer, recorded) == {"capture": Severity.REPAIR}
    assert capture.repair(storage, [consumer.id]) == ()
    assert _differences(consumer, recorded) == {"files": Severity.HARMLESS}
    tree.execute("INSERT INTO p3 (k, v) VALUES (201, 'direct'); INSERT INTO pt (k, v) VALUES (202, 'root')")
    consumer.assert_exact()


def test_partition_attached_with_rows_asks_for_a_recompute(storage: engine_db.Connection, tree: User) -> None:
    tree.execute("DROP TABLE pd")
    consumer = Consumer(storage, need_of(tree, "pt")).install().load()
    recorded = _facts(consumer)
    tree.execute("CREATE TABLE p3 (k integer, v text); INSERT INTO p3 VALUES (201, 'before')")
    tree.execute("ALTER TABLE pt ATTACH PARTITION p3 FOR VALUES FROM (200) TO (300)")
    assert [source.generation for source in capture.repair(storage, [consumer.id])] == [1]
    assert _differences(consumer, recorded) == {"generation": Severity.RECOMPUTE}


def test_detached_partition_is_not_captured_any_more(storage: engine_db.Connection, tree: User) -> None:
    consumer = Consumer(storage, need_of(tree, "pt")).install().load()
    recorded = _facts(consumer)
    tree.execute("ALTER TABLE pt DETACH PARTITION p1")
    assert _differences(consumer, recorded)["capture"] == Severity.REPAIR
    assert len(capture.repair(storage, [consumer.id])) == 1
    consumer.load()
    tree.execute("INSERT INTO p1 (k, v) VALUES (3, 'elsewhere'); TRUNCATE p1")
    consumer.assert_exact()
    row = tree.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'p1'::regclass").fetchone()
    assert row == (0,)


def test_dropped_partition_asks_for_a_recompute(storage: engine_db.Connection, tree: User) -> None:
    consumer = Consumer(storage, need_of(tree, "pt")).install().load()
    tree.execute("DROP TABLE p1")
    assert len(capture.repair(storage, [consumer.id])) == 1
    assert capture.repair(storage, [consumer.id]) == ()


def test_default_partition_is_filtered_anew_when_a_partition_is_added(
    storage: engine_db.Connection, tree: User
) -> None:
    tree.execute("DELETE FROM pt WHERE k >= 200")
    consumer = Consumer(storage, need_of(tree, "pd")).install().load()
    recorded = _facts(consumer)
    tree.execute("CREATE TABLE p3 PARTITION OF pt FOR VALUES FROM (200) TO (300)")
    assert _differences(consumer, recorded) == {"capture": Severity.REPAIR}
    capture.repair(storage, [consumer.id])
    assert _differences(consumer, recorded) == {"generation": Severity.RECOMPUTE}
    consumer.load()
    tree.execute("INSERT INTO pt (k, v) VALUES (250, 'not default'), (500, 'default')")
    consumer.assert_exact()


def test_attach_during_a_refresh_is_seen_at_its_end(storage: engine_db.Connection, tree: User) -> None:
    tree.execute("DROP TABLE pd")
    consumer = Consumer(storage, need_of(tree, "pt")).install().load()
    tree.execute("CREATE TABLE p3 (k integer, v text); INSERT INTO p3 VALUES (201, 'slips in')")
    with engine_db.transaction(storage, repeatable_read=True):
        facts = capture.fingerprint(storage, [consumer.id])
        assert capture.partitions_changed(storage, facts) == ()
        tree.execute("ALTER TABLE pt ATTACH PARTITION p3 FOR VALUES FROM (200) TO (300)")
        again = capture.fingerprint(storage, [consumer.id])[consumer.id]
        assert "capture" not in {found.kind for found in capture.compare(facts[consumer.id], again)}
        (difference,) = capture.partitions_changed(storage, facts)
    assert difference.severity == Severity.REPAIR


@pytest.fixture
def heirs(conn: User) -> User:
    """Plain inheritance over two generations, with columns of their own."""
    conn.execute(
        "CREATE TABLE parent (k integer, v text);"
        "CREATE TABLE child (extra integer) INHERITS (parent);"
        "CREATE TABLE grandchild (more integer) INHERITS (child);"
        "INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 0);"
        "INSERT INTO grandchild VALUES (3, 'g', 0, 0)"
    )
    return conn


def test_parent_is_captured_with_its_children(storage: engine_db.Connection, heirs: User) -> None:
    consumer = Consumer(storage, need_of(heirs, "parent")).install().load()
    for statement in (
        "INSERT INTO child VALUES (20, 'c', 1)",
        "UPDATE parent SET v = v || '!'",
        "UPDATE ONLY parent SET v = 'only'",
        "UPDATE child SET k = k + 1",
        "DELETE FROM grandchild",
        "INSERT INTO grandchild VALUES (30, 'g', 1, 1)",
        "TRUNCATE ONLY child",
        "TRUNCATE parent",
    ):
        heirs.execute(statement)
        consumer.assert_exact()


HEIRS_SCRIPT = (
    "INSERT INTO parent VALUES (9, 'not in a child')",
    "INSERT INTO child VALUES (20, 'c', 1), (21, 'c', 2)",
    "INSERT INTO grandchild SELECT g, 'g', g, g FROM generate_series(30, 40) g",
    "COPY child FROM PROGRAM 'echo 22,copied,5' (FORMAT csv)",
    "UPDATE parent SET v = v || '!'",
    "UPDATE parent SET v = v",
    "UPDATE ONLY parent SET v = 'only'",
    "UPDATE ONLY child SET extra = extra + 1",
    "UPDATE child SET k = k + 1 WHERE extra > 1",
    "DELETE FROM ONLY child WHERE k = 22",
    "DELETE FROM parent WHERE k % 3 = 0",
    "DELETE FROM grandchild WHERE k < 35",
    "BEGIN; UPDATE parent SET k = 0; ROLLBACK",
    "WITH gone AS (DELETE FROM grandchild RETURNING *) INSERT INTO child SELECT k, v, extra FROM gone",
    "TRUNCATE ONLY child",
    "INSERT INTO child VALUES (50, 'again', 1); INSERT INTO grandchild VALUES (51, 'again', 1, 1)",
    "BEGIN; TRUNCATE parent; INSERT INTO grandchild VALUES (60, 'reloaded', 6, 6); COMMIT",
    "TRUNCATE child",
)


@pytest.mark.parametrize("name", ["parent", "child", "grandchild"])
def test_member_of_a_hierarchy_is_captured_whichever_table_is_named(
    name: str, storage: engine_db.Connection, heirs: User
) -> None:
    consumer = Consumer(storage, need_of(heirs, name)).install().load()
    assert consumer.source.trigger_level == ("statement" if name == "parent" else "mixed")
    for statement in HEIRS_SCRIPT:
        heirs.execute(statement)
        consumer.assert_exact()


def test_consumers_of_all_generations_do_not_disturb_each_other(storage: engine_db.Connection, heirs: User) -> None:
    names = ("parent", "child", "grandchild", "child")
    consumers = [Consumer(storage, need_of(heirs, name)).install().load() for name in names]
    for statement in HEIRS_SCRIPT:
        heirs.execute(statement)
        consumers[-1].assert_exact()
    for consumer in consumers:
        consumer.assert_exact()


@pytest.mark.min_major(15)
def test_merge_into_a_parent_is_captured_where_the_rows_are(storage: engine_db.Connection, heirs: User) -> None:
    consumers = [Consumer(storage, need_of(heirs, name)).install().load() for name in ("parent", "child", "grandchild")]
    heirs.execute(
        "MERGE INTO parent USING (VALUES (1), (2), (3), (4)) AS s (k) ON s.k = parent.k"
        " WHEN MATCHED AND s.k = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 'merged'"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.k, 'merged')"
    )
    for consumer in consumers:
        consumer.assert_exact()


def test_child_of_two_parents_is_captured_for_both(storage: engine_db.Connection, heirs: User) -> None:
    heirs.execute("CREATE TABLE other (k integer, w text); CREATE TABLE both_of () INHERITS (parent, other)")
    heirs.execute("INSERT INTO both_of VALUES (70, 'b', 'w'); INSERT INTO other VALUES (71, 'o')")
    consumers = [Consumer(storage, need_of(heirs, name)).install().load() for name in ("parent", "other", "both_of")]
    for statement in (
        "UPDATE other SET k = k + 100",
        "UPDATE parent SET v = v || '?'",
        "INSERT INTO both_of VALUES (72, 'b', 'w')",
        "DELETE FROM other WHERE k > 100",
        "TRUNCATE other",
    ):
        heirs.execute(statement)
        for consumer in consumers:
            consumer.assert_exact()


def test_marks_of_a_child_need_no_rows(storage: engine_db.Connection, heirs: User) -> None:
    marks = Consumer(storage, need_of(heirs, "child", rows=False)).install().load()
    heirs.execute("INSERT INTO parent VALUES (9, 'not in the child')")
    assert not marks.changes().marked
    heirs.execute("UPDATE parent SET v = 'through the parent'")
    assert marks.changes().marked
    rows = Consumer(storage, need_of(heirs, "child")).install().load()
    assert (marks.source.generation, rows.source.trigger_level) == (0, "mixed")
    heirs.execute("UPDATE parent SET v = 'by row'")
    rows.assert_exact()


def test_table_that_becomes_a_child_is_recomputed(storage: engine_db.Connection, heirs: User) -> None:
    heirs.execute("CREATE TABLE lone (k integer, v text); INSERT INTO lone VALUES (80, 'l')")
    consumer = Consumer(storage, need_of(heirs, "lone")).install().load()
    recorded = _facts(consumer)
    heirs.execute("ALTER TABLE lone INHERIT parent; UPDATE parent SET v = 'nobody sees this'")
    assert _differences(consumer, recorded)["capture"] == Severity.REPAIR
    assert len(capture.repair(storage, [consumer.id])) == 1
    consumer.load()
    heirs.execute("UPDATE parent SET v = 'now they do'")
    consumer.assert_exact()
    recorded = _facts(consumer)
    heirs.execute("ALTER TABLE lone NO INHERIT parent; UPDATE parent SET v = 'not here'; DELETE FROM lone")
    assert _differences(consumer, recorded)["capture"] == Severity.REPAIR
    assert len(capture.repair(storage, [consumer.id])) == 1
    assert consumer.source.trigger_level == "statement"
    consumer.load()
    heirs.execute("INSERT INTO lone VALUES (81, 'l')")
    consumer.assert_exact()


def test_trigger_that_was_disabled_is_noticed_also_when_capture_changes_its_level(
    storage: engine_db.Connection, heirs: User
) -> None:
    marks = Consumer(storage, need_of(heirs, "child", rows=False)).install().load()
    heirs.execute("ALTER TABLE child DISABLE TRIGGER ALL; UPDATE child SET v = 'unseen'")
    heirs.execute("ALTER TABLE child ENABLE TRIGGER ALL")
    Consumer(storage, need_of(heirs, "child")).install().load()
    assert marks.source.generation == 1


def test_child_added_to_a_parent_asks_for_a_repair(storage: engine_db.Connection, heirs: User) -> None:
    consumer = Consumer(storage, need_of(heirs, "parent")).install().load()
    recorded = _facts(consumer)
    heirs.execute("CREATE TABLE late () INHERITS (parent)")
    assert _differences(consumer, recorded) == {"capture": Severity.REPAIR}
    assert capture.repair(storage, [consumer.id]) == ()
    heirs.execute("INSERT INTO late VALUES (50, 'late')")
    consumer.assert_exact()


def test_what_no_trigger_can_watch_is_said(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE VIEW v AS SELECT 1 AS a; CREATE MATERIALIZED VIEW m AS SELECT 1 AS a")
    for name, word in (("v", "view"), ("m", "materialized"), ("pg_class", "system")):
        reason = capture.restrictions(storage, relid_of(conn, name))
        assert reason is not None
        assert word in reason
    need = need_of(conn, "m", rows=False, capturable=False)
    assert capture.install(storage, Consumer(storage, need).id, [need]) == ()
