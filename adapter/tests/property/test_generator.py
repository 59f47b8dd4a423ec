"""The generator and the oracle themselves: a suite that compares must know that its own queries are determined."""

from __future__ import annotations

import psycopg
import pytest

from tests.property.case import Case, StreamTable, Window, read, write
from tests.property.cases import draw_case
from tests.property.choices import Seeded
from tests.support.oracle import compare

pytestmark = pytest.mark.newest_only
SEEDS = 60
WRITTEN = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


def test_a_case_survives_being_written_and_read():
    for seed in range(SEEDS):
        case = draw_case(Seeded(seed))
        assert read(write(case, "title")) == case


def test_queries_are_valid_and_their_results_do_not_depend_on_the_order_of_rows(conn):
    checked = 0
    for seed in range(SEEDS):
        case = draw_case(Seeded(seed))
        conn.execute("DROP SCHEMA IF EXISTS p CASCADE; CREATE SCHEMA p")
        for statement in case.schema:
            conn.execute(statement)
        conn.execute("SET statement_timeout = '2s'")
        try:
            for each in case.stream_tables:
                conn.execute(f"CREATE TABLE {each.name} AS {each.query}")
        except psycopg.errors.QueryCanceled:  # joins that explode
            continue
        _shuffle(conn, case)
        for each in case.stream_tables:
            difference = compare(conn, each.name, each.query, classes=dict(enumerate(each.classes)))
            assert difference is None, f"seed {seed}\n{each.query}\n{difference}"
            checked += 1
    assert checked > SEEDS


def _shuffle(conn, case):
    for statement in case.schema:
        if statement.startswith("CREATE TABLE") and "PARTITION OF" not in statement:
            name = statement.split()[2]
            rows = name if "PARTITION BY" in statement else f"ONLY {name}"
            (columns,) = conn.execute(WRITTEN, [name]).fetchone()
            conn.execute(f"CREATE TEMP TABLE shuffled AS SELECT {columns} FROM {rows} ORDER BY random()")
            conn.execute(f"DELETE FROM {rows}; INSERT INTO {name} ({columns}) SELECT * FROM shuffled")
            conn.execute("DROP TABLE shuffled")


def test_reductions_of_a_case_are_smaller():
    window = Window((("BEGIN", "DELETE FROM p.t1", "COMMIT"), ("TRUNCATE p.t1",)), ("p.s1",))
    insert = "INSERT INTO p.t1 VALUES (1), (2) ON CONFLICT DO NOTHING"
    tables = (StreamTable("p.s1", "SELECT k AS x, 2 AS y FROM p.t1 WHERE k > 1", "AUTO", ("exact", "exact")),)
    case = Case(("CREATE TABLE p.t1 (k integer)", insert), tables, (window,))
    assert all(len(write(smaller, "")) < len(write(case, "")) for smaller in case.reductions())
    assert any("VALUES (2)" in write(smaller, "") for smaller in case.reductions())
    assert any("SELECT 2 AS y FROM p.t1 WHERE k > 1" in write(smaller, "") for smaller in case.reductions())
