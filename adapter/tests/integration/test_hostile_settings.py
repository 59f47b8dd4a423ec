"""Settings that roles and databases carry for other purposes: neither ours nor the writers' may break anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from pgtrickle.capture import trim
from pgtrickle.errors import PgTrickleError
from tests.support import servers
from tests.support.oracle import compare

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]

#: What people set for a role or a database, each at its worst.
SETTINGS: Mapping[str, str] = {
    "search_path": 'nowhere, "$user", hostile_trap',
    "statement_timeout": "300ms",
    "lock_timeout": "20ms",
    "idle_in_transaction_session_timeout": "300ms",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "row_security": "off",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Apia",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "xmloption": "document",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "escape_string_warning": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "default_tablespace": "",
    "temp_tablespaces": "",
    "check_function_bodies": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "on",
    "jit_above_cost": "0",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_indexscan": "off",
    "enable_sort": "off",
    "enable_hashagg": "off",
    "synchronous_commit": "off",
    "work_mem": "64kB",
    "default_toast_compression": "pglz",
    "password_encryption": "md5",
    "cursor_tuple_fraction": "1.0",
    "constraint_exclusion": "on",
    "default_statistics_target": "1",
    "from_collapse_limit": "1",
    "join_collapse_limit": "1",
    "geqo_threshold": "2",
    "max_parallel_workers_per_gather": "8",
    "parallel_setup_cost": "0",
    "min_parallel_table_scan_size": "0",
}
SINCE: Mapping[int, Mapping[str, str]] = {
    16: {"debug_parallel_query": "regress"},
    17: {"transaction_timeout": "300ms"},
    18: {},
}
UNTIL_15: Mapping[str, str] = {"force_parallel_mode": "regress"}

SCHEMA = """
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, "Größe" text, born date);
CREATE TABLE orders (id int, customer_id int, amount numeric, at timestamptz, took interval, raw bytea, f float8,
                     tags text[], PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100);
CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (100000);
INSERT INTO customer SELECT g, 'c''\\' || g, CASE WHEN g % 3 = 0 THEN NULL ELSE 'größer' END, date '2024-02-03' + g
FROM generate_series(1, 20) g;
INSERT INTO orders SELECT g, g % 20 + 1, g / 7.0, timestamptz '2024-01-02 23:30+00' + g * interval '1 day',
       make_interval(days => g, secs => -g), decode(lpad(to_hex(g), 4, '0'), 'hex'), g / 3.0::float8, ARRAY['a', NULL]
