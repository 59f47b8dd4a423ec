"""Row views: filter and projection."""

from __future__ import annotations

from tests.benchmarks.cases.sql import upserted
from tests.benchmarks.model import Hand, Scenario

_KEY = ("l_orderkey", "l_linenumber")
_SELECT = "l_orderkey, l_linenumber, l_partkey, l_extendedprice * (1 - l_discount) AS net, l_shipdate"
_WHERE = "l_shipdate >= date '1995-06-17'"

SCENARIOS = (
    Scenario(
        "row_view",
        "rows: filter + projection",
        f"SELECT {_SELECT} FROM lineitem WHERE {_WHERE}",
        ("lineitem",),
        unique=_KEY,
        hand=Hand(
            ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (l_orderkey, l_linenumber)"),
            (
                upserted(
                    _KEY, ("l_partkey", "net", "l_shipdate"), f"SELECT {_SELECT}, w FROM {{lineitem}} WHERE {_WHERE}"
                ),
            ),
        ),
    ),
)
