"""The 22 queries of TPC-H, maintained differentially through cycles of refresh functions."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.conftest import missing_tool
from tests.support import oracle, tpch

Window = Callable[[psycopg.Connection], None]


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


def follow(conn: psycopg.Connection, engine: PgTrickle, queries: dict[str, str], windows: dict[str, Window]) -> None:
    """Create all stream tables, run the windows, and hold every stream table against its query after each."""
    created = {
        name: engine.create_stream_table(name, text, refresh_mode="DIFFERENTIAL") for name, text in queries.items()
    }
    assert {name: result.effective_mode for name, result in created.items()} == dict.fromkeys(queries, "DIFFERENTIAL")
    wrong: list[str] = []
    changed = dict.fromkeys(queries, 0)
    for title, window in windows.items():
        window(conn)
        tpch.analyze(conn)
        spent = {}
        for name, text in queries.items():
            started = time.perf_counter()
            result = engine.refresh_stream_table(name)
            spent[name] = round(1000 * (time.perf_counter() - started))
            changed[name] += result.rows_changed
            if result.action not in ("DIFFERENTIAL", "NO_DATA"):
                wrong.append(f"{title}, {name}: {result.action}, {result.fallback_reason}")
            proof = engine.verify(name)
            if not proof.proven:
                wrong.append(f"{title}, {name}: {proof}")
            difference = oracle.compare(conn, name, text)
            if difference is not None:
                wrong.append(f"{title}, {difference}")
        print(f"{title}: refreshed in ms {spent}")
    assert not wrong, "\n".join(wrong)
    assert all(changed.values()), f"no window reached {[name for name, rows in changed.items() if not rows]}"


@pytest.mark.edges_only
def test_the_22_queries_equal_their_definitions_after_every_refresh_cycle(
    conn: psycopg.Connection, engine: PgTrickle, program: str
) -> None:
    tpch.load(conn, program)
    queries = tpch.queries()
    assert len(queries) == 22
    follow(conn, engine, queries, WINDOWS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_larger_database_stays_equal_through_more_cycles_and_empty_tables(
    conn: psycopg.Connection, engine: PgTrickle, program: str
) -> None:
    scale = 0.05
    tpch.load(conn, program, scale)
    follow(conn, engine, tpch.queries(scale), MORE_WINDOWS)
