"""Aggregates of one table with few and many groups."""

from __future__ import annotations

from tests.benchmarks.cases.sql import folded
from tests.benchmarks.model import Hand, Scenario


def _groups(word: str, number: int) -> Scenario:
    return Scenario(
        f"groups_{word}",
        f"aggregate, {number:,} groups",
        f"SELECT l_partkey % {number} AS g, count(*) AS n, sum(l_quantity) AS q, sum(l_extendedprice) AS p"
        " FROM lineitem GROUP BY 1",
        ("lineitem",),
        unique=("g",),
        hand=Hand(
            ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (g)"),
            (
                folded(
                    ("g",),
                    ("q", "p"),
                    f"SELECT l_partkey % {number} AS g, sum(w) AS n, sum(w * l_quantity) AS q,"
                    " sum(w * l_extendedprice) AS p FROM {lineitem} GROUP BY 1",
                ),
            ),
        ),
    )


SCENARIOS = (_groups("10", 10), _groups("1k", 1_000), _groups("100k", 100_000))
