"""Types of which equal values look different: what a stream table shows of a group occurs in the group (G1)."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle

#: A type, and values of it that are equal in twos or threes and look different.
TYPES = {
    "numeric": ["1", "1.0", "1.00", "2", "2.0", "3.50", "3.5"],
    "float8": ["0", "-0", "1", "2"],
    "citext": ["a", "A", "b", "B", "Bc", "bC", "bc"],
    "interval": ["1 day", "24 hours", "1 mon", "30 days", "0"],
    "bpchar": ["a", "a ", "a  ", "b", "b "],
    "jsonb": ['{"a": 1}', '{"a": 1.0}', '{"a": 1.00}', "[2]", "[2.0]"],
    "numeric[]": ["{1}", "{1.0}", "{2,NULL}", "{2.0,NULL}"],
    "numrange": ["[1,2]", "[1.0,2]", "(1,3)", "(1.0,3.0)"],
}
#: Queries over t (id, k, v) and u (v), and the tables in which the image of v has to occur.
QUERIES = {
    "SELECT v, count(*) AS n FROM t GROUP BY v": "t",
    "SELECT v, k, max(id) AS m FROM t GROUP BY v, k": "t",
    "SELECT v, array_agg(id) AS m FROM t GROUP BY v HAVING count(*) > 1": "t",
    "SELECT DISTINCT v FROM t": "t",
    "SELECT v FROM t UNION SELECT v FROM u": "both",
    "SELECT v FROM t INTERSECT SELECT v FROM u": "both",
    "SELECT v FROM t EXCEPT SELECT v FROM u": "t",
    "SELECT v, id FROM t FULL JOIN u USING (v)": "both",
    "SELECT v, count(*) AS n FROM t FULL JOIN u USING (v) GROUP BY v": "both",
    "SELECT k, min(v) AS v FROM t GROUP BY k": "t",
    "SELECT max(v) AS v FROM t": "t",
    "SELECT q.v, u.v IS NULL AS b FROM (SELECT v, sum(k) AS s FROM t GROUP BY v) AS q LEFT JOIN u ON q.v = u.v": "t",
    "SELECT v, count(*) AS n FROM t GROUP BY ROLLUP (v)": "t",
}
WINDOWS = 5
#: The others run with --run-slow.
DEFAULT = ("numeric", "citext")

pytestmark = pytest.mark.edges_only


@pytest.mark.parametrize(
    "kind", [kind if kind in DEFAULT else pytest.param(kind, marks=pytest.mark.slow) for kind in TYPES]
)
def test_the_shown_image_occurs_in_its_group(kind: str, engine: PgTrickle, conn: psycopg.Connection[Any]) -> None:
    if kind == "citext":
        conn.execute("CREATE EXTENSION citext")
    conn.execute(f"CREATE TABLE t (id integer PRIMARY KEY, k integer, v {kind})".encode())
    conn.execute(f"CREATE TABLE u (v {kind})".encode())
    chance = random.Random(7)
    conn.execute("CREATE VIEW both_tables AS SELECT v FROM t UNION ALL SELECT v FROM u")
    names = {}
    for number, query in enumerate(QUERIES):
        try:
            with conn.transaction(force_rollback=True):
                conn.execute(query.encode())
        except psycopg.errors.UndefinedFunction:
            continue  # no min and max of this type
        engine.create_stream_table(f"st_{number}", query, refresh_mode="DIFFERENTIAL")
        names[f"st_{number}"] = query
    assert len(names) >= 10
    for window in range(WINDOWS):
        for _ in range(chance.randint(3, 7)):
            conn.execute(_change(kind, chance).encode())
        if window == WINDOWS - 2:
            conn.execute("DELETE FROM t")
        for name, query in names.items():
            engine.refresh_stream_table(name)
            assert engine.verify(name).proven, query
            source = {"t": "t", "both": "both_tables"}[QUERIES[query]]
            strange = conn.execute(
                f"SELECT v FROM {name} AS s WHERE v IS NOT NULL"
                f" AND NOT EXISTS (SELECT FROM {source} AS o WHERE o.v = s.v AND o.v::text = s.v::text)".encode()
            ).fetchall()
            assert not strange, (query, strange)


def _change(kind: str, chance: random.Random) -> str:
    """A statement on one of the tables."""
    value = f"'{chance.choice(TYPES[kind])}'::{kind}" if chance.random() < 0.9 else "NULL"
    key = chance.randrange(12)
    return chance.choice(
        [
            f"INSERT INTO t VALUES ({key}, {key % 3}, {value}) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
            f"INSERT INTO t VALUES ({key}, {key % 3}, {value}) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
            f"UPDATE t SET v = {value} WHERE v = {value}",
            f"DELETE FROM t WHERE id = {key}",
            f"INSERT INTO u VALUES ({value})",
            "DELETE FROM u WHERE ctid = (SELECT min(ctid) FROM u)",
        ]
    )
