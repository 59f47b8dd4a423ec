"""Fixtures of every test: private servers, a fresh database for each test, an engine, the oracle."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support import oracle as oracles
from tests.support import servers

if TYPE_CHECKING:
    from pgtrickle.api import PgTrickle

_counter = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which servers, and whether a missing tool is a failure."""
    parser.addoption(
        "--pg-major",
        default=os.environ.get("PGTRICKLE_TEST_MAJORS", "18"),
        help="comma-separated major versions to run server tests on (default: $PGTRICKLE_TEST_MAJORS or 18)",
    )
    parser.addoption(
        "--strict-tools", action="store_true", help="a tool that is missing fails a test instead of skipping it"
    )
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long modules first, so that workers end together; leave the slow tests out unless they are asked for."""
    items.sort(key=lambda item: ("/property/" not in str(item.path), "/dbt/" not in str(item.path)))
    if config.getoption("--run-slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def pytest_configure(config: pytest.Config) -> None:
    """Check the option once."""
    unknown = [major for major in _majors(config) if major not in servers.MAJORS]
    if unknown:
        raise pytest.UsageError(f"--pg-major: {unknown}; there are {list(servers.MAJORS)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that needs a server on every chosen version."""
    if "pg_major" not in metafunc.fixturenames:
        return
    majors = _majors(metafunc.config)
    if metafunc.definition.get_closest_marker("newest_only"):
        majors = [max(majors)]
    by_default = not metafunc.config.getoption("--run-slow")
    if metafunc.definition.get_closest_marker("edges_only") and by_default:
        majors = sorted({min(majors), max(majors)})
    if metafunc.definition.get_closest_marker("newest_by_default") and by_default:
        majors = [max(majors)]
    wanted = metafunc.definition.get_closest_marker("min_major")
    if wanted is not None:
        majors = [major for major in majors if major >= wanted.args[0]]
    metafunc.parametrize("pg_major", majors, ids=[f"pg{major}" for major in majors], scope="session")


def _majors(config: pytest.Config) -> list[int]:
    return sorted({int(part) for part in str(config.getoption("--pg-major")).split(",") if part.strip()})


class Pool:
    """The servers of this process: each is started when the first test asks for it and lives until the end."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.running: dict[int, servers.Server] = {}

    def get(self, major: int) -> servers.Server:
        """The server of a major version; skips, or fails if strict, where there is none."""
        if major not in self.running:
            try:
                self.running[major] = servers.start(major)
            except servers.ServerUnavailable as error:
                missing_tool(str(error), strict=self.strict)
        return self.running[major]

    def close(self) -> None:
        """Stop all."""
        for server in self.running.values():
            server.stop()


def missing_tool(reason: str, *, strict: bool) -> None:
    """Skip loudly, or fail under ``--strict-tools``."""
    if strict:
        pytest.fail(f"missing tool: {reason}", pytrace=False)
    pytest.skip(f"MISSING TOOL: {reason}")


@pytest.fixture(scope="session")
def strict_tools(request: pytest.FixtureRequest) -> bool:
    """Whether a missing tool fails a test."""
    return bool(request.config.getoption("--strict-tools"))


@pytest.fixture(scope="session")
def server_pool(strict_tools: bool) -> Iterator[Pool]:
    """All servers of this process."""
    pool = Pool(strict_tools)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def server(server_pool: Pool, pg_major: int) -> servers.Server:
    """The running server of the version under test; shared, so never stop it: start your own for that."""
    return server_pool.get(pg_major)


@pytest.fixture
def db(server: servers.Server) -> Iterator[str]:
    """Connection string of a fresh, empty database (user ``postgres``, superuser); dropped after the test."""
    yield from fresh_database(server)


@pytest.fixture(scope="module")
def module_db(server: servers.Server) -> Iterator[str]:
    """Like `db`, one for all tests of a module."""
    yield from fresh_database(server)


def fresh_database(server: servers.Server) -> Iterator[str]:
    """Create a database, yield its connection string, drop it."""
    with server.database(f"t{next(_counter)}") as dsn:
        yield dsn


@pytest.fixture
def conn(db: str) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection to `db`, the user's application."""
    with psycopg.connect(db, autocommit=True) as connection:
        yield connection


@pytest.fixture
def connect(db: str) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """Open further connections to `db`; they are closed after the test."""
    opened: list[psycopg.Connection[Any]] = []

    def open_one(*, autocommit: bool = True, **options: Any) -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(db, autocommit=autocommit, **options))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def engine(db: str) -> Iterator[PgTrickle]:
    """The engine, connected to `db` and installed there."""
    from pgtrickle.api import PgTrickle

    with PgTrickle.connect(db) as connected:
        connected.install()
        yield connected


@pytest.fixture
def oracle() -> Callable[..., None]:
    """``oracle(conn, table, query, classes=...)``: fail unless the table holds exactly the rows of the query."""
    return oracles.assert_same_rows
