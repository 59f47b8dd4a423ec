"""Queries that show or look up names of objects, and the functions of PostgreSQL that read what leaves no change."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.analyze.functions import STEADY, Function
from pgtrickle.api import PgTrickle
from pgtrickle.errors import UnsupportedQuery
from tests.support.oracle import assert_same_rows

User = psycopg.Connection[Any]

SCHEMA = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE thing (id int);
    CREATE TABLE a (id int PRIMARY KEY, t regclass, o oid, x text, at timestamptz, m mood, cfg regconfig,
        many regclass[]);
    CREATE TYPE pair AS (n int, r regclass);
    CREATE DOMAIN place AS regclass;
    CREATE TABLE b (id int PRIMARY KEY, c pair, d place);
    CREATE TABLE pt (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE p1 PARTITION OF pt FOR VALUES FROM (0) TO (10);
    CREATE VIEW places AS SELECT k, tableoid::regclass AS p FROM pt;
    INSERT INTO a VALUES (1, 'thing', 'thing'::regclass, 'thing', '2026-01-01 12:00Z', 'sad', 'english', '{thing}');
    INSERT INTO b VALUES (1, (1, 'thing'), 'thing');
    INSERT INTO pt VALUES (1, 'p1')
"""

#: Names are shown by whoever reads the stream table, cannot change, or are known to change.
STORED = (
    "SELECT id, t FROM a",
    "SELECT id, o::regclass AS z, t::oid::text AS y, concat(x, id) AS w FROM a",
    "SELECT c, d FROM b",
    "SELECT t, count(*) AS n, array_agg(o::regclass) AS z FROM a GROUP BY t",
    "SELECT unnest(many) AS z FROM a",
    "SELECT id, pg_typeof(x)::text AS z, pg_typeof(at) = 'timestamptz'::regtype AS w FROM a",
    "SELECT id, pg_typeof(m) AS y FROM a",
    "SELECT id, to_tsvector('english', x) AS z, to_tsvector(cfg, x) AS y FROM a",
    "SELECT k, tableoid::regclass::text AS z FROM pt WHERE tableoid = 'p1'::regclass",
    "SELECT concat(p) AS z, count(*) AS n FROM places GROUP BY p",
    "SELECT row_to_json(q) AS z FROM (SELECT k, tableoid::regclass AS p FROM pt) AS q",
    "SELECT id, m::text AS z, at::date AS y, to_char(at, 'YYYY') AS w, a.x || at AS v FROM a",
)

SHOWN = (
    "SELECT id, t::text AS z FROM a",
    "SELECT id FROM a WHERE o::regclass::text LIKE 't%'",
    "SELECT concat(t) AS z FROM a",
    "SELECT format('%s', t) AS z FROM a",
    "SELECT 'x' || t AS z FROM a",
    "SELECT string_agg(t::text, ',') AS z FROM a",
    "SELECT to_json(t) AS z FROM a",
    "SELECT row_to_json(a) ->> 't' AS z FROM a",
    "SELECT json_build_object('t', t) AS z FROM a",
    "SELECT json_agg(t) AS z FROM a",
    "SELECT jsonb_object_agg(id, t) AS z FROM a",
    "SELECT a::text AS z FROM a",
    "SELECT ROW(t, 1)::text AS z FROM a",
    "SELECT many::text AS z FROM a",
    "SELECT many::text[] AS z FROM a",
    "SELECT array_to_string(many, ',') AS z FROM a",
    "SELECT (array_agg(t))[1]::text AS z FROM a",
    "SELECT unnest(many)::text AS z FROM a",
    "SELECT min(t::oid)::regclass::text AS z FROM a",
    "SELECT lag(t, 0) OVER (ORDER BY id)::text AS z FROM a",
    "SELECT CASE WHEN id = 1 THEN t END::text AS z FROM a",
    "SELECT quote_literal(t) AS z FROM a",
    "SELECT c::text AS z FROM b",
    "SELECT to_jsonb(c) ->> 'r' AS z FROM b",
    "SELECT d::text AS z FROM b",
    "WITH w AS (SELECT t FROM a) SELECT t::text AS z FROM w",
    "SELECT q.z FROM b, LATERAL (SELECT a.t::text AS z FROM a WHERE a.id = b.id) AS q",
    "SELECT (SELECT a.t::text FROM a WHERE a.id = b.id) AS z FROM b",
    "SELECT b.id FROM b JOIN a ON a.t::text = 'thing'",
    "SELECT pg_get_userbyid(10) AS z, pg_describe_object(1259, o, 0) AS y FROM a",
    "SELECT pg_typeof(m)::text AS z FROM a",
)

#: Objects that are found by their names when the query runs.
LOOKED_UP = (
    "SELECT x::regclass AS z FROM a",
    "SELECT to_regclass(x) AS z FROM a",
    "SELECT id FROM a WHERE o = 'thing'::regclass",
    "SELECT tableoid::regclass AS z, 'thing'::regclass::text AS y FROM pt",
    "SELECT id FROM a WHERE pg_typeof(m) = 'mood'::regtype",
    "SELECT r.t FROM a, json_populate_record(NULL::a, json_build_object('t', x)) AS r",
    "SELECT r.t FROM a, json_to_recordset('[]') AS r (t regclass)",
)

