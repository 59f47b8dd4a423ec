"""Consumed changes go away where no runner runs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle import api, capture
from pgtrickle.api import PgTrickle
from pgtrickle.errors import StatementFailed

pytestmark = pytest.mark.edges_only


def kept(conn: psycopg.Connection[Any]) -> int:
    (buffer,) = conn.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'b\\_%'").fetchone() or ("",)
    rows = conn.execute(SQL("SELECT count(*) FROM {}").format(Identifier("pgtrickle_changes", buffer))).fetchone()
    return rows[0] if rows else -1


@pytest.fixture
def table(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    conn.execute("CREATE TABLE t (k integer PRIMARY KEY, v integer)")
    engine.create_stream_table("total", "SELECT sum(v) AS v FROM t", refresh_mode="DIFFERENTIAL")


@pytest.mark.usefixtures("table")
def test_refresh_all_trims_what_everybody_has_consumed(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    conn.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 50) g")
    assert kept(conn) == 50
    engine.refresh_all()
    assert kept(conn) == 0


@pytest.mark.usefixtures("table")
def test_single_refreshes_trim_after_many_changes(
    conn: psycopg.Connection[Any], engine: PgTrickle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "TRIM_AFTER", 60)
    for start in (1, 101):
        conn.execute("INSERT INTO t SELECT g, g FROM generate_series(%s::int, %s::int) g", (start, start + 39))
        engine.refresh_stream_table("total")
    assert kept(conn) == 0
    conn.execute("INSERT INTO t VALUES (900, 1)")
    engine.refresh_stream_table("total")
    assert kept(conn) == 1


def many(conn: psycopg.Connection[Any], start: int) -> None:
    """Changes whose buffer is long enough to be emptied at once."""
    conn.execute("INSERT INTO t SELECT g, 1 FROM generate_series(%s::int, %s::int) g", (start, start + 9_999))


def file_of(conn: psycopg.Connection[Any]) -> tuple[int, int]:
    """Size and file number of the buffer."""
    found = conn.execute(
        "SELECT pg_relation_size(c.oid), pg_relation_filenode(c.oid) FROM pg_class c WHERE relname LIKE 'b\\_%'"
        " AND relkind = 'r' AND relnamespace = 'pgtrickle_changes'::regnamespace"
    ).fetchone()
    assert found is not None
    return found


@pytest.mark.parametrize("mode", ["DIFFERENTIAL", "AUTO"])
@pytest.mark.usefixtures("table")
def test_a_long_buffer_that_everybody_has_read_is_emptied_at_once(
    conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Any, mode: str
) -> None:
    engine.alter_stream_table("total", refresh_mode=mode)
    many(conn, 1)
    _, before = file_of(conn)
    engine.refresh_stream_table("total")
    size, after = file_of(conn)
    assert (size, after != before) == (0, True)
    many(conn, 20_000)
    engine.refresh_stream_table("total")
    oracle(conn, "total", "SELECT sum(v) AS v FROM t")


@pytest.mark.usefixtures("table")
def test_a_buffer_is_not_emptied_below_those_who_write_to_it_or_have_not_read_it(
    conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Any, db: str
) -> None:
    many(conn, 1)
    _, before = file_of(conn)
    with psycopg.connect(db) as writer:
        writer.execute("INSERT INTO t VALUES (100000, 5)")
        engine.refresh_stream_table("total")
        assert (kept(conn), file_of(conn)[1] == before) == (0, True)
        writer.commit()
    engine.refresh_stream_table("total")
    oracle(conn, "total", "SELECT sum(v) AS v FROM t")
    engine.create_stream_table("count", "SELECT count(*) AS n FROM t")
    many(conn, 20_000)
    engine.refresh_stream_table("total")
    assert kept(conn) == 10_000
    engine.refresh_stream_table("count")
    oracle(conn, "count", "SELECT count(*) AS n FROM t")


@pytest.mark.usefixtures("table")
def test_nothing_is_lost_when_long_buffers_are_emptied_below_writers(
    conn: psycopg.Connection[Any], engine: PgTrickle, oracle: Any, db: str
) -> None:
    emptied, enough = 0, threading.Event()

    def write(number: int) -> None:
        with psycopg.connect(db, autocommit=True) as writer:
            for turn in range(200):
                many(writer, 10_000_000 * number + 20_000 * turn)
                writer.execute("UPDATE t SET v = v + 1 WHERE k %% 50 = %s AND k %% 7 = 3", (turn % 50,))
                if enough.wait(0.05 * number):
                    return

    _, file = file_of(conn)
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, number) for number in (1, 2)]
        while not all(writer.done() for writer in writers):
            engine.refresh_stream_table("total")
            emptied, file = emptied + (file_of(conn)[1] != file), file_of(conn)[1]
            if emptied == 3:
                enough.set()
        for writer in writers:
            writer.result()
    engine.refresh_stream_table("total")
    oracle(conn, "total", "SELECT sum(v) AS v FROM t")
    assert emptied


@pytest.mark.usefixtures("table")
def test_a_time_out_in_the_first_buffer_keeps_no_other_from_being_trimmed(
    conn: psycopg.Connection[Any], engine: PgTrickle
) -> None:
    conn.execute("CREATE TABLE u (k integer PRIMARY KEY, v integer)")
    engine.create_stream_table("other", "SELECT sum(v) AS v FROM u", refresh_mode="DIFFERENTIAL")
    conn.execute("INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1, 1)")
    found = conn.execute("SELECT table_name, 'pgtrickle_changes.b_' || id FROM pgtrickle.sources").fetchall()
    buffers = {str(name): str(buffer) for name, buffer in found}
    conn.execute(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'"
    )
    conn.execute(f"CREATE TRIGGER dawdle BEFORE DELETE ON {buffers['t']} EXECUTE FUNCTION dawdle()".encode())
    for name in ("total", "other"):
        engine.refresh_stream_table(name)
    rows = {name: f"SELECT count(*) FROM {buffer}".encode() for name, buffer in buffers.items()}
    assert [conn.execute(rows[name]).fetchone() for name in "tu"] == [(1,), (1,)]
    # As a pooler's connection has it, of which we cannot be rid.
    engine.own_conn.execute("SET statement_timeout = '400ms'")
    with pytest.raises(StatementFailed, match="statement timeout"):
        capture.trim(engine.own_conn)
    assert [conn.execute(rows[name]).fetchone() for name in "tu"] == [(1,), (0,)]
