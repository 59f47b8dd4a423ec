"""Capture does not mind names or types."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle import capture
from pgtrickle import db as engine_db
from pgtrickle.catalog import sources
from tests.support.consumers import Consumer, need_of

User = psycopg.Connection[Any]

NAMES = {
    "mixed_case": "MiXed",
    "space_and_quote": 'a "quoted" name',
    "apostrophe": "o'clock",
    "percent_and_braces": "100%(x)s {y} $1 $$",
    "backslash": "back\\slash",
    "newline": "two\nlines",
    "unicode": "prénom_名前_🐘",
    "sixty_three_bytes": "x" * 63,
    "sixty_three_bytes_of_unicode": "é" * 31 + "x",
    "keyword": "select",
    "our_own_words": "__x",
    "variable_of_the_function": "fits",
    "alias_of_the_function": "r",
    "transition_table": "new_rows",
    "trigger_variable": "tg_op",
    "old": "old",
}

TYPES = {
    "smallint": ("-1", "32767"),
    "bigint": ("9223372036854775807", "0"),
    "numeric": ("1.0", "1.00", "NaN", "Infinity"),
    "numeric(8,2)": ("1.5", "0"),
    "real": ("0.1", "-0"),
    "double precision": ("NaN", "-0", "0", "1e300"),
    "money": ("1.00",),
    "boolean": ("t", "f"),
    "text": ("", " x "),
    "varchar(5)": ("abc", "abc  "),
    "char(5)": ("a", "a  "),
    '"char"': ("a", "b"),
    "name": ("n",),
    "bytea": ("\\x00ff",),
    "date": ("infinity", "0044-03-15 BC"),
    "time": ("24:00",),
    "time(3) with time zone": ("12:00+02",),
    "timestamp(0)": ("2024-02-29 12:00:01.6",),
    "timestamptz": ("-infinity", "2024-01-01 00:00+00"),
    "interval": ("1 mon", "30 days"),
    "interval(2)": ("1.239 s",),
    "interval day to second": ("1 day 2:03:04.5",),
    "bit": ("1", "0"),
    "bit(9)": ("101010101",),
    "bit varying": ("1", "10101"),
    "json": ('{"a": 1}', '{"a":1}'),
    "jsonb": ('{"a": 1.0}', '{"a": 1.00}'),
    "jsonpath": ("$.a",),
    "xml": ("<a/>",),
    "uuid": ("00000000-0000-0000-0000-000000000001",),
    "inet": ("10.0.0.1/8",),
    "cidr": ("10.0.0.0/8",),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "point": ("(1,2)",),
    "line": ("{1,2,3}",),
    "lseg": ("[(0,0),(1,1)]",),
    "box": ("(1,1),(0,0)",),
    "path": ("((0,0),(1,1))",),
    "polygon": ("((0,0),(1,1),(2,0))",),
    "circle": ("<(0,0),1>",),
    "tsvector": ("'a':1 'b'",),
    "tsquery": ("a & b",),
    "int4range": ("[1,3)", "empty"),
    "nummultirange": ("{[1,2),[5,6]}",),
    "integer[]": ("{1,NULL,3}", "{{1},{2}}", "[0:1]={1,2}"),
    "text[][]": ("{a,b}",),
    "oid": ("4294967295",),
    "xid8": ("18446744073709551615",),
    "pg_lsn": ("0/1",),
    "pg_snapshot": ("1:2:",),
    "regclass": ("pg_class",),
    "a_schema.mood": ("sad", "happy"),
    "a_schema.positive": ("1", "2.50"),
    "a_schema.pair": ('(1,"x")', "(,)"),
    "a_schema.positive[]": ("{1,2}",),
    'text COLLATE "C"': ("a", "B"),
    "text COLLATE a_schema.other": ("a", "A"),
}


@pytest.mark.newest_only
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_name_can_be_captured(name: str, storage: engine_db.Connection, conn: User) -> None:
    other = name + "2" if len(name.encode()) < 63 else name[:-1] + "2"
    schema, table, column, second = (Identifier(part) for part in (name, name, name, other))
    conn.execute(SQL("CREATE SCHEMA {}").format(schema))
    conn.execute(
        SQL("CREATE TABLE {}.{} (id integer PRIMARY KEY, {} text, {} text)").format(schema, table, column, second)
    )
    qualified = SQL("{}.{}").format(schema, table)
    conn.execute(SQL("INSERT INTO {} SELECT g, 'a', 'b' FROM generate_series(1, 5) g").format(qualified))
    consumer = Consumer(storage, need_of(conn, qualified.as_string(conn))).install().load()
    conn.execute(SQL("INSERT INTO {} VALUES (9, 'x', 'y')").format(qualified))
    conn.execute(SQL("UPDATE {} SET {} = 'z' WHERE id < 3").format(qualified, column))
    conn.execute(SQL("DELETE FROM {} WHERE id = 4").format(qualified))
    consumer.assert_exact()
    conn.execute(SQL("TRUNCATE {}").format(qualified))
    consumer.assert_exact()
    capture.release(storage, consumer.id)


def test_every_type_can_be_captured_with_its_image(storage: engine_db.Connection, conn: User) -> None:
    conn.execute(
        "CREATE SCHEMA a_schema;"
        "CREATE TYPE a_schema.mood AS ENUM ('sad', 'happy');"
        "CREATE DOMAIN a_schema.number AS numeric NOT NULL;"
        "CREATE DOMAIN a_schema.positive AS a_schema.number CHECK (VALUE > 0);"
        "CREATE TYPE a_schema.pair AS (a integer, b text);"
        'CREATE COLLATION a_schema.other FROM "C"'
    )
    consumers = []
    for number, (name, values) in enumerate(TYPES.items()):
        table = f"t{number}"
        conn.execute(f"CREATE TABLE {table} (id integer, v {name})")
        try:
            for value in values:
                conn.execute(f"INSERT INTO {table} VALUES (1, %s)", (value,))
        except psycopg.errors.FeatureNotSupported:  # xml, in a server that was built without it
            continue
        if "positive" not in name or "[]" in name:
            conn.execute(f"INSERT INTO {table} VALUES (2, NULL)")
        consumers.append((table, Consumer(storage, need_of(conn, table)).install().load()))
    for table, consumer in consumers:
        conn.execute(f"INSERT INTO {table} SELECT id + 10, v FROM {table}")
        conn.execute(f"UPDATE {table} SET v = (SELECT v FROM {table} WHERE id = 1 LIMIT 1) WHERE id > 10")
        conn.execute(f"DELETE FROM {table} WHERE id = 1")
        consumer.assert_exact()
        conn.execute(f"TRUNCATE {table}")
        consumer.assert_exact()


def test_more_columns_than_fit_into_an_index_can_be_captured(storage: engine_db.Connection, conn: User) -> None:
    columns = ", ".join(f"c{number} integer" for number in range(400))
    conn.execute(f"CREATE TABLE wide ({columns})")
    consumer = Consumer(storage, need_of(conn, "wide")).install().load()
    conn.execute("INSERT INTO wide (c0, c399) VALUES (1, 2)")
    consumer.assert_exact()


def test_toasted_values_are_captured_whole(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE big (id integer, v text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL")
    conn.execute("INSERT INTO big SELECT g, repeat(md5(g::text), 1000) FROM generate_series(1, 5) g")
    consumer = Consumer(storage, need_of(conn, "big")).install().load()
    conn.execute("UPDATE big SET id = id + 1; DELETE FROM big WHERE id = 3")
    consumer.assert_exact()


def test_stored_generated_columns_are_captured(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE g (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED)")
    consumer = Consumer(storage, need_of(conn, "g")).install().load()
    conn.execute("INSERT INTO g VALUES (1), (2); UPDATE g SET a = a + 10")
    consumer.assert_exact()


@pytest.mark.min_major(18)
def test_of_virtual_generated_columns_nothing_is_captured(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE g (a integer, b integer GENERATED ALWAYS AS (a * 2) VIRTUAL)")
    need = need_of(conn, "g")
    assert list(need.columns) == [1, 2]
    assert capture.restrictions(storage, need.relid) is None
    consumer = Consumer(storage, need).install().load()
    assert [source.columns for source in sources.fetch_all(storage)] == [(1,)]
    conn.execute("INSERT INTO g VALUES (1), (2); UPDATE g SET a = a + 10")
    assert consumer.changes().rows == 6


def test_query_without_columns_still_counts_rows(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("CREATE TABLE n (a integer)")
    consumer = Consumer(storage, need_of(conn, "n", [])).install().load()
    conn.execute("INSERT INTO n SELECT generate_series(1, 7); DELETE FROM n WHERE a = 1")
    assert consumer.changes().rows == 8