FROM generate_series(1, 200) g;
"""

QUERIES = {
    "sums": 'SELECT c."Größe", count(*) AS n, sum(o.amount) AS total, max(o.took) AS took, min(o.id) AS first'
    ' FROM public.orders o JOIN public.customer c ON c.id = o.customer_id GROUP BY c."Größe"',
    "days": "SELECT (o.at)::date AS day, (o.at)::text AS shown, o.took::text AS took, o.raw::text AS raw,"
    " o.f::text AS f, o.tags FROM public.orders o",
    "idle": "SELECT c.id, c.name, 'größe \\ it''s' AS label FROM public.customer c"
    " WHERE NOT EXISTS (SELECT FROM public.orders o WHERE o.customer_id = c.id)",
    "most": 'SELECT max(total) AS most, count("Größe") AS sizes FROM mart.sums',
    "numbered": "SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY amount, id) AS place"
    " FROM public.orders",
}

ROLES = ("hostile_etl", "hostile_app", "hostile_as")


@pytest.fixture
def hostile(conn: User, db: str) -> Iterator[User]:
    """A database in which the engine's role and the writers' carry all of these settings."""
    conn.execute(SCHEMA.encode())
    conn.execute("CREATE SCHEMA mart; CREATE SCHEMA hostile_trap")
    name = Identifier(conn.info.dbname)
    conn.execute("CREATE ROLE hostile_as; CREATE ROLE hostile_etl LOGIN; CREATE ROLE hostile_app LOGIN")
    conn.execute("GRANT hostile_as TO hostile_etl; GRANT pg_read_all_data, pg_write_all_data TO hostile_app")
    conn.execute("GRANT TRUNCATE ON orders_2 TO hostile_app")
    conn.execute(
        "ALTER TABLE customer OWNER TO hostile_as; ALTER TABLE orders OWNER TO hostile_as;"
        " ALTER TABLE orders_1 OWNER TO hostile_as; ALTER TABLE orders_2 OWNER TO hostile_as"
    )
    conn.execute(SQL("GRANT CREATE, TEMPORARY ON DATABASE {} TO hostile_as").format(name))
    conn.execute("GRANT ALL ON SCHEMA mart, public TO hostile_as")
    major = conn.info.server_version // 10000
    settings = dict(SETTINGS)
    for since, more in SINCE.items():
        settings.update(more if major >= since else {})
    settings.update(UNTIL_15 if major <= 15 else {})
    for role in ("hostile_etl", "hostile_app"):
        for setting, value in settings.items():
            if setting != "search_path":
                conn.execute(SQL("ALTER ROLE {} SET {} = {}").format(Identifier(role), Identifier(setting), value))
        conn.execute(SQL('ALTER ROLE {} SET search_path = nowhere, "$user", hostile_trap').format(Identifier(role)))
    conn.execute("ALTER ROLE hostile_etl SET role = 'hostile_as'")
    try:
        yield conn
    finally:
        for role in ROLES:
            conn.execute(SQL("DROP OWNED BY {} CASCADE").format(Identifier(role)))
        for role in ROLES:
            conn.execute(SQL("DROP ROLE {}").format(Identifier(role)))


def write(db: str, number: int) -> None:
    """What an application does whose role carries the settings, except that its own statements may take their time."""
    with psycopg.connect(make_conninfo(db, user="hostile_app"), autocommit=True) as app:
        app.execute("SET statement_timeout = 0")
        app.execute(
            "INSERT INTO public.orders SELECT g, 3, g, now(), '1 day', E'\\\\x00ff', 0.1, '{}'"
            " FROM generate_series(%s::int, %s::int) g",
            (1000 * number, 1000 * number + 10),
        )
        app.execute("UPDATE public.orders SET amount = amount + 1, customer_id = customer_id % 20 + 1 WHERE id % 7 = 0")
        app.execute("UPDATE public.customer SET name = name || 'ü' WHERE id = %s", (number,))
        app.execute("DELETE FROM public.orders WHERE id %% 11 = %s", (number,))
        with app.transaction():
            app.execute("TRUNCATE public.orders_2")
            app.execute(
                "INSERT INTO public.orders SELECT g, g % 20 + 1, g, now(), '2 days', E'\\\\x01', 0.5, '{x}'"
                " FROM generate_series(100, 150) g"
            )


def test_settings_of_roles_break_nothing(hostile: User, db: str) -> None:
    dsn = make_conninfo(db, user="hostile_etl")
    with PgTrickle.connect(dsn) as engine:
        engine.install()
        for name, query in QUERIES.items():
            engine.create_stream_table(f"mart.{name}", query)
        for number in (1, 2):
            write(db, number)
            assert {one.action for one in engine.refresh_all()} <= {"DIFFERENTIAL", "FULL", "NO_DATA"}
            for name in QUERIES:
                assert engine.verify(f"mart.{name}").proven, name
        assert compare(hostile, "mart.sums", QUERIES["sums"]) is None
        trim(engine.own_conn)
        assert {one.code for one in engine.doctor()} <= {"role_settings"}
        hostile.execute("ALTER TABLE orders DISABLE TRIGGER USER; DROP TABLE pgtrickle_changes.o_1")
        assert {one.code for one in engine.doctor(fix=True) if not one.fixed} <= {"role_settings"}
        assert {one.action for one in engine.refresh_all()} <= {"DIFFERENTIAL", "FULL", "NO_DATA"}
        assert engine.verify("mart.most").proven
        engine.explain("mart.sums")
        engine.status()
        engine.history()
        engine.create_or_replace_stream_table("mart.numbered", "SELECT id, amount FROM public.orders WHERE amount > 10")
        engine.drop_stream_table("mart.sums", cascade=True)
        engine.uninstall()


def test_a_role_that_may_only_read_is_told_so_and_nothing_is_stuck(conn: User, db: str) -> None:
    with PgTrickle.connect(db) as engine:
        engine.install()
        conn.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        engine.create_stream_table("s", "SELECT id FROM t")
    name = Identifier(conn.info.dbname)
    conn.execute(SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    conn.execute("INSERT INTO t VALUES (2)")
    with PgTrickle.connect(db) as engine:
        assert [one.code for one in engine.doctor()] == ["role_settings"]
        assert engine.status()[0].is_populated
        for call in (
            lambda: engine.refresh_stream_table("s"),
            lambda: engine.create_stream_table("r", "SELECT id FROM t"),
            lambda: engine.drop_stream_table("s"),
        ):
            with pytest.raises(PgTrickleError, match="read-only") as caught:
                call()
            assert "default_transaction_read_only" in (caught.value.hint or "")
    conn.execute(SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
    with PgTrickle.connect(db) as engine:
        assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
        assert engine.doctor() == ()


@pytest.mark.parametrize(
    ("encoding", "column"), [("LATIN1", "Größe"), ("SQL_ASCII", "Größe"), ("EUC_JP", "日本")], ids=lambda one: one
)
def test_databases_of_other_encodings_hold_their_names(encoding: str, column: str, server: servers.Server) -> None:
    with server.connect() as admin:
        admin.execute(f"CREATE DATABASE encoded TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'".encode())
    try:
        dsn = server.dsn("encoded")
        with psycopg.connect(dsn, autocommit=True, client_encoding="UTF8") as conn, PgTrickle.connect(dsn) as engine:
            engine.install()
            conn.execute(SQL("CREATE TABLE t (id int PRIMARY KEY, {} text)").format(Identifier(column)))
            conn.execute(SQL("INSERT INTO t VALUES (1, {0}), (2, 'b')").format(column))
            query = SQL("SELECT {0}, count(*) AS n FROM t WHERE {0} <> {1} GROUP BY {0}")
            text = query.format(Identifier(column), column + "x").as_string(conn)
            engine.create_stream_table("s", text, refresh_mode="DIFFERENTIAL")
            conn.execute(SQL("INSERT INTO t VALUES (3, {}); DELETE FROM t WHERE id = 2").format(column))
            assert engine.refresh_stream_table("s").action == "DIFFERENTIAL"
            assert conn.execute("SELECT * FROM s").fetchall() == [(column, 2)]
            assert engine.verify("s").proven
    finally:
        server.drop_database("encoded")
