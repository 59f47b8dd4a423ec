"""A refresh like those before takes two messages; whatever is not like before is refreshed as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle

pytestmark = pytest.mark.edges_only

FORESEEN = 2
#: Two stages, two tables; a share can fail.
QUERY = (
    "SELECT d.name, count(*) AS n, sum(t.v) AS v, count(DISTINCT t.w) AS w, min(100 / t.share) AS share"
    " FROM t JOIN d ON d.k = t.k GROUP BY d.name"
)
Oracle = Callable[..., None]
Conn = psycopg.Connection[Any]


@pytest.fixture
def s(conn: Conn, engine: PgTrickle) -> PgTrickle:
    conn.execute(
        """
        CREATE TABLE d (k int PRIMARY KEY, name text);
        CREATE TABLE t (id int PRIMARY KEY, k int, v numeric, w int, share int DEFAULT 1);
        INSERT INTO d SELECT n, 'name ' || n FROM generate_series(0, 9) n;
        INSERT INTO t SELECT n, n % 10, n, n % 7 FROM generate_series(1, 3000) n;
        """
    )
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    _changed(conn, engine, "UPDATE t SET v = v + 1 WHERE id = 1")
    assert _changed(conn, engine, "UPDATE t SET v = v + 1 WHERE id = 2") == FORESEEN
    return engine


def _changed(conn: Conn, engine: PgTrickle, statement: str) -> int:
    """How many messages the refresh after this statement takes."""
    conn.execute(statement)
    result = engine.refresh_stream_table("public.s")
    assert result.action == "DIFFERENTIAL"
    return result.statements


@pytest.mark.parametrize(
    ("statement", "again"),
    [
        ("INSERT INTO t VALUES (5000, 3, 1, 1)", FORESEEN),
        ("DELETE FROM t WHERE id < 20", FORESEEN),
        # Another source, or both, are foreseen from the second time on.
        ("UPDATE d SET name = name || '!' WHERE k = 1", FORESEEN),
        ("UPDATE d SET name = name || '!' WHERE k = 1; UPDATE t SET v = v + 1 WHERE id = 9", FORESEEN),
        # More rows than a small window has; the next one may have as many.
        ("UPDATE t SET v = v + 1", None),
        ("UPDATE t SET id = id + 10000; UPDATE t SET v = v + 1", None),
    ],
)
def test_changes_of_any_kind_are_applied(
    conn: Conn, s: PgTrickle, oracle: Oracle, statement: str, again: int | None
) -> None:
    _changed(conn, s, statement)
    oracle(conn, "s", QUERY)
    spent = _changed(conn, s, statement.replace("5000", "5001").replace("< 20", "< 40"))
    assert again is None or spent == again
    oracle(conn, "s", QUERY)
    _changed(conn, s, "UPDATE t SET v = v + 1, w = 99 WHERE id % 100 = 7")
    assert _changed(conn, s, "UPDATE t SET v = v + 1, w = 98 WHERE id % 100 = 7") == FORESEEN
    oracle(conn, "s", QUERY)
    assert s.verify("s").proven


def test_without_changes_a_refresh_takes_two_messages_and_says_so(conn: Conn, s: PgTrickle) -> None:
    result = s.refresh_stream_table("public.s")
    assert (result.action, result.statements) == ("NO_DATA", FORESEEN)
    assert _changed(conn, s, "UPDATE t SET v = v + 1 WHERE id = 1") == FORESEEN


def test_what_a_session_has_prepared_may_be_gone(conn: Conn, s: PgTrickle, oracle: Oracle) -> None:
    s.own_conn.execute("DEALLOCATE ALL")
    assert _changed(conn, s, "UPDATE t SET v = v + 1 WHERE id = 1") == FORESEEN
    oracle(conn, "s", QUERY)
    assert s.verify("s").proven  # which ends by a rollback
    assert _changed(conn, s, "UPDATE t SET v = v + 1 WHERE id = 1") == FORESEEN
    oracle(conn, "s", QUERY)


def test_a_truncated_source_is_noticed(conn: Conn, s: PgTrickle, oracle: Oracle) -> None:
    _changed(conn, s, "INSERT INTO t SELECT n, 1, n, n FROM generate_series(10000, 22000) AS n")
    _changed(conn, s, "UPDATE t SET v = v + 1 WHERE id = 1")
    conn.execute("TRUNCATE t")
    assert s.refresh_stream_table("public.s").action == "FULL"
    oracle(conn, "s", QUERY)


def test_somebody_else_may_have_refreshed_it(conn: Conn, s: PgTrickle, oracle: Oracle, db: str) -> None:
    with PgTrickle.connect(db) as other:
        conn.execute("UPDATE t SET v = v + 1 WHERE id = 1")
        assert other.refresh_stream_table("public.s").action == "DIFFERENTIAL"
    assert _changed(conn, s, "UPDATE t SET v = v + 1 WHERE id = 2") == FORESEEN
    oracle(conn, "s", QUERY)


def test_an_error_of_the_query_is_told_and_over_when_its_cause_is(conn: Conn, s: PgTrickle, oracle: Oracle) -> None:
    conn.execute("UPDATE t SET share = 0 WHERE id = 5")
    with pytest.raises(Exception, match="division by zero"):
        s.refresh_stream_table("public.s")
    conn.execute("UPDATE t SET share = 2 WHERE id = 5")
    s.refresh_stream_table("public.s")
    oracle(conn, "s", QUERY)


def test_damage_of_the_state_is_noticed(conn: Conn, s: PgTrickle, oracle: Oracle) -> None:
    conn.execute("SELECT set_config('pgtrickle.refreshing', pg_backend_pid()::text, false)")
    conn.execute("DELETE FROM s WHERE name = 'name 5'")
    conn.execute("UPDATE t SET v = v + 1 WHERE k = 5")
    assert s.refresh_stream_table("public.s").action == "FULL"
    oracle(conn, "s", QUERY)


def test_the_history_says_what_a_foreseen_refresh_did(conn: Conn, s: PgTrickle) -> None:
    conn.execute("UPDATE t SET v = v + 1 WHERE id = 1")
    result = s.refresh_stream_table("public.s")
    row = s.history("s", limit=1)[0]
    assert (row.action, row.rows_updated, row.initiated_by) == ("DIFFERENTIAL", 1, "manual")
    assert (result.action, result.rows_updated, result.fallback_reason) == ("DIFFERENTIAL", 1, None)
    found = conn.execute(
        "SELECT f.refresh_no, f.snapshot::text, f.cost ->> 'small_ms' IS NOT NULL, h.changes FROM pgtrickle.frontiers f"
        " JOIN pgtrickle.refresh_history h USING (stream_table_id) ORDER BY h.id DESC LIMIT 1"
    ).fetchone()
    assert found == (result.refresh_no, result.snapshot, True, 2)


def test_a_session_keeps_statements_for_some_stream_tables_only(
    conn: Conn, s: PgTrickle, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtrickle.refresh.foreseen._MOST", 2)
    names = ["s", "s1", "s2", "s3"]
    for name in names[1:]:
        s.create_stream_table(name, QUERY, refresh_mode="DIFFERENTIAL")
    for step in range(4):
        conn.execute("UPDATE t SET v = v + 1 WHERE id = %s", (step,))
        for name in names:
            s.refresh_stream_table(f"public.{name}")
            oracle(conn, name, QUERY)
    prepared = s.own_conn.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'pgtrickle%'").fetchone()
    assert prepared is not None
    assert 0 < prepared[0] <= 2 * 6
