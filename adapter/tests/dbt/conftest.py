"""Fixtures of the dbt tests: dbt-core's own project fixtures on a private server of ours."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dbt.flags
import psycopg
import pytest
from dbt.tests.fixtures.project import *  # noqa: F403 - dbt's fixtures are found by their names
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from tests.support.servers import Server

#: dbt-tests-adapter's hook tests expect exactly these.
DATABASE, USER, THREADS = "dbt", "root", 4
GRANTEES = ("dbt_test_user_1", "dbt_test_user_2", "dbt_test_user_3")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """dbt-tests-adapter defines its fixtures in a way that pytest wants to give up; nothing here can change that."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:Class-scoped fixtures defined as instance methods"))


@pytest.fixture(scope="session")
def dbt_database(server: Server) -> dict[str, Any]:
    """A database for dbt's tests, which keep apart by schema; the connection's parameters."""
    dbt.flags.set_from_args(Namespace(), None)
    with server.connect() as conn:
        # The server outlives this fixture where tests of other versions come in between.
        conn.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(DATABASE)))
        for name in (USER, *GRANTEES):
            conn.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(name)))
        conn.execute(SQL("CREATE ROLE {} SUPERUSER LOGIN").format(Identifier(USER)))
        for name in GRANTEES:
            conn.execute(SQL("CREATE ROLE {}").format(Identifier(name)))
        conn.execute(
            SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {}").format(Identifier(DATABASE), Identifier(USER))
        )
        if server.password is not None:
            conn.execute(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(USER), server.password))
    for number, name in enumerate(GRANTEES, start=1):
        os.environ[f"DBT_TEST_USER_{number}"] = name
    return conninfo_to_dict(server.dsn(DATABASE, user=USER))


@pytest.fixture(scope="class")
def dbt_profile_target(dbt_database: dict[str, Any]) -> dict[str, Any]:
    """The profile's target; dbt's fixtures add the schema."""
    return {
        "type": "pgtrickle",
        "threads": THREADS,
        "host": dbt_database["host"],
        "port": int(dbt_database["port"]),
        "user": USER,
        "password": dbt_database.get("password") or "unused",
        "dbname": DATABASE,
    }


@pytest.fixture
def connection(dbt_database: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection of the user's application to dbt's database."""
    with psycopg.connect(**dbt_database, autocommit=True) as opened:
        yield opened
