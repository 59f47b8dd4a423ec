"""Deep, wide and many: what is large compiles, is planned, and stays equal to its query; what is absurd is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support import oracle

pytestmark = pytest.mark.newest_only

T = TypeVar("T")
TABLES = 12
ROWS = 40
LEVELS = 20
WIDTH = 200
BRANCHES = 60
STREAM_TABLES = 50
LAYERS = 10
#: What a parameter of a statement in an explanation is given here, by the first words that explain it.
PARAMETERS = {"xmax": "'1'", "transactions": "'{}'", "number": "1", "refresh": "0"}


def joined(kind: str) -> str:
    """A chain of joins of all tables."""
    columns = ", ".join(f"t{i}.x AS x{i}" for i in range(TABLES))
    tables = "t0" + "".join(f" {kind} JOIN t{i} ON t{i}.id = t{i - 1}.k" for i in range(1, TABLES))
    return f"SELECT t0.id, {columns} FROM {tables}"


def nested(bottom: str, level: Callable[[int, str], str], levels: int = LEVELS) -> str:
    """A query around a query around a query."""
    for number in range(levels):
        bottom = level(number, bottom)
    return bottom


def correlated(form: str, bottom: str = "true", levels: int = LEVELS) -> str:
    """Subqueries that each read the row of the one around; form has ``{table}``, ``{me}``, ``{outer}``, ``{inner}``."""
    text = bottom
    for number in reversed(range(levels)):
        outer = f"a{number - 1}" if number else "o"
        text = form.format(table=f"t{number % TABLES}", me=f"a{number}", outer=outer, inner=text)
    return text


def from_nested(levels: int) -> str:
    return nested(
        "SELECT id, k, v FROM t0", lambda i, q: f"SELECT id, k, v + {i} AS v FROM ({q}) s WHERE v <> {i}", levels
    )


def united(operator: str, branches: int = BRANCHES) -> str:
    return f" {operator} ".join(f"SELECT id, k FROM t{i % TABLES} WHERE v % 7 = {i % 7}" for i in range(branches))


EXISTS = "EXISTS (SELECT FROM {table} {me} WHERE {me}.k = {outer}.id AND {inner})"
GREATEST = "(SELECT max({me}.v) FROM {table} {me} WHERE {me}.k = {outer}.id AND {me}.v > coalesce({inner}, 0))"
WIDE = [f"c{i}" for i in range(1, WIDTH)]

LARGE = {
    "12 tables": joined(""),
    "12 tables, left": joined("LEFT"),
    "12 tables, full": joined("FULL"),
    "12 tables grouped": "SELECT t11.k, count(*) AS n, sum(t0.v) AS s FROM t0 "
    + " ".join(f"JOIN t{i} ON t{i}.id = t{i - 1}.k" for i in range(1, TABLES))
    + " GROUP BY t11.k",
    "20 FROM": from_nested(LEVELS),
    "20 groupings": nested(
        "SELECT k, sum(v) AS v FROM t0 GROUP BY k",
        lambda i, q: f"SELECT k % {40 - i} AS k, sum(v) AS v FROM ({q}) s GROUP BY 1",
    ),
    "20 IN": nested("SELECT id FROM t0 WHERE k > 3", lambda i, q: f"SELECT id FROM t{i % TABLES} WHERE k IN ({q})"),
    "20 EXISTS": "SELECT id FROM t0 o WHERE " + correlated(EXISTS),
    "20 NOT EXISTS": "SELECT id FROM t0 o WHERE " + correlated(f"NOT {EXISTS}"),
    "20 scalar": f"SELECT id, {correlated(GREATEST, '0')} AS v FROM t0 o",
    "20 scalar, uncorrelated": "SELECT id, "
    + nested("(SELECT max(v) FROM t0)", lambda i, q: f"(SELECT max(v) FROM t{i % TABLES} WHERE v <= {q})")
    + " AS v FROM t0",
    "200 columns": "SELECT * FROM wide WHERE c1 > 3",
    "200 grouping columns": f"SELECT {', '.join(WIDE)}, sum(c0) AS s FROM wide GROUP BY {', '.join(WIDE)}",
    "200 aggregates": f"SELECT c0, {', '.join(f'sum({c}) AS s{c}' for c in WIDE)} FROM wide GROUP BY c0",
    "200 columns, distinct": f"SELECT DISTINCT {', '.join(WIDE)} FROM wide",
    "60 UNION ALL": united("UNION ALL"),
    "60 UNION": united("UNION"),
    "60 EXCEPT": united("EXCEPT"),
}

CHANGES = """
INSERT INTO t0 SELECT i, i % 9, i * 3, 'new' FROM generate_series(100, 105) i;
UPDATE t0 SET k = (k + 1) % 40, v = v + 1 WHERE id % 7 = 3;
UPDATE t1 SET v = v + 5 WHERE id % 5 = 2;
UPDATE t3 SET x = x || '!' WHERE id % 4 = 1;
DELETE FROM t5 WHERE id % 11 = 4;
UPDATE t11 SET k = k + 1, v = 0 WHERE id % 6 = 5;
UPDATE wide SET c0 = c0 + 1, c7 = 0 WHERE id % 3 = 1;
DELETE FROM wide WHERE id = 2
"""


#: They take long because PostgreSQL is asked about each level.
SLOW = {"200 EXISTS", "60 EXCEPT"}


def cases(queries: dict[str, str]) -> list[object]:
    """Names of queries, the slow ones marked."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in queries]


