"""MIN and MAX, DISTINCT, outer and anti joins, window functions, the first rows."""

from __future__ import annotations

from tests.benchmarks.cases.sql import folded, upserted
from tests.benchmarks.model import Hand, Scenario

_MIN_MAX = Scenario(
    "min_max",
    "MIN and MAX per supplier",
    "SELECT l_suppkey, count(*) AS n, min(l_extendedprice) AS lowest, max(l_extendedprice) AS highest"
    " FROM lineitem GROUP BY 1",
    ("lineitem",),
    unique=("l_suppkey",),
    hand=Hand(
        ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (l_suppkey)"),
        (
            # Only a group that loses its extreme is read again.
            """
WITH d AS (
  SELECT l_suppkey, sum(w) AS n,
         min(l_extendedprice) FILTER (WHERE w > 0) AS low_in, max(l_extendedprice) FILTER (WHERE w > 0) AS high_in,
         min(l_extendedprice) FILTER (WHERE w < 0) AS low_out, max(l_extendedprice) FILTER (WHERE w < 0) AS high_out
  FROM {lineitem} GROUP BY 1
), s AS (
  SELECT d.*, coalesce(d.low_out <= t.lowest OR d.high_out >= t.highest, false) AS lost
  FROM d LEFT JOIN hand AS t USING (l_suppkey)
), again AS (
  SELECT l_suppkey, min(l_extendedprice) AS low, max(l_extendedprice) AS high
  FROM lineitem WHERE l_suppkey IN (SELECT l_suppkey FROM s WHERE lost) GROUP BY 1
)
MERGE INTO hand AS t USING (SELECT * FROM s LEFT JOIN again USING (l_suppkey)) AS s ON t.l_suppkey = s.l_suppkey
WHEN MATCHED AND t.n + s.n = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET n = t.n + s.n,
  lowest = CASE WHEN s.lost THEN s.low ELSE least(t.lowest, s.low_in) END,
  highest = CASE WHEN s.lost THEN s.high ELSE greatest(t.highest, s.high_in) END
WHEN NOT MATCHED AND s.n > 0 THEN INSERT VALUES (s.l_suppkey, s.n, s.low_in, s.high_in)""",
        ),
    ),
)

_DISTINCT = Scenario(
    "distinct",
    "DISTINCT",
    "SELECT DISTINCT l_partkey, l_suppkey FROM lineitem",
    ("lineitem",),
    unique=("l_partkey", "l_suppkey"),
    hand=Hand(
        (
            "CREATE TABLE hand AS SELECT l_partkey, l_suppkey, count(*) AS n FROM lineitem GROUP BY 1, 2",
            "ALTER TABLE hand ADD PRIMARY KEY (l_partkey, l_suppkey)",
        ),
        (
            folded(
                ("l_partkey", "l_suppkey"),
                (),
                "SELECT l_partkey, l_suppkey, sum(w) AS n FROM {lineitem} GROUP BY 1, 2 HAVING sum(w) <> 0",
            ),
        ),
        "SELECT l_partkey, l_suppkey FROM hand",
    ),
)

_LEFT_JOIN = Scenario(
    "left_join",
    "LEFT JOIN, rows",
    "SELECT c_custkey, c_name, o_orderkey, o_totalprice FROM customer LEFT JOIN orders ON o_custkey = c_custkey",
    ("orders",),
    unique=("c_custkey", "o_orderkey"),
    hand=Hand(
        (
            "CREATE TABLE hand AS {query}",
            "CREATE UNIQUE INDEX ON hand (o_orderkey)",
            "CREATE UNIQUE INDEX ON hand (c_custkey) WHERE o_orderkey IS NULL",
        ),
        (
            upserted(
                ("o_orderkey",),
                ("c_custkey", "c_name", "o_totalprice"),
                "SELECT o_orderkey, c_custkey, c_name, o_totalprice, w"
                " FROM {orders} JOIN customer ON o_custkey = c_custkey",
            ),
            "DELETE FROM hand WHERE o_orderkey IS NULL AND c_custkey IN (SELECT o_custkey FROM {orders} WHERE w > 0)"
            " AND EXISTS (SELECT FROM orders WHERE o_custkey = c_custkey)",
            "INSERT INTO hand SELECT c_custkey, c_name FROM customer AS c"
            " WHERE c_custkey IN (SELECT o_custkey FROM {orders} WHERE w < 0)"
            " AND NOT EXISTS (SELECT FROM orders WHERE o_custkey = c_custkey)"
            " AND NOT EXISTS (SELECT FROM hand AS h WHERE h.c_custkey = c.c_custkey AND h.o_orderkey IS NULL)",
        ),
    ),
)

