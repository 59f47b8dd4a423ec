"""A stream table that is too far behind is demoted, rejoins with a recompute, and misses nothing."""

from __future__ import annotations

import pytest

from pgtrickle import capture

QUERY = "SELECT k, count(*) AS n, sum(length(pad)) AS v FROM t GROUP BY k"


@pytest.fixture
def behind(conn, engine):
    """``s`` is suspended and demoted, ``live`` goes on."""
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, pad text)")
    conn.execute("INSERT INTO t SELECT n, n % 5, repeat('x', 20) FROM generate_series(1, 100) n")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    engine.create_stream_table("live", QUERY, refresh_mode="DIFFERENTIAL")
    engine.suspend("s")
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 100000")
    for _ in range(30):
        conn.execute("UPDATE t SET pad = pad || 'y'")
        engine.refresh_stream_table("live")
    demoted = capture.trim(engine.conn).demoted
    assert demoted, "the test needs a demotion"
    return engine


def test_a_demoted_stream_table_does_not_hold_back_trimming(conn, behind, oracle):
    capture.trim(behind.conn)
    source = conn.execute("SELECT id FROM pgtrickle.sources").fetchone()[0]
    assert conn.execute(f"SELECT count(*) FROM pgtrickle_changes.b_{source}").fetchone() == (0,)
    oracle(conn, "live", QUERY)


def test_it_recomputes_when_it_comes_back_and_then_goes_on_differentially(conn, behind, oracle):
    conn.execute("DELETE FROM t WHERE id <= 10")
    behind.resume("s")
    result = behind.refresh_stream_table("s")
    assert result.action == "FULL"
    assert result.fallback_reason
    oracle(conn, "s", QUERY)
    conn.execute("INSERT INTO t VALUES (1000, 1, 'z')")
    again = behind.refresh_stream_table("s")
    assert again.action == "DIFFERENTIAL", again.fallback_reason
    capture.trim(behind.conn)
    conn.execute("DELETE FROM t WHERE id = 1000")
    assert behind.refresh_stream_table("s").action == "DIFFERENTIAL"
    oracle(conn, "s", QUERY)
    assert behind.verify("s").proven


def test_a_buffer_past_its_size_keeps_marks_and_refreshes_recompute(conn, engine, oracle):
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k int, pad text)")
    engine.create_stream_table("s", QUERY, refresh_mode="DIFFERENTIAL")
    conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = 10000")
    for n in range(40):
        conn.execute(
            "INSERT INTO t SELECT n, n %% 5, repeat('x', 50) FROM generate_series(%s::int, %s::int) n",
            [n * 20, n * 20 + 19],
        )
        capture.trim(engine.conn) if n % 10 == 9 else None
    engine.refresh_stream_table("s")
    oracle(conn, "s", QUERY)
    for n in range(3):
        capture.trim(engine.conn)
        conn.execute("INSERT INTO t VALUES (%s, 1, 'z')", [10_000 + n])
        engine.refresh_stream_table("s")
        oracle(conn, "s", QUERY)
