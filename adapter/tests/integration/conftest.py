"""Fixtures for tests of the engine's parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgtrickle import db as engine_db
from pgtrickle.catalog import installation


@pytest.fixture
def storage(db: str) -> Iterator[engine_db.Connection]:
    """A connection of the engine to `db`, with the catalog installed."""
    with engine_db.connect(db) as connection:
        installation.install(connection)
        connection.lend()
        yield connection
