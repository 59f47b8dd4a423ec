"""Roles with no more rights than they need, and what those that have none can see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PermissionDenied, RefreshError
from tests.support.oracle import compare

pytestmark = pytest.mark.edges_only

User = psycopg.Connection[Any]

#: What hosted servers give their customers instead of a superuser, as far as tables and schemas are concerned.
PROFILES: Mapping[str, str] = {
    "rds": "CREATE ROLE rds_superuser NOLOGIN CREATEDB CREATEROLE; GRANT pg_monitor TO rds_superuser;"
    " CREATE ROLE priv_admin LOGIN CREATEDB CREATEROLE; GRANT rds_superuser TO priv_admin",
    "cloud_sql": "CREATE ROLE cloudsqlsuperuser NOLOGIN CREATEDB CREATEROLE; GRANT pg_monitor TO cloudsqlsuperuser;"
    " CREATE ROLE priv_admin LOGIN; GRANT cloudsqlsuperuser TO priv_admin",
    "azure": "CREATE ROLE azure_pg_admin NOLOGIN CREATEDB CREATEROLE; CREATE ROLE priv_admin LOGIN CREATEDB CREATEROLE;"
    " GRANT azure_pg_admin, pg_monitor TO priv_admin",
    "supabase": "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;"
    " CREATE ROLE priv_admin LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS;"
    " GRANT anon, authenticated, service_role TO priv_admin;"
    " ALTER DEFAULT PRIVILEGES FOR ROLE priv_admin GRANT ALL ON TABLES TO anon, authenticated, service_role;"
    " ALTER DEFAULT PRIVILEGES FOR ROLE priv_admin GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;"
    " ALTER DEFAULT PRIVILEGES FOR ROLE priv_admin GRANT USAGE ON SCHEMAS TO anon, authenticated, service_role",
}
ROLES = (
    "priv_admin", "priv_etl", "priv_app", "priv_other", "priv_reader", "rds_superuser", "cloudsqlsuperuser",
    "azure_pg_admin", "anon", "authenticated", "service_role",
)  # fmt: skip

QUERY = "SELECT v, count(*) AS n FROM app.t GROUP BY v"


@pytest.fixture
def roles(conn: User) -> Iterator[User]:
    """The superuser's connection; roles that a test makes go with it."""
    yield conn
    conn.rollback()
    known = conn.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (list(ROLES),)).fetchall()
    for (role,) in known:
        conn.execute(SQL("DROP OWNED BY {} CASCADE").format(Identifier(role)))
    for (role,) in known:
        conn.execute(SQL("DROP ROLE {}").format(Identifier(role)))


def shop(conn: User) -> None:
    """A table of somebody else's, in a schema of theirs."""
    conn.execute("CREATE ROLE priv_app LOGIN; CREATE ROLE priv_etl LOGIN; CREATE SCHEMA app AUTHORIZATION priv_app")
    conn.execute("CREATE SCHEMA mart; CREATE TABLE app.t (id int PRIMARY KEY, v int); INSERT INTO app.t VALUES (1, 1)")
    conn.execute("ALTER TABLE app.t OWNER TO priv_app")
    conn.execute("CREATE FUNCTION app.half(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n / 2'")
    conn.execute("REVOKE EXECUTE ON FUNCTION app.half(int) FROM PUBLIC")
    name = Identifier(conn.info.dbname)
    conn.execute(SQL("REVOKE TEMPORARY, CREATE ON DATABASE {} FROM PUBLIC").format(name))


def allow(conn: User, role: str = "priv_etl") -> None:
    """All that the role needs in the shop."""
    name = Identifier(conn.info.dbname)
    conn.execute(SQL("GRANT CREATE, TEMPORARY ON DATABASE {} TO {}").format(name, Identifier(role)))
    conn.execute(
        SQL(
            "GRANT USAGE ON SCHEMA app TO {0}; GRANT SELECT, TRIGGER ON app.t TO {0}; GRANT ALL ON SCHEMA mart TO {0}"
        ).format(Identifier(role))
    )


