"""Stream tables over parents, children, partitions, FROM ONLY and tableoid, while tables come and go."""

from __future__ import annotations

import pytest

from pgtrickle.errors import InvalidQuery, UnsupportedQuery
from tests.support.oracle import assert_same_rows

PARTITIONS = """
    CREATE TABLE pt (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE p1 PARTITION OF pt FOR VALUES FROM (0) TO (100);
    CREATE TABLE p2 PARTITION OF pt FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (k);
    CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM (100) TO (150);
    INSERT INTO pt SELECT g, 'v' || g FROM generate_series(0, 140, 10) g
"""
HEIRS = """
    CREATE TABLE parent (id int PRIMARY KEY, v text);
    CREATE TABLE child (x int) INHERITS (parent);
    CREATE TABLE plain (id int PRIMARY KEY, v text);
    INSERT INTO parent VALUES (1, 'p'), (2, 'p');
    INSERT INTO child VALUES (3, 'c', 1);
    INSERT INTO plain VALUES (1, 'a'), (2, 'b')
"""
OVER_PARTITIONS = {
    "s_groups": "SELECT v, count(*) AS n, sum(k) AS s FROM pt GROUP BY v",
    "s_p1": "SELECT k, v FROM p1",
    "s_p2": "SELECT k, v FROM p2",
}
OVER_HEIRS = {
    "s_parent": "SELECT id, v FROM parent",
    "s_child": "SELECT id, v, x FROM child",
    "s_plain": "SELECT a.id, a.v, b.v AS w FROM plain a LEFT JOIN parent b ON b.id = a.id",
}
ATTACHED = (
    "CREATE TABLE x (k int, v text); INSERT INTO x VALUES (250, 'old');"
    "ALTER TABLE pt ATTACH PARTITION x FOR VALUES FROM (200) TO (300); UPDATE pt SET v = v || '!'"
)
P3 = "CREATE TABLE p3 PARTITION OF pt FOR VALUES FROM (200) TO (300)"
MOVED_TO_QT = (
    "CREATE TABLE qt (k int, v text) PARTITION BY RANGE (k); ALTER TABLE pt DETACH PARTITION p1;"
    "ALTER TABLE qt ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100);"
    "UPDATE qt SET v = 'through qt'; INSERT INTO qt VALUES (50, 'qt')"
)


def _create(engine, conn, queries):
    for name, query in queries.items():
        assert engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL").effective_mode == "DIFFERENTIAL"
        assert_same_rows(conn, name, query)


def _all_right(engine, conn, queries):
    """Refresh and compare all; the kinds of refresh."""
    actions = []
    for name, query in queries.items():
        actions.append(engine.refresh_stream_table(name).action)
        assert_same_rows(conn, name, query)
    return actions


@pytest.mark.edges_only
def test_partitions_that_come_and_go_between_refreshes_leave_nothing_behind(conn, engine):
    conn.execute(PARTITIONS)
    _create(engine, conn, OVER_PARTITIONS)
    for step in (
        f"{P3}; INSERT INTO pt VALUES (201, 'x'); DROP TABLE p3",
        f"{P3}; INSERT INTO pt VALUES (201, 'x'); ALTER TABLE pt DETACH PARTITION p3; DROP TABLE p3",
        f"BEGIN; {P3}; INSERT INTO pt VALUES (201, 'x'); TRUNCATE p3; COMMIT",
        "DROP TABLE p3; INSERT INTO pt VALUES (5, 'x')",
        f"{P3}; INSERT INTO pt VALUES (5, 'x'), (205, 'y')",
        "UPDATE pt SET k = k + 100 WHERE k BETWEEN 101 AND 199",
        "DROP TABLE p3",
        "CREATE TABLE p2b PARTITION OF p2 FOR VALUES FROM (150) TO (200); INSERT INTO pt VALUES (155, 'x');"
        "DROP TABLE p2b",
        f"{ATTACHED}; ALTER TABLE pt DETACH PARTITION x; DROP TABLE x",
        f"{ATTACHED}; DROP TABLE x",
        "ALTER TABLE pt DETACH PARTITION p1; INSERT INTO p1 VALUES (1, 'alone');"
        "ALTER TABLE pt ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100)",
        f"{MOVED_TO_QT}; ALTER TABLE qt DETACH PARTITION p1;"
        "ALTER TABLE pt ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100)",
        f"DROP TABLE qt; {MOVED_TO_QT}",
        "DELETE FROM qt WHERE k > 50",
    ):
        conn.execute(step)
        _all_right(engine, conn, OVER_PARTITIONS)


