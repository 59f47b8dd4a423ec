"""Aggregates over joins, with the fact table changing and with orders changing."""

from __future__ import annotations

from tests.benchmarks.cases.sql import folded
from tests.benchmarks.model import Hand, Scenario

_TWO_FROM = "{orders} JOIN customer ON c_custkey = o_custkey"
_TWO = Scenario(
    "join_two",
    "two-way join, aggregate",
    "SELECT c_nationkey, o_orderpriority, count(*) AS n, sum(o_totalprice) AS total"
    " FROM orders JOIN customer ON c_custkey = o_custkey GROUP BY 1, 2",
    ("orders",),
    unique=("c_nationkey", "o_orderpriority"),
    hand=Hand(
        ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (c_nationkey, o_orderpriority)"),
        (
            folded(
                ("c_nationkey", "o_orderpriority"),
                ("total",),
                "SELECT c_nationkey, o_orderpriority, sum(w) AS n, sum(w * o_totalprice) AS total"
                f" FROM {_TWO_FROM} GROUP BY 1, 2",
            ),
        ),
    ),
)

_Q3_KEY = ("l_orderkey", "o_orderdate", "o_shippriority")
_Q3_WHERE = (
    "c_mktsegment = 'BUILDING' AND o_orderdate < date '1995-03-15' AND l_shipdate > date '1995-03-15'"
    " AND c_custkey = o_custkey AND l_orderkey = o_orderkey"
)
_Q3 = f"SELECT l_orderkey, o_orderdate, o_shippriority, sum(l_extendedprice * (1 - l_discount)) AS revenue \
FROM customer, orders, lineitem WHERE {_Q3_WHERE} GROUP BY 1, 2, 3"


def _q3(changed: str) -> Scenario:
    tables = ", ".join(f"{{{table}}}" if table == changed else table for table in ("customer", "orders", "lineitem"))
    return Scenario(
        "join_q3" if changed == "lineitem" else "join_q3_orders",
        f"Q3-like, {changed} change",
        _Q3,
        (changed,),
        unique=_Q3_KEY,
        hand=Hand(
            (
                f"CREATE TABLE hand AS SELECT *, (SELECT count(*) FROM lineitem AS i WHERE i.l_orderkey = q.l_orderkey"
                f" AND l_shipdate > date '1995-03-15') AS n FROM ({_Q3}) AS q",
                f"ALTER TABLE hand ADD PRIMARY KEY ({', '.join(_Q3_KEY)})",
            ),
            (
                folded(
                    _Q3_KEY,
                    ("revenue",),
                    "SELECT l_orderkey, o_orderdate, o_shippriority, sum(w) AS n,"
                    f" sum(w * l_extendedprice * (1 - l_discount)) AS revenue FROM {tables}"
                    f" WHERE {_Q3_WHERE} GROUP BY 1, 2, 3",
                ),
            ),
            "SELECT l_orderkey, o_orderdate, o_shippriority, revenue FROM hand",
        ),
    )


_Q5_TABLES = ("customer", "orders", "lineitem", "supplier", "nation", "region")
_Q5_WHERE = (
    "c_custkey = o_custkey AND l_orderkey = o_orderkey AND l_suppkey = s_suppkey AND c_nationkey = s_nationkey"
    " AND s_nationkey = n_nationkey AND n_regionkey = r_regionkey"
)
_Q5_NET = "l_extendedprice * (1 - l_discount)"
_Q5_KEYS = "r_name, n_name, extract(year FROM o_orderdate) AS year"


def _q5(changed: str) -> Scenario:
    tables = ", ".join(f"{{{table}}}" if table == changed else table for table in _Q5_TABLES)
    return Scenario(
        "join_q5" if changed == "lineitem" else "join_q5_orders",
        f"Q5-like six-way, {changed} change",
        f"SELECT {_Q5_KEYS}, count(*) AS n, sum({_Q5_NET}) AS revenue FROM {', '.join(_Q5_TABLES)} WHERE {_Q5_WHERE}"
        " GROUP BY 1, 2, 3",
        (changed,),
        unique=("r_name", "n_name", "year"),
        hand=Hand(
            ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (r_name, n_name, year)"),
            (
                folded(
                    ("r_name", "n_name", "year"),
                    ("revenue",),
                    f"SELECT {_Q5_KEYS}, sum(w) AS n, sum(w * {_Q5_NET}) AS revenue FROM {tables} WHERE {_Q5_WHERE}"
                    " GROUP BY 1, 2, 3",
                ),
            ),
        ),
    )


SCENARIOS = (_TWO, _q3("lineitem"), _q3("orders"), _q5("lineitem"), _q5("orders"))