def as_role(db: str, role: str) -> str:
    """The same database, as somebody else."""
    return make_conninfo(db, user=role)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_roles_of_hosted_servers_suffice(profile: str, roles: User, db: str) -> None:
    roles.execute(PROFILES[profile].encode())
    name = Identifier(roles.info.dbname)
    roles.execute(SQL("GRANT CREATE, TEMPORARY ON DATABASE {} TO priv_admin").format(name))
    roles.execute("GRANT ALL ON SCHEMA public TO priv_admin")
    admin = psycopg.connect(as_role(db, "priv_admin"), autocommit=True)
    with admin, PgTrickle.connect(as_role(db, "priv_admin")) as engine:
        admin.execute("CREATE TABLE t (id int PRIMARY KEY, k int, v numeric) PARTITION BY RANGE (id)")
        admin.execute("CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000)")
        admin.execute("INSERT INTO t SELECT g, g % 3, g FROM generate_series(1, 30) g")
        engine.install()
        engine.create_stream_table("sums", "SELECT k, sum(v) AS v FROM t GROUP BY k", refresh_mode="DIFFERENTIAL")
        engine.create_stream_table("top", "SELECT max(v) AS v FROM sums", refresh_mode="DIFFERENTIAL")
        admin.execute("DELETE FROM t WHERE id < 5; UPDATE t SET v = v + 1, k = 1 WHERE id > 20")
        assert {one.action for one in engine.refresh_all()} == {"DIFFERENTIAL"}
        assert engine.verify("sums").proven
        assert engine.verify("top").proven
        engine.create_or_replace_stream_table("sums", "SELECT k, sum(v) AS v, count(*) AS n FROM t GROUP BY k")
        admin.execute("INSERT INTO t VALUES (500, 1, 1)")
        engine.refresh_all()
        assert compare(roles, "sums", "SELECT k, sum(v) AS v, count(*) AS n FROM t GROUP BY k") is None
        for role in ("anon", "authenticated"):
            if profile == "supabase":
                assert not readable(roles, role)
        engine.drop_stream_table("sums", cascade=True)
        engine.uninstall()


def readable(conn: User, role: str) -> list[str]:
    """Tables of the engine that a role can read."""
    found = conn.execute(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname LIKE 'pgtrickle%%' AND c.relkind IN ('r', 'v') AND has_schema_privilege(%s, n.oid, 'USAGE')"
        " AND has_table_privilege(%s, c.oid, 'SELECT') AND n.nspname <> 'pgtrickle'",
        (role, role),
    )
    return [row[0] for row in found.fetchall()]


def test_all_missing_grants_are_named_at_once_and_suffice(roles: User, db: str) -> None:
    shop(roles)
    query = "SELECT app.half(v) AS half, count(*) AS n FROM app.t GROUP BY 1"
    with PgTrickle.connect(as_role(db, "priv_etl")) as engine:
        with pytest.raises(PermissionDenied) as caught:
            engine.install()
        assert (caught.value.hint or "").startswith("GRANT CREATE ON DATABASE")
        roles.execute((caught.value.hint or "").encode())
        engine.install()
        with pytest.raises(PermissionDenied) as caught:
            engine.create_stream_table("mart.s", query)
        hint = caught.value.hint or ""
        assert len(hint.split("; ")) == 5, hint
        roles.execute(hint.encode())
        engine.create_stream_table("mart.s", query)
        roles.execute("INSERT INTO app.t VALUES (2, 5)")
        assert engine.refresh_stream_table("mart.s").rows_inserted == 1


@pytest.mark.parametrize(
    "what", ["SELECT ON app.t", "USAGE ON SCHEMA app", "EXECUTE ON FUNCTION app.half(integer)", "USAGE ON SCHEMA mart"]
)
def test_a_privilege_that_is_taken_away_is_named_and_its_return_heals(what: str, roles: User, db: str) -> None:
    shop(roles)
    allow(roles)
    roles.execute("GRANT EXECUTE ON FUNCTION app.half(int) TO priv_etl")
    with PgTrickle.connect(as_role(db, "priv_etl")) as engine:
        engine.install()
        engine.create_stream_table("mart.s", "SELECT id, app.half(v) AS half FROM app.t")
        roles.execute(f"REVOKE {what} FROM priv_etl; INSERT INTO app.t VALUES (2, 5)".encode())
        with pytest.raises(PermissionDenied) as caught:
            engine.refresh_stream_table("mart.s")
        assert caught.value.hint == f"GRANT {what} TO priv_etl"
        assert roles.execute("SELECT count(*) FROM mart.s").fetchone() == (1,)
        roles.execute(caught.value.hint.encode())
        assert engine.refresh_stream_table("mart.s").rows_inserted == 1