@pytest.mark.edges_only
def test_partition_detached_concurrently_is_gone(conn, engine):
    conn.execute(PARTITIONS)
    _create(engine, conn, OVER_PARTITIONS)
    conn.execute("ALTER TABLE pt DETACH PARTITION p1 CONCURRENTLY")
    conn.execute("INSERT INTO p1 VALUES (7, 'd')")
    _all_right(engine, conn, OVER_PARTITIONS)


def test_new_partition_that_no_statement_reached_costs_no_recompute(conn, engine):
    conn.execute(PARTITIONS)
    _create(engine, conn, OVER_PARTITIONS)
    conn.execute(f"{P3}; INSERT INTO pt VALUES (5, 'x'); UPDATE pt SET v = v || '!' WHERE k < 20")
    assert _all_right(engine, conn, OVER_PARTITIONS) == ["DIFFERENTIAL", "DIFFERENTIAL", "NO_DATA"]


@pytest.mark.edges_only
def test_children_that_come_and_go_between_refreshes_leave_nothing_behind(conn, engine):
    conn.execute(HEIRS)
    _create(engine, conn, OVER_HEIRS)
    for step in (
        "CREATE TABLE c2 () INHERITS (parent); INSERT INTO c2 VALUES (9, 't'); UPDATE parent SET v = 'a';DROP TABLE c2",
        "CREATE TABLE c2 () INHERITS (child); INSERT INTO c2 VALUES (1, 'd'); UPDATE parent SET v = 'b'; DROP TABLE c2",
        "CREATE TABLE c2 () INHERITS (plain); INSERT INTO c2 VALUES (1, 'd'); UPDATE plain SET v = 'c'; DROP TABLE c2",
        "CREATE TABLE c2 () INHERITS (parent); INSERT INTO c2 VALUES (1, 'dup'); DELETE FROM parent WHERE id = 1;"
        "ALTER TABLE c2 NO INHERIT parent; DROP TABLE c2",
        "CREATE TABLE c2 () INHERITS (plain)",
        "INSERT INTO c2 VALUES (1, 'dup')",
        "UPDATE plain SET v = v || '!'; UPDATE parent SET v = v || '!'",
        "DELETE FROM c2",
        "DROP TABLE c2; CREATE TABLE c2 (id int NOT NULL, v text, y int); INSERT INTO c2 VALUES (1, 'dup');"
        "ALTER TABLE c2 INHERIT plain",
        "DELETE FROM ONLY plain WHERE id = 1",
        "ALTER TABLE c2 NO INHERIT plain; DROP TABLE c2",
        "ALTER TABLE child NO INHERIT parent; UPDATE parent SET v = 'x'",
        "ALTER TABLE child INHERIT parent; UPDATE parent SET v = 'y'",
        "ALTER TABLE child NO INHERIT parent; UPDATE child SET v = 'x'; ALTER TABLE child INHERIT parent",
        "CREATE TABLE above (v text); ALTER TABLE child INHERIT above; UPDATE above SET v = 'z'; DELETE FROM above",
        "BEGIN; CREATE TABLE c2 () INHERITS (parent); INSERT INTO c2 VALUES (9, 'x'); UPDATE parent SET v = 'z';"
        "TRUNCATE c2; COMMIT",
    ):
        conn.execute(step)
        _all_right(engine, conn, OVER_HEIRS)