def timed(what: str, work: Callable[[], T]) -> T:
    """Run it and print how long it took."""
    started = time.perf_counter()
    result = work()
    print(f"{what}: {1000 * (time.perf_counter() - started):.0f} ms")
    return result


def fill(conn: psycopg.Connection) -> None:
    for number in range(TABLES):
        name = Identifier(f"t{number}")
        conn.execute(SQL("CREATE TABLE {} (id int PRIMARY KEY, k int, v int, x text)").format(name))
        conn.execute(
            SQL("INSERT INTO {} SELECT i, i * 7 %% %s, i * 5 %% 13, 'x' || i FROM generate_series(1, %s) i").format(
                name
            ),
            (ROWS - number, ROWS),
        )
    columns = SQL(", ").join(SQL("{} int").format(Identifier(name)) for name in ("c0", *WIDE))
    conn.execute(SQL("CREATE TABLE wide (id int PRIMARY KEY, {})").format(columns))
    values = SQL(", ").join(SQL("i %% {}").format(number % 5 + 2) for number in range(WIDTH))
    conn.execute(SQL("INSERT INTO wide SELECT i, {} FROM generate_series(1, 30) i").format(values), ())
    conn.execute("ANALYZE")


def print_planning_time(conn: psycopg.Connection, engine: PgTrickle, name: str) -> None:
    """How long the server takes to plan what a refresh sends if everything changed."""
    statements = engine.explain(name).deltas[-1].statements
    total = 0.0
    conn.execute("SET plan_cache_mode = force_custom_plan")
    for statement in statements:
        conn.execute(f"PREPARE planned AS {statement.sql}".encode(), prepare=False)
        given = ", ".join(PARAMETERS[parameter.split()[0]] for parameter in statement.parameters)
        call = f"EXECUTE planned ({given})" if given else "EXECUTE planned"
        lines = conn.execute(f"EXPLAIN (SUMMARY) {call}".encode(), prepare=False).fetchall()
        total += sum(float(line.split()[2]) for (line,) in lines if line.startswith("Planning Time"))
        conn.execute("DEALLOCATE planned")
    print(
        f"  {len(statements)} statements, {sum(len(s.sql) for s in statements)} characters, planned in {total:.0f} ms"
    )


