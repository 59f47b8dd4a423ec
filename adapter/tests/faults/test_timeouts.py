"""Time-outs that a role has for people at a prompt: refreshes take as long as they take."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle

pytestmark = pytest.mark.edges_only

SLOW = (
    "CREATE FUNCTION slow(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(1.5); RETURN v; END'"
)


def test_time_outs_of_the_database_end_no_load_and_no_refresh(db: str, conn: psycopg.Connection[Any]) -> None:
    conn.execute("CREATE TABLE t (id int, v int)")
    conn.execute(SLOW)
    conn.execute("INSERT INTO t VALUES (1, 1)")
    with PgTrickle.connect(db) as engine:
        engine.install()
    names = ["statement_timeout", "idle_in_transaction_session_timeout"]
    names += ["transaction_timeout"] if conn.info.server_version >= 170000 else []
    for name in names:
        database = Identifier(conn.info.dbname)
        conn.execute(SQL("ALTER DATABASE {} SET {} = '1s'").format(database, Identifier(name)))
    with PgTrickle.connect(db) as engine:
        engine.create_stream_table("s", "SELECT id, public.slow(v) AS v FROM t")
        conn.execute("INSERT INTO t VALUES (2, 2)")
        assert engine.refresh_stream_table("s").rows_inserted == 1
        assert engine.verify("s").proven
    assert conn.execute("SELECT count(*) FROM s").fetchone() == (2,)
