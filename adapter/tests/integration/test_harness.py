"""The private servers of the test suite themselves, and the oracle: both must be able to fail."""

from __future__ import annotations

import psycopg
import pytest

from tests.support import oracle as oracles

pytestmark = pytest.mark.edges_only


def test_each_test_gets_a_server_of_the_version_it_asked_for(conn, pg_major):
    assert conn.info.server_version // 10000 == pg_major
    assert conn.execute("SHOW wal_level").fetchone() == ("logical",)
    assert conn.execute("SHOW max_prepared_transactions").fetchone() == ("20",)


def test_databases_of_two_tests_are_strangers(conn):
    conn.execute("CREATE TABLE only_here (a int)")
    assert conn.execute("SELECT count(*) FROM pg_class WHERE relname = 'only_here'").fetchone() == (1,)


def test_a_prepared_transaction_does_not_keep_the_database(connect):
    session = connect(autocommit=False)
    session.execute("CREATE TABLE prepared (a int)")
    session.execute("PREPARE TRANSACTION 'left behind'")


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ("SELECT 1 AS a UNION ALL SELECT 1", "too many"),
        ("SELECT 2 AS a", "missing"),
        ("SELECT NULL::int AS a", "missing"),
        ("SELECT 1 AS a WHERE false", "missing"),
        ("SELECT 1 AS b", "columns"),
    ],
)
def test_the_oracle_sees_every_kind_of_difference(conn, oracle, stored, complaint):
    conn.execute(f"CREATE TABLE s AS {stored}")
    with pytest.raises(AssertionError, match=complaint):
        oracle(conn, "s", "SELECT 1 AS a")


def test_the_oracle_distinguishes_scales_only_in_exact_columns(conn, oracle):
    conn.execute("CREATE TABLE s AS SELECT 1.0 AS a")
    with pytest.raises(AssertionError):
        oracle(conn, "s", "SELECT 1.00 AS a")
    oracle(conn, "s", "SELECT 1.00 AS a", classes={0: oracles.EQUAL})


def test_the_oracle_tolerates_rounding_only_in_approximate_columns(conn, oracle):
    conn.execute("CREATE TABLE s AS SELECT 0.3::float8 AS a")
    with pytest.raises(AssertionError):
        oracle(conn, "s", "SELECT 0.1::float8 + 0.2::float8 AS a")
    oracle(conn, "s", "SELECT 0.1::float8 + 0.2::float8 AS a", classes={0: oracles.APPROXIMATE})
    with pytest.raises(AssertionError):
        oracle(conn, "s", "SELECT 0.3001::float8 AS a", classes={0: oracles.APPROXIMATE})


def test_the_oracle_compares_types_that_have_no_equality(conn, oracle):
    conn.execute("CREATE TABLE s AS SELECT '{}'::json AS a, point(1, 2) AS b")
    oracle(conn, "s", "SELECT '{}'::json AS a, point(1, 2) AS b")
    with pytest.raises(AssertionError):
        oracle(conn, "s", "SELECT '{}'::json AS a, point(1, 3) AS b")


def test_connections_are_autocommit(conn):
    assert isinstance(conn, psycopg.Connection)
    assert conn.autocommit
