"""Catalogs that earlier engines have left: migrated, their stream tables kept, right again with the first refresh.

A fixture is a dump of a database in which the engine of the time worked, with the OIDs that its tables had. It is
restored as if engine and server had been upgraded in place: the catalog has the OIDs of the tables, and change buffers
have no rows of the future. That its frontiers are of another cluster, and mean nothing, has to be noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL

from pgtrickle.api import PgTrickle
from pgtrickle.catalog import installation
from tests.support.catalogs import CATALOGS, restore

#: Migrations that somebody may have applied never change again: a change of the catalog is a migration of its own.
RELEASED = {
    "0001_initial.sql": "6294067a2374b429",
    "0002_refresh.sql": "8658fa01fc89478b",
    "0003_families.sql": "0ec404b7f938da71",
    "0004_nothing_lost.sql": "43efd842dc7a11e9",
    "0005_less_at_writes.sql": "ca9d2620716f4298",
    "0006_kept_apart.sql": "3fbf9cce5579f0b4",
    "0007_foreseen.sql": "f4aac78bcc26b196",
}

QUERIES = {
    "by_region": "SELECT region, count(*) AS n, sum(amount) AS total"
    " FROM orders o JOIN customer c ON c.id = o.customer_id GROUP BY region",
    "kinds": "SELECT DISTINCT kind FROM event",
    "largest": "SELECT region, sum(amount) AS most"
    " FROM orders o JOIN customer c ON c.id = o.customer_id GROUP BY region",
    "recent": "SELECT at, kind FROM event",
}


def test_what_was_released_stays_as_it_is() -> None:
    folder = files("pgtrickle.catalog").joinpath("migrations")
    found = {name: hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest()[:16] for name in RELEASED}
    assert found == RELEASED


def test_every_version_of_the_catalog_but_this_has_a_fixture() -> None:
    latest = installation.migrations()[-1].version
    assert {int(file.stem) for file in CATALOGS.glob("*.sql")} == set(range(1, latest))


@pytest.mark.newest_only
@pytest.mark.parametrize("version", sorted(int(file.stem) for file in CATALOGS.glob("*.sql")))
def test_a_catalog_of_an_earlier_version_is_migrated_and_its_stream_tables_follow(
    version: int, conn: psycopg.Connection[Any], db: str, oracle: Callable[..., None]
) -> None:
    restore(conn, version)
    with PgTrickle.connect(db) as engine:
        assert len(engine.install()) == installation.migrations()[-1].version - version
        before = {row.name for row in engine.status()}
        assert before == {f"public.{name}" for name in QUERIES}
        known = "SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%pgtrickle.unmet_tables(%' AND proname LIKE 'f~_%'"
        assert conn.execute(known + " ESCAPE '~'").fetchone() != (0,), "functions of the earlier engine were left"
        for result in engine.refresh_all():
            assert result.action == "FULL", result
            assert result.fallback_reason
        for name, query in QUERIES.items():
            oracle(conn, name, query)
        conn.execute("UPDATE orders SET amount = amount * 2, customer_id = 5 WHERE id % 3 = 0")
        conn.execute("DELETE FROM event WHERE kind = 'k2'")
        actions = {result.name: result.action for result in engine.refresh_all()}
        assert actions == {**dict.fromkeys(before, "DIFFERENTIAL"), "public.recent": "FULL"}
        for name, query in QUERIES.items():
            oracle(conn, name, query)
            assert engine.verify(f"public.{name}").proven is not False


@pytest.mark.newest_only
def test_an_engine_that_works_with_an_earlier_catalog_is_told_to_migrate(
    conn: psycopg.Connection[Any], db: str
) -> None:
    restore(conn, 1)
    with PgTrickle.connect(db) as engine, pytest.raises(Exception, match="the catalog has version 1"):
        engine.refresh_all()
    assert conn.execute(SQL("SELECT max(version) FROM pgtrickle.schema_migrations")).fetchone() == (1,)