#: Of what leaves no change either.
CATALOG = (
    "SELECT id, enum_range(m) AS z FROM a",
    "SELECT id, has_table_privilege(t, 'SELECT') AS z FROM a",
    "SELECT id, pg_partition_root('p1'::regclass) AS z FROM a",
    "SELECT id, obj_description(o, 'pg_class') AS z FROM a",
    "SELECT id, format_type(o, NULL) AS z FROM a",
)


@pytest.mark.edges_only
def test_values_that_are_printed_by_whoever_reads_them_stay_differential(conn: User, engine: PgTrickle) -> None:
    conn.execute(SCHEMA)
    for number, query in enumerate(STORED):
        created = engine.create_stream_table(f"s{number}", query)
        assert (created.effective_mode, query) == ("DIFFERENTIAL", query)
    conn.execute("ALTER TABLE thing RENAME TO other; ALTER TABLE p1 RENAME TO p2")
    conn.execute("UPDATE a SET id = id + 1; INSERT INTO pt VALUES (2, 'x')")
    for number, query in enumerate(STORED):
        if "'p1'" not in query:  # there is no p1 any more
            engine.refresh_stream_table(f"s{number}")
            assert_same_rows(conn, f"s{number}", query)


@pytest.mark.edges_only
def test_queries_that_show_names_follow_a_rename(conn: User, engine: PgTrickle) -> None:
    conn.execute(SCHEMA)
    for number, query in enumerate(SHOWN):
        created = engine.create_stream_table(f"s{number}", query)
        assert (created.effective_mode, query) == ("FULL", query)
    conn.execute("ALTER TABLE thing RENAME TO other; ALTER TYPE mood RENAME TO temper")
    for number, query in enumerate(SHOWN):
        engine.refresh_stream_table(f"s{number}")
        assert_same_rows(conn, f"s{number}", query)
    with pytest.raises(UnsupportedQuery, match="names of objects"):
        engine.create_stream_table("refused", SHOWN[0], refresh_mode="DIFFERENTIAL")


@pytest.mark.edges_only
def test_queries_that_find_objects_by_name_or_read_the_catalog_are_computed_in_full(
    conn: User, engine: PgTrickle
) -> None:
    conn.execute(SCHEMA)
    for query in (*LOOKED_UP, *CATALOG):
        assert (engine.validate_query(query).mode, query) == ("FULL", query)
        with pytest.raises(UnsupportedQuery):
            engine.validate_query(query, "DIFFERENTIAL")


@pytest.mark.newest_only
def test_input_is_checked_against_types_that_look_nothing_up(conn: User, engine: PgTrickle) -> None:
    conn.execute(SCHEMA)
    for kind, mode in (
        ("integer", "DIFFERENTIAL"),
        ("numeric(5, 2)", "DIFFERENTIAL"),
        ("regclass", "FULL"),
        ("mood", "FULL"),
    ):
        assert engine.validate_query(f"SELECT id, pg_input_is_valid(x, '{kind}') AS z FROM a").mode == mode


def _functions(conn: User, condition: str) -> list[tuple[Function, str, list[int]]]:
    rows = conn.execute(
        "SELECT p.oid, n.nspname, p.proname, p.prokind::text, p.provolatile::text, p.proretset,"
        " p.oid < 16384, p.oid::regprocedure::text, p.proargtypes::oid[]::bigint[]"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid < 16384 AND " + condition
    ).fetchall()
    return [(Function(*row[:7]), row[7], row[8]) for row in rows]


#: oid, regproc, regprocedure, regoper, regoperator, regclass, regtype, regnamespace, regrole, regcollation, aclitem
NAMING = {26, 24, 2202, 2203, 2204, 2205, 2206, 4089, 4096, 4191, 1033, 1034}


def test_every_stable_function_of_postgresql_is_known_to_be_steady_or_taken_for_moving(conn: User) -> None:
    stable = _functions(conn, "p.provolatile = 's'")
    assert len(stable) > 500
    known = {function.name for function, _, _ in stable if not function.moves}
    assert known <= STEADY
    # What reads the catalog is told what to read: by an OID, or by the name of an object.
    suspects = [shown for function, shown, kinds in stable if not function.moves and NAMING & set(kinds)]
    assert suspects == []
    if conn.info.server_version >= 180000:
        assert known >= STEADY, "no such function is stable"


def test_immutable_functions_of_postgresql_that_take_an_object_are_not_more_than_were_looked_at(conn: User) -> None:
    immutable = _functions(conn, "p.provolatile = 'i' AND n.nspname = 'pg_catalog'")
    assert len(immutable) > 1500
    found = {f.name for f, _, kinds in immutable if not f.moves and (NAMING - {26, 1033, 1034}) & set(kinds)}
    assert {name for name in found if not name.endswith("send")} == set()
    assert [f.name for f, _, _ in immutable if f.moves] == ["pg_partition_root"]
