"""The 22 queries of TPC-H, maintained differentially through cycles of refresh functions."""

from __future__ import annotations

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.conftest import missing_tool
from tests.support import tpch
from tests.support.benchmarks import Window, follow


def everything(number: int) -> Window:
    """Refresh functions, dimensions and facts, all in one window, with a transaction that comes to nothing."""

    def run(conn: psycopg.Connection) -> None:
        tpch.refresh_functions(conn, number)
        tpch.change_dimensions(conn, number)
        tpch.roll_back(conn)
        tpch.change_facts(conn, number)

    return run


#: Each is one window of changes; the first is the benchmark's own cycle.
WINDOWS: dict[str, Window] = {
    "refresh functions": lambda conn: tpch.refresh_functions(conn, 1),
    "dimensions": lambda conn: tpch.change_dimensions(conn, 2),
    "everything at once": everything(3),
}
#: What only the slow test does: more of everything, and tables that run empty and are filled again.
MORE_WINDOWS: dict[str, Window] = {
    **WINDOWS,
    "facts": lambda conn: tpch.change_facts(conn, 4),
    **{f"cycle {number}": everything(number) for number in range(5, 9)},
    "nobody orders": lambda conn: conn.execute("CREATE TABLE kept AS TABLE orders; DELETE FROM orders"),
    "orders again": lambda conn: conn.execute("INSERT INTO orders SELECT * FROM kept"),
    "no suppliers": lambda conn: conn.execute(
        "DELETE FROM supplier WHERE s_nationkey IN (3, 7, 20); DELETE FROM nation"
    ),
}


@pytest.fixture
def program(strict_tools: bool) -> str:
    found = tpch.generator()
    if found is None:
        missing_tool("tpchgen-cli, the generator of the TPC-H data, is not installed", strict=strict_tools)
    return found or ""


@pytest.mark.newest_by_default
def test_the_22_queries_equal_their_definitions_after_every_refresh_cycle(
    conn: psycopg.Connection, engine: PgTrickle, program: str
) -> None:
    tpch.load(conn, program)
    queries = tpch.queries()
    assert len(queries) == 22
    follow(conn, engine, queries, WINDOWS, tpch.TABLES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_larger_database_stays_equal_through_more_cycles_and_empty_tables(
    conn: psycopg.Connection, engine: PgTrickle, program: str
) -> None:
    scale = 0.05
    tpch.load(conn, program, scale)
    follow(conn, engine, tpch.queries(scale), MORE_WINDOWS, tpch.TABLES)