_ANTI_JOIN = Scenario(
    "anti_join",
    "NOT EXISTS",
    "SELECT c_custkey, c_name, c_acctbal FROM customer"
    " WHERE NOT EXISTS (SELECT 1 FROM orders WHERE o_custkey = c_custkey)",
    ("orders",),
    unique=("c_custkey",),
    hand=Hand(
        ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (c_custkey)"),
        (
            "DELETE FROM hand WHERE c_custkey IN (SELECT o_custkey FROM {orders} WHERE w > 0)"
            " AND EXISTS (SELECT FROM orders WHERE o_custkey = c_custkey)",
            "INSERT INTO hand SELECT c_custkey, c_name, c_acctbal FROM customer AS c"
            " WHERE c_custkey IN (SELECT o_custkey FROM {orders} WHERE w < 0)"
            " AND NOT EXISTS (SELECT FROM orders WHERE o_custkey = c_custkey) ON CONFLICT DO NOTHING",
        ),
    ),
)

_NUMBERED = (
    "SELECT o_orderkey, o_custkey, o_totalprice,"
    " row_number() OVER (PARTITION BY o_custkey ORDER BY o_orderdate DESC, o_orderkey) AS place FROM orders"
)
_ROW_NUMBER = Scenario(
    "row_number",
    "row_number per customer",
    _NUMBERED,
    ("orders",),
    unique=("o_orderkey",),
    hand=Hand(
        (
            "CREATE TABLE hand AS {query}",
            "ALTER TABLE hand ADD PRIMARY KEY (o_orderkey)",
            "CREATE INDEX ON hand (o_custkey)",
        ),
        (
            f"""
WITH k AS (SELECT DISTINCT o_custkey FROM {{orders}}),
new AS ({_NUMBERED} WHERE o_custkey IN (SELECT o_custkey FROM k)),
old AS (SELECT * FROM hand WHERE o_custkey IN (SELECT o_custkey FROM k))
MERGE INTO hand AS t USING (
  SELECT coalesce(new.o_orderkey, old.o_orderkey) AS o_orderkey, new.o_orderkey IS NULL AS gone, new.o_custkey,
         new.o_totalprice, new.place
  FROM new FULL JOIN old ON old.o_orderkey = new.o_orderkey
  WHERE (new.o_custkey, new.o_totalprice, new.place) IS DISTINCT FROM (old.o_custkey, old.o_totalprice, old.place)
) AS s ON t.o_orderkey = s.o_orderkey
WHEN MATCHED AND s.gone THEN DELETE
WHEN MATCHED THEN UPDATE SET o_custkey = s.o_custkey, o_totalprice = s.o_totalprice, place = s.place
WHEN NOT MATCHED THEN INSERT VALUES (s.o_orderkey, s.o_custkey, s.o_totalprice, s.place)""",
        ),
    ),
)

_FIRST = (
    "SELECT l_orderkey, l_linenumber, l_extendedprice FROM lineitem"
    " ORDER BY l_extendedprice DESC, l_orderkey, l_linenumber LIMIT 100"
)
_TOP = Scenario(
    "top_100",
    "the first 100, with an index",
    _FIRST,
    ("lineitem",),
    unique=("l_orderkey", "l_linenumber"),
    setup=("CREATE INDEX ON lineitem (l_extendedprice DESC, l_orderkey, l_linenumber)",),
    hand=Hand(
        ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (l_orderkey, l_linenumber)"),
        (
            # With the index a hundred rows are read sooner than a window is looked through.
            f"""
MERGE INTO hand AS t USING (
  SELECT l_orderkey, l_linenumber, new.l_extendedprice
  FROM ({_FIRST}) AS new FULL JOIN hand AS old USING (l_orderkey, l_linenumber)
  WHERE new.l_extendedprice IS DISTINCT FROM old.l_extendedprice
) AS s ON t.l_orderkey = s.l_orderkey AND t.l_linenumber = s.l_linenumber
WHEN MATCHED AND s.l_extendedprice IS NULL THEN DELETE
WHEN MATCHED THEN UPDATE SET l_extendedprice = s.l_extendedprice
WHEN NOT MATCHED THEN INSERT VALUES (s.l_orderkey, s.l_linenumber, s.l_extendedprice)""",
        ),
    ),
)

SCENARIOS = (_MIN_MAX, _DISTINCT, _LEFT_JOIN, _ANTI_JOIN, _ROW_NUMBER, _TOP)
