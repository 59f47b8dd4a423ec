"""Installing the catalog: once, concurrently, by versions."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from pgtrickle import db as engine_db
from pgtrickle.api import PgTrickle
from pgtrickle.catalog import installation, structure
from pgtrickle.errors import CatalogError, PermissionDenied

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]


def test_installing_twice_applies_nothing_the_second_time(db: str) -> None:
    with engine_db.connect(db) as conn:
        assert installation.install(conn)[0] == "0001_initial"
        assert installation.install(conn) == ()
        found = installation.check(conn)
        assert (
            found.database_oid
            == conn.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()[0]
        )  # type: ignore[index]
        assert found.engine_role == "postgres"


def test_concurrent_installs_leave_one_catalog(db: str) -> None:
    applied: list[tuple[str, ...]] = []

    def install() -> None:
        with engine_db.connect(db) as conn:
            applied.append(installation.install(conn))

    threads = [threading.Thread(target=install) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, applied)) == [0, 0, 0, len(installation.migrations())]


def test_check_says_how_to_install(db: str) -> None:
    with engine_db.connect(db) as conn, pytest.raises(CatalogError) as caught:
        installation.check(conn)
    assert "pgtrickle init" in str(caught.value.hint)


def test_older_engine_refuses_a_newer_catalog(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("INSERT INTO pgtrickle.schema_migrations VALUES (999, '0999_future')")
    for work in (installation.check, installation.install):
        with pytest.raises(CatalogError, match="999"):
            work(storage)


def test_newer_engine_asks_for_a_migration(storage: engine_db.Connection, conn: User) -> None:
    conn.execute("UPDATE pgtrickle.schema_migrations SET version = version - 1")
    with pytest.raises(CatalogError):
        installation.check(storage)


def test_schema_of_somebody_else_is_not_touched(db: str, conn: User) -> None:
    conn.execute("CREATE SCHEMA pgtrickle; CREATE TABLE pgtrickle.theirs (k integer)")
    with engine_db.connect(db) as engine, pytest.raises(CatalogError, match="not ours"):
        installation.install(engine)
    assert conn.execute("SELECT count(*) FROM pgtrickle.theirs").fetchone() == (0,)
    assert conn.execute("SELECT to_regnamespace('pgtrickle_changes')").fetchone() == (None,)


def test_extension_pg_trickle_is_refused(db: str, conn: User) -> None:
    # The extension itself cannot be built here: its row in pg_extension is what counts.
    conn.execute(
        "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
        " VALUES (99999, 'pg_trickle', 10, 'public'::regnamespace, false, '0.37.0')"
    )
    with engine_db.connect(db) as engine, pytest.raises(CatalogError, match="pg_trickle"):
        installation.install(engine)
    conn.execute("DELETE FROM pg_extension WHERE oid = 99999")


def test_role_without_create_on_the_database_is_told(db: str, conn: User) -> None:
    conn.execute("DROP ROLE IF EXISTS nobody_special; CREATE ROLE nobody_special")
    try:
        with engine_db.connect(db, role="nobody_special") as engine, pytest.raises(PermissionDenied):
            installation.install(engine)
    finally:
        conn.execute("DROP ROLE nobody_special")


def test_every_table_can_be_updated_and_deleted_from_under_a_publication(
    storage: engine_db.Connection, conn: User
) -> None:
    conn.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    tables = conn.execute(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname LIKE 'pgtrickle%'"
    ).fetchall()
    assert len(tables) > 10
    for (table,) in tables:
        conn.execute(f"DELETE FROM {table}")


def test_buffer_limit_can_be_set_and_is_kept(db: str) -> None:
    with engine_db.connect(db) as conn:
        installation.install(conn, buffer_limit_bytes=4096)
        installation.install(conn)
        assert installation.check(conn).buffer_limit_bytes == 4096


def test_what_the_doctor_expects_of_the_catalog_is_what_migrations_make(engine: PgTrickle) -> None:
    written, made = structure.expected_tables(), structure.present_tables(engine.own_conn)
    assert written == made, "after a change of migrations run tools/catalog_structure.py"
    assert list(structure.damages(engine.own_conn)) == []
    assert {name.split(" ")[0] for name in structure.expected_code()} == {"FUNCTION", "PROCEDURE", "VIEW"}