#: What comes while a transaction is under way, what that writes then, and what takes it away again.
UNDER_A_SNAPSHOT = {
    "partition": (P3, "INSERT INTO pt VALUES (201, 'x'), (1, 'y')", "DROP TABLE p3"),
    "attached": (
        "CREATE TABLE p3 (k int, v text); ALTER TABLE pt ATTACH PARTITION p3 FOR VALUES FROM (200) TO (300)",
        "UPDATE pt SET k = k + 110 WHERE k BETWEEN 90 AND 99; INSERT INTO pt VALUES (299, 'x')",
        "ALTER TABLE pt DETACH PARTITION p3; DROP TABLE p3",
    ),
    "below": (
        "CREATE TABLE p2b PARTITION OF p2 FOR VALUES FROM (150) TO (200) PARTITION BY RANGE (k);"
        "CREATE TABLE p2b1 PARTITION OF p2b FOR VALUES FROM (150) TO (160)",
        "INSERT INTO pt VALUES (155, 'x')",
        "DROP TABLE p2b",
    ),
    "two": (
        f"{P3}; CREATE TABLE p4 PARTITION OF pt FOR VALUES FROM (300) TO (400); DROP TABLE p4",
        "INSERT INTO pt VALUES (201, 'x')",
        "DROP TABLE p3",
    ),
    # Rows of it look like rows that are there, so that no delta is refused for deleting what there is not.
    "child": (
        "CREATE TABLE c2 () INHERITS (parent)",
        "INSERT INTO c2 VALUES (9, 'o'); UPDATE parent SET v = 'x' WHERE tableoid = 'c2'::regclass",
        "DROP TABLE c2",
    ),
    "grandchild": (
        "ALTER TABLE orphan INHERIT child",
        "DELETE FROM parent WHERE tableoid = 'orphan'::regclass",
        "ALTER TABLE orphan NO INHERIT child; INSERT INTO orphan VALUES (9, 'o')",
    ),
    "first child": (
        "ALTER TABLE orphan INHERIT plain",
        "UPDATE plain SET v = v || '!' WHERE tableoid = 'orphan'::regclass",
        "ALTER TABLE orphan NO INHERIT plain; UPDATE orphan SET v = 'o'",
    ),
}


@pytest.mark.edges_only
def test_tables_that_come_after_a_writers_snapshot_and_go_before_a_refresh_leave_nothing_behind(conn, connect, engine):
    queries = OVER_PARTITIONS | {"s_parent": OVER_HEIRS["s_parent"], "s_plain": "SELECT id, v FROM plain"}
    conn.execute(PARTITIONS + ";" + HEIRS)
    conn.execute("CREATE TABLE orphan (id int NOT NULL, v text, x int); INSERT INTO orphan VALUES (9, 'o')")
    conn.execute("INSERT INTO parent VALUES (9, 'o'); INSERT INTO plain VALUES (9, 'o')")
    _create(engine, conn, queries)
    with connect() as seasoned:
        for come, write, go in UNDER_A_SNAPSHOT.values():
            seasoned.execute("INSERT INTO pt VALUES (95, 'first'), (105, 'first')")
            seasoned.execute("UPDATE parent SET v = v; UPDATE plain SET v = v")
            _all_right(engine, conn, queries)
            with connect() as fresh:
                for writer, level in ((fresh, "REPEATABLE READ"), (seasoned, "SERIALIZABLE")):
                    writer.execute(f"BEGIN ISOLATION LEVEL {level}")
                    writer.execute("SELECT FROM plain")
                    conn.execute(come)
                    writer.execute(write)
                    writer.execute("COMMIT")
                    conn.execute(go)
                    _all_right(engine, conn, queries)


@pytest.mark.newest_only
def test_transactions_with_a_snapshot_pay_no_recompute_for_a_partition_that_they_do_not_reach(conn, connect, engine):
    conn.execute(PARTITIONS)
    _create(engine, conn, OVER_PARTITIONS)
    with connect() as writer:
        writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pt; INSERT INTO pt VALUES (6, 'x')")
        conn.execute(
            "CREATE TABLE p3 (k int, v text); ALTER TABLE pt ATTACH PARTITION p3 FOR VALUES FROM (200) TO (300)"
        )
        writer.execute("INSERT INTO pt VALUES (5, 'x'); UPDATE pt SET v = v || '!' WHERE k < 20; COMMIT")
        assert _all_right(engine, conn, OVER_PARTITIONS) == ["DIFFERENTIAL", "DIFFERENTIAL", "NO_DATA"]


