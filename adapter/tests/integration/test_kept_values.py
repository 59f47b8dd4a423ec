"""min, max, bit_and and bit_or keep their value and look at a group again only if it may have left."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle

#: The versions in between run it with --run-slow.
pytestmark = pytest.mark.edges_only

GROUPED = "SELECT g, min(x) AS lo, max(x) AS hi, count(*) AS n FROM points GROUP BY g"
ALL = "SELECT min(x) AS lo, max(x) AS hi, count(*) AS n FROM points"


@pytest.fixture
def points(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    conn.execute("CREATE TABLE points (id integer PRIMARY KEY, g integer, x numeric)")
    conn.execute("INSERT INTO points VALUES (1, 1, 10), (2, 1, 10), (3, 1, 30), (4, NULL, 5), (5, 2, NULL)")
    engine.create_stream_table("grouped", GROUPED, refresh_mode="DIFFERENTIAL")
    engine.create_stream_table("everything", ALL, refresh_mode="DIFFERENTIAL")


#: What happens in one window, and what is shown then: (lo, hi) of group 1, and of all rows.
STEPS = [
    ("DELETE FROM points WHERE id = 1", ("10", "30"), ("5", "30")),  # a duplicate of the extreme stays
    ("DELETE FROM points WHERE id = 2", ("30", "30"), ("5", "30")),
    ("DELETE FROM points WHERE id = 4; INSERT INTO points VALUES (6, 3, 5)", ("30", "30"), ("5", "30")),
    ("UPDATE points SET x = 1 WHERE id = 3; UPDATE points SET x = 30 WHERE id = 3", ("30", "30"), ("5", "30")),
    ("INSERT INTO points VALUES (7, 1, 99); DELETE FROM points WHERE id = 7", ("30", "30"), ("5", "30")),
    ("DELETE FROM points WHERE g = 1", None, ("5", "5")),
    ("INSERT INTO points VALUES (8, 1, 'NaN'), (9, 1, -1)", ("-1", "NaN"), ("-1", "NaN")),
    ("UPDATE points SET g = 2 WHERE id = 9", ("NaN", "NaN"), ("-1", "NaN")),
    ("UPDATE points SET x = NULL", (None, None), (None, None)),
    ("UPDATE points SET x = 4 WHERE id = 8", ("4", "4"), ("4", "4")),
    ("DELETE FROM points", None, (None, None)),
    ("INSERT INTO points VALUES (1, 1, 2)", ("2", "2"), ("2", "2")),
]


def test_extremes_follow_what_comes_and_leaves(conn: psycopg.Connection[Any], engine: PgTrickle, points: None) -> None:
    for change, group, everything in STEPS:
        conn.execute(change)
        for name in ("grouped", "everything"):
            assert engine.refresh_stream_table(name).action == "DIFFERENTIAL", change
            assert engine.verify(name).proven, change
        assert conn.execute("SELECT lo::text, hi::text FROM grouped WHERE g = 1").fetchone() == group, change
        assert conn.execute("SELECT lo::text, hi::text FROM everything").fetchone() == everything, change


def test_what_is_shown_of_equal_extremes_is_there(
    conn: psycopg.Connection[Any], engine: PgTrickle, points: None
) -> None:
    for change, shown in [
        ("DELETE FROM points; INSERT INTO points VALUES (1, 1, 1.0)", {"1.0"}),
        ("INSERT INTO points VALUES (2, 1, 1.00)", {"1.0", "1.00"}),
        ("DELETE FROM points WHERE id = 1", {"1.00"}),
        ("UPDATE points SET x = 1.000", {"1.000"}),
    ]:
        conn.execute(change)
        for name in ("grouped", "everything"):
            engine.refresh_stream_table(name)
            row = conn.execute(f"SELECT lo::text, hi::text FROM {name}").fetchone()
            assert row is not None
            assert set(row) <= shown, change
