"""Fixtures of the fault tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import missing_tool
from tests.support import programs, servers


@pytest.fixture
def target(server: servers.Server, db: str) -> Iterator[str]:
    """Connection string of another fresh database of the same server."""
    with server.database(f"{conninfo_to_dict(db)['dbname']}_copy") as dsn:
        yield dsn


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the servers' user may write to."""
    with tempfile.TemporaryDirectory(prefix="pgt") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def client_programs(strict_tools: bool) -> None:
    """Needs the client programs of PostgreSQL."""
    try:
        for name in ("pg_dump", "pg_restore", "psql", "pg_basebackup"):
            programs.program(name)
    except programs.ProgramMissing as error:
        missing_tool(str(error), strict=strict_tools)