@pytest.mark.newest_only
def test_transactions_with_a_snapshot_do_not_wait_for_partitions_that_they_do_not_reach(conn, connect, engine):
    conn.execute(PARTITIONS)
    _create(engine, conn, OVER_PARTITIONS)
    with connect() as writer, connect() as other:
        other.execute("BEGIN; LOCK TABLE p2a IN ACCESS EXCLUSIVE MODE")
        writer.execute("SET statement_timeout = '10s'; BEGIN ISOLATION LEVEL REPEATABLE READ")
        writer.execute("INSERT INTO pt VALUES (5, 'x')")
        other.execute("COMMIT; BEGIN; LOCK TABLE p2a IN ACCESS EXCLUSIVE MODE NOWAIT; COMMIT")
        writer.execute("INSERT INTO pt VALUES (105, 'x'); COMMIT")
        assert "FULL" in _all_right(engine, conn, OVER_PARTITIONS)
        writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO pt VALUES (105, 'x'); COMMIT")
        assert "FULL" not in _all_right(engine, conn, OVER_PARTITIONS)


#: Each reads what only the table of a row tells; name -> query.
TOLD_APART = {
    "s_only": "SELECT id, v FROM ONLY parent",
    "s_only_child": "SELECT id, v, x FROM ONLY child",
    "s_oid": "SELECT tableoid AS t, id, v FROM parent",
    "s_names": "SELECT tableoid::regclass::text AS t, count(*) AS n, sum(k) AS s FROM pt GROUP BY 1",
    "s_leaf": "SELECT p.tableoid AS t, p.k FROM p1 p",
    "s_constant": "SELECT tableoid AS t, id FROM plain",
    "s_self": "SELECT a.id, b.v FROM ONLY parent a LEFT JOIN parent b ON a.id = b.id AND a.tableoid <> b.tableoid",
    "s_both": "SELECT a.id, b.tableoid::regclass AS t FROM parent a JOIN ONLY parent b USING (id)",
    "s_array": "SELECT a.id, ARRAY(SELECT p.tableoid::regclass::text FROM pt p WHERE p.k / 50 = a.id ORDER BY 1) AS t"
    " FROM plain a",
    "s_window": "SELECT id, row_number() OVER (PARTITION BY tableoid ORDER BY id) AS n FROM parent",
    "s_row": "SELECT p AS r, tableoid AS t FROM parent p",
    "s_view": "SELECT place, count(*) AS n FROM places GROUP BY place",
}


@pytest.mark.newest_only
def test_rows_are_told_apart_by_their_table(conn, engine):
    if conn.info.server_version >= 180000:
        conn.execute("SET enable_self_join_elimination = off")
    conn.execute(PARTITIONS)
    conn.execute(HEIRS)
    conn.execute("CREATE VIEW places AS SELECT k, tableoid::regclass AS place FROM pt")
    _create(engine, conn, TOLD_APART)
    for statements in (
        "INSERT INTO parent VALUES (10, 'a'); INSERT INTO child VALUES (1, 'dup', 2), (11, 'c', 3)",
        "UPDATE parent SET v = v || '!'; DELETE FROM ONLY pt",
        "UPDATE ONLY parent SET id = id + 100 WHERE id = 2; DELETE FROM parent WHERE id = 1",
        "UPDATE pt SET k = k + 100 WHERE k IN (10, 20)",
        "INSERT INTO pt VALUES (99, 'x'), (111, 'y'); INSERT INTO p1 VALUES (3, 'z'); INSERT INTO p2 VALUES (144, 'z')",
        "INSERT INTO plain VALUES (7, 'q'); UPDATE plain SET v = 'r' WHERE id = 1; TRUNCATE ONLY parent",
        "UPDATE pt SET k = k - 100 WHERE k > 100; INSERT INTO parent VALUES (1, 'p'); TRUNCATE child",
    ):
        conn.execute(statements)
        assert "FULL" not in _all_right(engine, conn, TOLD_APART)
    for statements in (
        f"CREATE TABLE c3 () INHERITS (plain); {P3}",
        "INSERT INTO c3 VALUES (1, 'dup'); UPDATE plain SET v = v || '?'; UPDATE pt SET k = k + 200 WHERE k < 30",
        "DELETE FROM ONLY plain WHERE id = 1; DROP TABLE c3; ALTER TABLE pt DETACH PARTITION p3",
    ):
        conn.execute(statements)
        _all_right(engine, conn, TOLD_APART)
    assert all(engine.verify(name).proven for name in TOLD_APART)


