"""The 22 queries of TPC-H, where every table that they read changes."""

from __future__ import annotations

import re

from tests.benchmarks.model import Scenario
from tests.support import tpch

NAMES = tuple(f"q{number:02}" for number in range(1, 23))


def scenarios(scale: float, names: tuple[str, ...] = NAMES) -> list[Scenario]:
    """The queries of these names for data of this scale."""
    return [
        Scenario(
            name,
            f"TPC-H {name.upper()}",
            text,
            tuple(table for table in tpch.TABLES if re.search(rf"\b{table}\b", text)),
        )
        for name, text in tpch.queries(scale).items()
        if name in names
    ]