def test_default_privileges_open_neither_buffers_nor_state(roles: User, db: str) -> None:
    shop(roles)
    allow(roles)
    roles.execute("CREATE ROLE priv_reader LOGIN")
    for kind, right in (("TABLES", "ALL"), ("FUNCTIONS", "ALL"), ("SCHEMAS", "ALL")):
        statement = f"ALTER DEFAULT PRIVILEGES FOR ROLE priv_etl GRANT {right} ON {kind} TO priv_reader"
        roles.execute(statement.encode())
    with PgTrickle.connect(as_role(db, "priv_etl")) as engine:
        engine.install()
        engine.create_stream_table("mart.s", QUERY)
        roles.execute("INSERT INTO app.t VALUES (2, 5)")
        assert readable(roles, "priv_reader") == []
        with psycopg.connect(as_role(db, "priv_reader"), autocommit=True) as reader:
            for table in ("pgtrickle_changes.b_1", "pgtrickle.stream_tables", "pgtrickle.history"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(f"SELECT * FROM {table}".encode())


def test_members_of_the_engines_role_share_the_work(roles: User, db: str) -> None:
    shop(roles)
    allow(roles)
    roles.execute("CREATE ROLE priv_other LOGIN")
    allow(roles, "priv_other")
    with PgTrickle.connect(as_role(db, "priv_etl")) as engine, PgTrickle.connect(as_role(db, "priv_other")) as other:
        engine.install()
        with pytest.raises(PermissionDenied) as caught:
            other.create_stream_table("mart.o", QUERY)
        assert (caught.value.hint or "").startswith("GRANT priv_etl TO priv_other")
        roles.execute((caught.value.hint or "").encode())
        other.create_stream_table("mart.o", QUERY)
        owners = roles.execute(
            "SELECT DISTINCT pg_get_userbyid(c.relowner) FROM pg_class c"
            " WHERE relnamespace IN ('pgtrickle_changes'::regnamespace, 'pgtrickle_state'::regnamespace)"
        ).fetchall()
        assert owners == [("priv_etl",)]
        engine.create_stream_table("mart.e", "SELECT id, v FROM app.t")
        roles.execute("INSERT INTO app.t VALUES (2, 5)")
        with pytest.raises(PermissionDenied) as caught:
            engine.refresh_stream_table("mart.o")
        assert "GRANT priv_other TO priv_etl" in (caught.value.hint or "")
        assert other.refresh_stream_table("mart.o").rows_changed == 1
        assert other.refresh_stream_table("mart.e").rows_changed == 1
        assert compare(roles, "mart.o", QUERY) is None


def test_policies_of_a_source_are_an_error_and_capture_shows_nothing(roles: User, db: str) -> None:
    shop(roles)
    allow(roles)
    with PgTrickle.connect(as_role(db, "priv_etl")) as engine:
        engine.install()
        engine.create_stream_table("mart.s", QUERY)
        roles.execute("ALTER TABLE app.t ENABLE ROW LEVEL SECURITY")
        roles.execute("CREATE POLICY a_few ON app.t USING (v > 3)")
        roles.execute("INSERT INTO app.t VALUES (2, 1), (3, 9)")
        with pytest.raises(Exception, match=r"row.level security"):
            engine.refresh_stream_table("mart.s")
        assert roles.execute("SELECT * FROM mart.s").fetchall() == [(1, 1)]
        roles.execute("ALTER TABLE app.t DISABLE ROW LEVEL SECURITY")
        engine.refresh_stream_table("mart.s")
        assert compare(roles, "mart.s", QUERY) is None


def test_a_writer_without_rights_is_captured_and_sees_no_buffer(roles: User, db: str) -> None:
    shop(roles)
    allow(roles)
    roles.execute(
        "CREATE ROLE priv_other LOGIN; GRANT USAGE ON SCHEMA app TO priv_other; GRANT INSERT ON app.t TO priv_other"
    )
    with PgTrickle.connect(as_role(db, "priv_etl")) as engine:
        engine.install()
        engine.create_stream_table("mart.s", QUERY)
        with psycopg.connect(as_role(db, "priv_other"), autocommit=True) as writer:
            # A temporary table of the writer's has the name of what the trigger reads and writes.
            roles.execute(SQL("GRANT TEMPORARY ON DATABASE {} TO priv_other").format(Identifier(roles.info.dbname)))
            writer.execute(
                "CREATE TEMP TABLE b_1 (x int); CREATE TEMP TABLE t (x int); CREATE TEMP TABLE new_rows (x int)"
            )
            writer.execute("INSERT INTO app.t VALUES (2, 5)")
            for statement in (
                "SELECT * FROM pgtrickle_changes.b_1",
                "SELECT pgtrickle_changes.f_1()",
                "SELECT * FROM app.t",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    writer.execute(statement.encode())
        assert engine.refresh_stream_table("mart.s").rows_inserted == 1


def test_an_owner_of_partitions_cannot_make_capture_run_his_code(roles: User, db: str) -> None:
    roles.execute("CREATE ROLE priv_app LOGIN; CREATE ROLE priv_etl LOGIN; CREATE SCHEMA app AUTHORIZATION priv_app")
    roles.execute("CREATE SCHEMA mart; CREATE TABLE mart.secret (x text); INSERT INTO mart.secret VALUES ('key')")
    roles.execute("ALTER TABLE mart.secret OWNER TO priv_etl")
    with psycopg.connect(as_role(db, "priv_app"), autocommit=True) as app:
        app.execute(
            "CREATE FUNCTION app.place(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v; END';"
            "CREATE TABLE app.t (id int, v int) PARTITION BY LIST (app.place(v));"
            "CREATE TABLE app.t1 PARTITION OF app.t FOR VALUES IN (1);"
            "CREATE TABLE app.t2 PARTITION OF app.t FOR VALUES IN (2);"
            "CREATE TABLE app.loot (who text, what text); GRANT INSERT ON app.loot TO PUBLIC"
        )
        allow(roles)
        app.execute("GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA app TO priv_etl")
        with PgTrickle.connect(as_role(db, "priv_etl")) as engine:
            engine.install()
            engine.create_stream_table("mart.s", "SELECT id, v FROM app.t1", refresh_mode="DIFFERENTIAL")
            app.execute(
                "CREATE FUNCTION app.steal() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
                " INSERT INTO app.loot SELECT current_user, x FROM mart.secret;"
                " EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;"
                "CREATE OR REPLACE FUNCTION app.place(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
                " AS 'BEGIN PERFORM app.steal(); RETURN v; END'"
            )
            app.execute("INSERT INTO app.t VALUES (1, 1), (2, 2); UPDATE app.t SET v = 2 WHERE id = 1")
            app.execute("INSERT INTO app.t VALUES (3, 1); DELETE FROM app.t WHERE id = 2")
            engine.refresh_stream_table("mart.s")
            assert engine.verify("mart.s").proven
            assert roles.execute("SELECT * FROM mart.s").fetchall() == [(3, 1)]
        assert app.execute("SELECT * FROM app.loot").fetchall() == []


def test_who_watches_sees_that_something_failed_but_no_row(roles: User, db: str) -> None:
    roles.execute("CREATE ROLE priv_reader LOGIN IN ROLE pg_monitor; CREATE TABLE t (id int PRIMARY KEY, x text)")
    with PgTrickle.connect(db) as engine:
        engine.install()
        engine.create_stream_table("s", "SELECT id, x::int AS v FROM t")
        roles.execute("INSERT INTO t VALUES (1, 'secret')")
        with pytest.raises(RefreshError, match="secret"):
            engine.refresh_stream_table("s")
        assert "secret" in (engine.status()[0].last_error or "")
    with psycopg.connect(as_role(db, "priv_reader"), autocommit=True) as reader:
        for view in ("stream_table_status", "pg_stat_stream_tables", "quick_health", "change_buffers"):
            rows = reader.execute(SQL("SELECT v::text FROM pgtrickle.{} AS v").format(Identifier(view))).fetchall()
            assert rows
            assert "secret" not in str(rows)
        found = reader.execute("SELECT status, errors, last_error FROM pgtrickle.stream_table_status").fetchone()
        assert found == ("ERROR", 1, "(may quote rows: shown to members of postgres)")


def test_what_event_triggers_give_away_is_found_and_taken_back(roles: User, db: str) -> None:
    roles.execute("CREATE ROLE anon; CREATE TABLE t (id int PRIMARY KEY)")
    roles.execute(
        "CREATE FUNCTION open_all() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE one record; BEGIN"
        " FOR one IN SELECT * FROM pg_event_trigger_ddl_commands()"
        " WHERE command_tag = 'CREATE TABLE' AND schema_name <> 'pg_temp' LOOP"
        " EXECUTE 'GRANT ALL ON ' || one.object_identity || ' TO anon, PUBLIC'; END LOOP; END $$;"
        "CREATE EVENT TRIGGER open_all ON ddl_command_end EXECUTE FUNCTION open_all()"
    )
    with PgTrickle.connect(db) as engine:
        engine.install()
        engine.create_stream_table("s", "SELECT count(*) AS n FROM t")
        assert readable(roles, "anon") == []
        roles.execute("GRANT USAGE ON SCHEMA pgtrickle_changes TO anon")
        assert readable(roles, "anon") == ["pgtrickle_changes.b_1"]
        assert {one.code for one in engine.doctor(fix=True)} == {"public_privileges", "role_privileges"}
        assert readable(roles, "anon") == []
        assert engine.doctor() == ()