def test_renaming_a_table_renews_what_shows_its_name(conn, engine):
    conn.execute(PARTITIONS)
    query = "SELECT tableoid::regclass::text AS t, count(*) AS n FROM pt GROUP BY 1"
    _create(engine, conn, {"s": query})
    conn.execute("ALTER TABLE p2a RENAME TO p2z")
    assert engine.refresh_stream_table("s").action == "FULL"
    assert_same_rows(conn, "s", query)
    conn.execute("CREATE SCHEMA elsewhere; ALTER TABLE p1 SET SCHEMA elsewhere; INSERT INTO pt VALUES (1, 'x')")
    engine.refresh_stream_table("s")
    assert_same_rows(conn, "s", query)


def test_names_are_shown_as_the_search_path_of_the_definition_says(conn, engine):
    conn.execute(PARTITIONS)
    query = "SELECT k, tableoid::regclass::text AS name FROM pt"
    _create(engine, conn, {"s": query})
    conn.execute("INSERT INTO pt VALUES (3, 't')")
    assert _all_right(engine, conn, {"s": query}) == ["DIFFERENTIAL"]


def test_readers_with_and_without_only_share_what_is_captured(conn, engine):
    conn.execute(HEIRS)
    queries = {"s_all": "SELECT id, v FROM parent", "s_only": "SELECT id, v FROM ONLY parent"}
    _create(engine, conn, queries)
    conn.execute("UPDATE parent SET v = 'both'")
    assert _all_right(engine, conn, queries) == ["DIFFERENTIAL", "DIFFERENTIAL"]
    engine.drop_stream_table("s_only")
    conn.execute("UPDATE parent SET v = 'one'")
    assert _all_right(engine, conn, {"s_all": queries["s_all"]}) == ["DIFFERENTIAL"]
    row = conn.execute("SELECT trigger_level, columns FROM pgtrickle.sources").fetchone()
    assert row == ("statement", [1, 2])


def test_other_system_columns_run_full_and_cannot_be_names_of_columns(conn, engine):
    conn.execute(HEIRS)
    for query in (
        "SELECT id, ctid AS place FROM plain",
        "SELECT id, ARRAY(SELECT b.ctid FROM plain b WHERE b.id > a.id) AS places FROM plain a",
        "SELECT id, (SELECT max(b.xmin::text) FROM plain b) AS x FROM plain a",
    ):
        with pytest.raises(UnsupportedQuery, match="system column"):
            engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    with pytest.raises(InvalidQuery, match="tableoid") as caught:
        engine.create_stream_table("s", "SELECT tableoid, id FROM plain")
    assert "AS" in (caught.value.hint or "")


def test_columns_named_like_variables_of_triggers_are_captured_by_their_values(conn, engine):
    conn.execute("CREATE TABLE odd (tg_relid oid, tg_op text); CREATE TABLE heir () INHERITS (odd)")
    conn.execute("INSERT INTO odd VALUES (1, 'UPDATE'); INSERT INTO heir VALUES (2, 'DELETE')")
    queries = {"s": "SELECT tableoid AS t, tg_relid, tg_op FROM odd", "h": "SELECT tg_relid, tg_op FROM heir"}
    _create(engine, conn, queries)
    conn.execute(
        "INSERT INTO odd VALUES (3, 'TRUNCATE'); INSERT INTO heir VALUES (4, 'x'); UPDATE odd SET tg_relid = 9"
    )
    assert _all_right(engine, conn, queries) == ["DIFFERENTIAL", "DIFFERENTIAL"]