@pytest.mark.parametrize("what", cases(LARGE))
def test_a_large_query_is_differential_and_follows_its_tables(
    what: str, conn: psycopg.Connection, engine: PgTrickle
) -> None:
    fill(conn)
    query = LARGE[what]
    created = timed(f"{what}: created", lambda: engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL"))
    assert created.effective_mode == "DIFFERENTIAL"
    oracle.assert_same_rows(conn, "s", query)
    print_planning_time(conn, engine, "s")
    conn.execute(CHANGES.encode())
    result = timed(f"{what}: refreshed", lambda: engine.refresh_stream_table("s"))
    assert result.action == "DIFFERENTIAL"
    oracle.assert_same_rows(conn, "s", query)
    conn.execute("UPDATE t0 SET k = k - 1 WHERE id % 7 = 3; DELETE FROM t2; INSERT INTO wide (id, c0) VALUES (99, 1)")
    assert engine.verify("s").proven


@pytest.fixture
def base(conn: psycopg.Connection) -> str:
    conn.execute("CREATE TABLE base (id int PRIMARY KEY, v bigint)")
    conn.execute("INSERT INTO base SELECT i, i FROM generate_series(1, 50) i")
    return "base"


def move_the_bottom(conn: psycopg.Connection) -> None:
    conn.execute(
        "INSERT INTO base VALUES (1000, 7); UPDATE base SET v = v * 10 WHERE id < 4; DELETE FROM base WHERE id = 9"
    )


def test_a_change_reaches_the_top_of_a_chain_of_50(conn: psycopg.Connection, engine: PgTrickle, base: str) -> None:
    below = base
    started = time.perf_counter()
    for number in range(STREAM_TABLES):
        query = f"SELECT id, v + {number} AS v FROM {below} WHERE v IS NOT NULL"
        assert engine.create_stream_table(f"s{number}", query).effective_mode == "DIFFERENTIAL"
        below = f"s{number}"
    print(f"50 in a chain: created in {time.perf_counter() - started:.1f} s")
    move_the_bottom(conn)
    result = timed("50 in a chain: refreshed", lambda: engine.refresh_stream_table(below))
    assert result.action == "DIFFERENTIAL"
    assert len(result.members) == STREAM_TABLES - 1
    steps = sum(range(STREAM_TABLES))
    oracle.assert_same_rows(conn, below, f"SELECT id, v + {steps} AS v FROM base")
    conn.execute("DELETE FROM base WHERE id > 40")
    assert timed("50 in a chain: verified", lambda: engine.verify(below)).proven


def test_a_change_reaches_the_top_of_a_lattice_of_50(conn: psycopg.Connection, engine: PgTrickle, base: str) -> None:
    width = STREAM_TABLES // LAYERS
    for layer in range(LAYERS):
        for place in range(width):
            left, right = (f"l{layer - 1}_{place}", f"l{layer - 1}_{(place + 1) % width}") if layer else (base, base)
            query = f"SELECT a.id, a.v + b.v AS v FROM {left} AS a JOIN {right} AS b ON a.id = b.id"
            assert engine.create_stream_table(f"l{layer}_{place}", query).effective_mode == "DIFFERENTIAL"
    move_the_bottom(conn)
    tops = [f"l{LAYERS - 1}_{place}" for place in range(width)]
    results = timed("50 in a lattice: refreshed", lambda: engine.refresh_all(tops))
    assert {result.action for result in results} == {"DIFFERENTIAL"}
    assert len(results) == STREAM_TABLES
    for top in tops:
        oracle.assert_same_rows(conn, top, f"SELECT id, v * {2**LAYERS} AS v FROM base")
    conn.execute("UPDATE base SET v = -v WHERE id > 40")
    assert timed("50 in a lattice: verified", lambda: engine.verify(tops[0])).proven


def chain_of_ctes(length: int, query: str) -> str:
    """CTEs that each read the one before; ``{before}`` in query."""
    texts = [f"c{number} AS ({query.format(before=f'c{number - 1}')})" for number in range(1, length)]
    return f"WITH {', '.join(['c0 AS (SELECT id, v FROM t0)', *texts])} SELECT * FROM c{length - 1}"


ABSURD = {
    "5000 parentheses": "SELECT id, " + "(" * 5000 + "v" + ")" * 5000 + " AS s FROM t0",
    "5000 signs": "SELECT id, " + "(- " * 5000 + "v" + ")" * 5000 + " AS s FROM t0",
    "5000 terms": "SELECT id, " + "+".join(["v"] * 5000) + " AS s FROM t0",
    "3000 terms": "SELECT id, " + "+".join(["v"] * 3000) + " AS s FROM t0",
    "100000 terms": "SELECT id, " + "+".join(["v"] * 100_000) + " AS s FROM t0",
    "1000 calls": "SELECT id, " + "abs(" * 1000 + "v" + ")" * 1000 + " AS s FROM t0",
    "1000 cases": "SELECT id, " + "CASE WHEN v = 1 THEN 1 ELSE " * 1000 + "2" + " END" * 1000 + " AS s FROM t0",
    "200 FROM": from_nested(200),
    "60 EXISTS": "SELECT id FROM t0 o WHERE " + correlated(EXISTS, levels=60),
    "200 EXISTS": "SELECT id FROM t0 o WHERE " + correlated(EXISTS, levels=200),
    "1000 UNION ALL": united("UNION ALL", 1000),
    "20000 UNION ALL": " UNION ALL ".join(["SELECT id FROM t0"] * 20_000),
    "200 CTEs": chain_of_ctes(200, "SELECT id, v + 1 AS v FROM {before}"),
    "12 CTEs, each read twice": chain_of_ctes(12, "SELECT a.id, a.v FROM {before} a JOIN {before} b ON a.id = b.id"),
    "5000 values": "SELECT id FROM t0 WHERE v IN (" + ", ".join(map(str, range(5000))) + ")",
    "1000 conditions": "SELECT id FROM t0 WHERE " + " AND ".join(f"v <> {i}" for i in range(1000, 2000)),
}


@pytest.mark.parametrize("what", cases(ABSURD))
def test_an_absurd_query_gets_a_clear_answer(what: str, conn: psycopg.Connection, engine: PgTrickle) -> None:
    fill(conn)
    query = ABSURD[what]
    refused: PgTrickleError | None = None
    try:
        created = timed(f"{what}: created", lambda: engine.create_stream_table("s", query, refresh_mode="AUTO"))
    except PgTrickleError as error:
        refused = error
    if refused is not None:
        print(f"{what}: {refused}")
        assert refused.hint
        assert not engine.status()
        return
    print(f"{what}: {created.effective_mode} {[notice.text[:120] for notice in created.notices]}")
    assert created.effective_mode == "DIFFERENTIAL" or "auto_full" in {notice.code for notice in created.notices}
    conn.execute(CHANGES.encode())
    engine.refresh_stream_table("s")
    oracle.assert_same_rows(conn, "s", query)


def deep_in_a_program(work: Callable[[], T], levels: int = 700) -> T:
    """Call something far down a stack, as a program does that was deep already."""
    return work() if levels == 0 else deep_in_a_program(work, levels - 1)


def test_what_was_created_in_a_script_is_refreshed_in_a_deep_program(
    conn: psycopg.Connection, engine: PgTrickle, db: str
) -> None:
    fill(conn)
    query = from_nested(60)
    engine.create_stream_table("s", query, refresh_mode="DIFFERENTIAL")
    conn.execute(CHANGES.encode())
    with PgTrickle.connect(db) as other:
        deep_in_a_program(lambda: other.refresh_stream_table("s"))
        assert deep_in_a_program(lambda: other.explain("s"))
    oracle.assert_same_rows(conn, "s", query)
