"""What users do to the schema under stream tables, and what has to happen then: the matrix, as data.

``python -m tests.support.schema_changes`` prints the table of docs/how-to/change-schemas.md, which a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.used_objects import CASES as USED
from tests.support.used_objects import ERROR, NOTHING, RECOMPUTE, Used

#: Every stream table of the world: mode and query. Names in braces are replaced by the present ones.
ROWS = "SELECT {id} AS id, {k} AS k, {twice}({v}) AS v2, {note} AS note, m::text AS m FROM {t} WHERE {v} > 0"
QUERIES: Mapping[str, tuple[str, str]] = {
    "s_full": ("FULL", ROWS),
    "s_rows": ("DIFFERENTIAL", ROWS),
    "s_groups": ("AUTO", "SELECT {k} AS k, count(*) AS n, sum({v}) AS total FROM {t} GROUP BY {k}"),
    "s_viewed": (
        "DIFFERENTIAL",
        "SELECT a.{wk} AS k, max(a.{wv}) AS v, d.label FROM {w} a JOIN {d} d ON d.k = a.{wk} GROUP BY a.{wk}, d.label",
    ),
    "s_over": ("DIFFERENTIAL", "SELECT count(*) AS n, sum({total}) AS total FROM {groups}"),
}
NAMES: Mapping[str, str] = {
    **{name: name for name in ("id", "k", "v", "note", "total")},
    **{"t": "app.t", "d": "app.d", "w": "app.w", "wv": "v", "wk": "k", "twice": "app.twice", "groups": "s_groups"},
}
_COLUMNS = "k int NOT NULL, v numeric(8,2), note text, m app.mood, spare int, d app.small"
KINDS: Mapping[str, str] = {
    "keyed": f"CREATE TABLE app.t (id int PRIMARY KEY, {_COLUMNS})",
    "keyless": f"CREATE TABLE app.t (id int, {_COLUMNS})",
    "partitioned": (
        f"CREATE TABLE app.t (id int PRIMARY KEY, {_COLUMNS}) PARTITION BY RANGE (id);"
        "CREATE TABLE app.t1 PARTITION OF app.t FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE app.t2 PARTITION OF app.t FOR VALUES FROM (100) TO (1000)"
    ),
    "inherited": (
        f"CREATE TABLE app.t (id int PRIMARY KEY, {_COLUMNS}); CREATE TABLE app.t1 () INHERITS (app.t);"
        "INSERT INTO app.t1 SELECT n, n % 4, n, 'child', 'ok', n FROM generate_series(20, 24) n"
    ),
}
SETUP = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN app.small AS int CHECK (VALUE < 1000);
CREATE FUNCTION app.twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
{table};
INSERT INTO app.t SELECT n, n % 4, n, 'note ' || n, 'ok', n FROM generate_series(1, 12) n;
CREATE TABLE app.d (k int PRIMARY KEY, label text);
INSERT INTO app.d SELECT n, 'label ' || n FROM generate_series(0, 3) n;
CREATE VIEW app.w AS SELECT id, k, v FROM app.t;
"""
#: What an application writes afterwards: into every table, with the present names.
WRITES = (
    "INSERT INTO {t} ({id}, {k}, {v}) VALUES (50, 1, 5), (51, 2, 6); UPDATE {t} SET {v} = 77 WHERE {id} = 3;"
    "DELETE FROM {t} WHERE {id} = 5; UPDATE {d} SET label = 'other' WHERE k = 2"
)
#: Readers of ``app.t``, with and without a view between.
READERS = ("s_full", "s_rows", "s_groups", "s_viewed")


@dataclass(frozen=True)
class Change:
    """One change of a schema.

    Attributes:
        group: the line of the table in the documentation.
        ddl: statements; one string is one message.
        outcome: what happens to the stream tables in ``hits``; nothing happens to all others.
        hits: names of the stream tables.
        says: words in the reason of a recompute, or in the error.
        names: names that are others from now on.
        kinds: of which kinds of tables it is possible.
        remedy: what heals an error.
        writes: instead of ``WRITES``.
        slow: left to the long run.
        queries: stream tables whose query is another one now (a view was replaced, for example).
    """

    group: str
    ddl: str | tuple[str, ...]
    outcome: str = NOTHING
    hits: tuple[str, ...] = ()
    says: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = tuple(KINDS)
    remedy: str = ""
    writes: str = WRITES
    slow: bool = False

    @property
    def statements(self) -> tuple[str, ...]:
        """What is executed, message by message."""
        return (self.ddl,) if isinstance(self.ddl, str) else self.ddl


def _nothing(group: str, **changes: str | tuple[str, ...]) -> dict[str, Change]:
    return {name: Change(group, ddl) for name, ddl in changes.items()}


_WHOLE = ("keyed", "keyless", "partitioned")
_SAME = "SELECT n, n % 4, n + 1, 'swapped', 'ok' FROM generate_series(1, 12) n"
_ANOTHER = f"(id int PRIMARY KEY, {_COLUMNS})"
_VIEW = "CREATE VIEW app.w AS SELECT id, k, v FROM app.t"
_FILES = "`VACUUM FULL`, `CLUSTER`, `SET LOGGED`, `SET UNLOGGED`, `SET TABLESPACE`, `REINDEX`"

HARMLESS: Mapping[str, Change] = {
    **_nothing(
        "Add, drop, rename or retype a column that no query reads",
        add_column="ALTER TABLE app.t ADD COLUMN more int DEFAULT 4",
        add_volatile_column="ALTER TABLE app.t ADD COLUMN stamp timestamptz DEFAULT clock_timestamp()",
        add_generated_column="ALTER TABLE app.t ADD COLUMN made text GENERATED ALWAYS AS (note || '!') STORED",
        rename_unread_column="ALTER TABLE app.t RENAME COLUMN spare TO other",
        retype_unread_column="ALTER TABLE app.t ALTER other TYPE bigint",
        drop_unread_column="ALTER TABLE app.t DROP COLUMN other",
    ),
    **_nothing(
        "Defaults, `SET NOT NULL`, checks, statistics, storage parameters of columns and tables",
        default="ALTER TABLE app.t ALTER v SET DEFAULT 3; ALTER TABLE app.t ALTER v DROP DEFAULT",
        not_null="ALTER TABLE app.t ALTER id SET NOT NULL",
        check="ALTER TABLE app.t ADD CONSTRAINT positive CHECK (id > 0) NOT VALID",
        validate="ALTER TABLE app.t VALIDATE CONSTRAINT positive",
        drop_check="ALTER TABLE app.t DROP CONSTRAINT positive",
        statistics="ALTER TABLE app.t ALTER v SET STATISTICS 9; CREATE STATISTICS app.st ON k, v FROM app.t",
        analyze="ANALYZE app.t",
        storage="ALTER TABLE app.t ALTER note SET STORAGE EXTERNAL",
        replica_identity="ALTER TABLE app.t REPLICA IDENTITY FULL",
    ),
    **_nothing(
        "Indexes, foreign keys, triggers and rules of yours",
        index="CREATE INDEX ON app.t (v)",
        foreign_key="ALTER TABLE app.t ADD FOREIGN KEY (k) REFERENCES app.d NOT VALID",
        own_trigger=(
            "CREATE FUNCTION app.noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER mine AFTER INSERT ON app.t EXECUTE FUNCTION app.noop()"
        ),
        own_rule="CREATE RULE quiet AS ON DELETE TO app.d WHERE old.k < 0 DO INSTEAD NOTHING",
    ),
    **_nothing(
        "`GRANT`, `REVOKE`, `COMMENT`",
        grant="GRANT SELECT ON app.t TO PUBLIC; REVOKE SELECT ON app.t FROM PUBLIC",
        column_grant="GRANT SELECT (v) ON app.t TO PUBLIC",
        comment="COMMENT ON TABLE app.t IS 'x'; COMMENT ON COLUMN app.t.v IS 'y'",
    ),
    **_nothing(
        _FILES,
        vacuum_full=("VACUUM FULL app.t",),
        reindex=("REINDEX TABLE app.t",),
        tablespace="ALTER TABLE app.t SET TABLESPACE pg_default",
    ),
    "cluster": Change(_FILES, ("CLUSTER app.d USING d_pkey",)),
    "unlogged": Change(
        _FILES,
        "ALTER TABLE app.t DROP CONSTRAINT t_k_fkey; ALTER TABLE app.t SET UNLOGGED; ALTER TABLE app.t SET LOGGED",
        kinds=("keyed", "keyless", "inherited"),
    ),
    **_nothing(
        "Make a view anew with the same text; alter the cost of a function; add labels, constraints of domains, casts",
        same_view=f"DROP VIEW app.w; {_VIEW}; CREATE OR REPLACE VIEW app.w AS SELECT id, k, v FROM app.t",
        function_cost="ALTER FUNCTION app.twice COST 7; GRANT EXECUTE ON FUNCTION app.twice TO PUBLIC",
        enum_label=("ALTER TYPE app.mood ADD VALUE 'meh' BEFORE 'ok'",),
        domain_constraint="ALTER DOMAIN app.small ADD CONSTRAINT more CHECK (VALUE <> 7)",
        collation='CREATE COLLATION app.plain FROM "C"; ALTER COLLATION app.plain REFRESH VERSION',
        operator=(
            "CREATE FUNCTION app.eq(app.mood, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1::text = $2';"
            "CREATE OPERATOR app.= (LEFTARG = app.mood, RIGHTARG = text, FUNCTION = app.eq)"
        ),
        cast="CREATE TYPE app.pair AS (a int, b int); CREATE CAST (text AS app.pair) WITH INOUT",
    ),
    **_nothing(
        "On the stream table: rename it, move it, indexes, grants, comments, statistics; a column of yours stays empty",
        own_index="CREATE INDEX ON s_groups (n); COMMENT ON TABLE s_groups IS 'x'; ANALYZE s_groups",
        own_column="ALTER TABLE s_rows ADD COLUMN mine int; ALTER TABLE s_rows DROP COLUMN mine",
        own_vacuum=("VACUUM FULL s_groups",),
    ),
}

MATRIX: Mapping[str, Change] = {
    "rename_column": Change(
        "Rename a column that a query reads",
        "ALTER TABLE app.t RENAME COLUMN v TO amount",
        RECOMPUTE,
        READERS,
        "app.t.v: the column changed: name",
        {"v": "amount"},
    ),
    "rename_two_columns": Change(
        "Rename a column that a query reads",
        "ALTER TABLE app.t RENAME COLUMN id TO number; ALTER TABLE app.t RENAME COLUMN k TO kind",
        RECOMPUTE,
        READERS,
        "name",
        {"id": "number", "k": "kind"},
        slow=True,
    ),
    "rename_table": Change(
        "Rename a table, move it to another schema, rename the schema",
        "ALTER TABLE app.t RENAME TO moved",
        RECOMPUTE,
        READERS,
        "app.t: it is called app.moved now",
        {"t": "app.moved"},
    ),
    "move_table": Change(
        "Rename a table, move it to another schema, rename the schema",
        "CREATE SCHEMA other; ALTER TABLE app.t SET SCHEMA other; ALTER TABLE other.t RENAME COLUMN note TO remark",
        RECOMPUTE,
        READERS,
        "app.t: it is called other.t now",
        {"t": "other.t", "note": "remark"},
    ),
    "rename_schema": Change(
        "Rename a table, move it to another schema, rename the schema",
        "ALTER SCHEMA app RENAME TO application",
        RECOMPUTE,
        READERS,
        "it is called application.t now",
        {"t": "application.t", "w": "application.w", "twice": "application.twice", "d": "application.d"},
    ),
    "replace_column": Change(
        "Another column, table or view takes an old name: the name counts",
        "ALTER TABLE app.t RENAME COLUMN note TO old_note; ALTER TABLE app.t ADD COLUMN note text DEFAULT 'new'",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.t.note: the column changed: name",
    ),
    "swap_columns": Change(
        "Another column, table or view takes an old name: the name counts",
        "ALTER TABLE app.t RENAME COLUMN k TO x; ALTER TABLE app.t RENAME COLUMN spare TO k;"
        "UPDATE app.t SET k = coalesce(k, 1)",
        RECOMPUTE,
        (*READERS, "s_over"),
        "",
        writes=WRITES.replace(
            "({id}, {k}, {v}) VALUES (50, 1, 5), (51, 2, 6)", "({id}, k, x, {v}) VALUES (50, 1, 2, 5)"
        ),
        slow=True,
    ),
    "dbt_swap": Change(
        "Another column, table or view takes an old name: the name counts",
        f"CREATE TABLE app.t__dbt_tmp {_ANOTHER}; INSERT INTO app.t__dbt_tmp {_SAME};"
        "ALTER TABLE app.t RENAME TO t__dbt_backup; ALTER TABLE app.t__dbt_tmp RENAME TO t;"
        f"DROP TABLE app.t__dbt_backup CASCADE; {_VIEW}",
        RECOMPUTE,
        READERS,
        "app.t: another table has this name now",
    ),
    "swap_tables": Change(
        "Another column, table or view takes an old name: the name counts",
        f"CREATE TABLE app.u {_ANOTHER}; INSERT INTO app.u {_SAME};"
        "ALTER TABLE app.t RENAME TO x; ALTER TABLE app.u RENAME TO t; ALTER TABLE app.x RENAME TO u",
        RECOMPUTE,
        READERS,
        "another table has this name now",
        # A view goes with the table.
        writes=WRITES + "; INSERT INTO app.u (id, k, v) VALUES (500, 1, 1)",
        kinds=_WHOLE,
        slow=True,
    ),
    "recreate_table": Change(
        "Another column, table or view takes an old name: the name counts",
        f"DROP TABLE app.t CASCADE; CREATE TABLE app.t {_ANOTHER}; INSERT INTO app.t {_SAME}; {_VIEW}",
        RECOMPUTE,
        READERS,
        "another table has this name now",
        slow=True,
    ),
    "retype_column": Change(
        "Retype a column that a query reads, `ALTER .. TYPE .. USING`, generated columns",
        "DROP VIEW app.w; ALTER TABLE app.t ALTER v TYPE numeric(12,4) USING v / 3;" + _VIEW,
        RECOMPUTE,
        READERS,
        "app.t.v: the column changed: typmod",
    ),
    "retype_text": Change(
        "Retype a column that a query reads, `ALTER .. TYPE .. USING`, generated columns",
        "ALTER TABLE app.t ALTER note TYPE jsonb USING to_jsonb(note)",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.t.note: the column changed: type",
        slow=True,
    ),
    "rewrite_column": Change(
        "Retype a column that a query reads, `ALTER .. TYPE .. USING`, generated columns",
        "ALTER TABLE app.t ALTER note TYPE text USING upper(note)",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.t.note: its values may have been rewritten",
    ),
    "narrow_column": Change(
        "Retype a column that a query reads, `ALTER .. TYPE .. USING`, generated columns",
        "ALTER TABLE app.t ALTER note TYPE varchar(4) USING left(note, 4)",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.t.note: the column changed: type",
        slow=True,
    ),
    "collate_column": Change(
        "Retype a column that a query reads, `ALTER .. TYPE .. USING`, generated columns",
        'ALTER TABLE app.t ALTER note TYPE text COLLATE "C"',
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.t.note: the column changed: collation",
        slow=True,
    ),
    "generate_column": Change(
        "Retype a column that a query reads, `ALTER .. TYPE .. USING`, generated columns",
        "ALTER TABLE app.t DROP COLUMN note;"
        "ALTER TABLE app.t ADD COLUMN note text GENERATED ALWAYS AS ('n' || id) STORED",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.t.note: the column was dropped",
        slow=True,
    ),
    "identity": Change(
        "Defaults, `SET NOT NULL`, checks, statistics, storage parameters of columns and tables",
        "ALTER TABLE app.t ALTER id ADD GENERATED BY DEFAULT AS IDENTITY",
        kinds=("keyed", "partitioned", "inherited"),
        slow=True,
    ),
    "drop_not_null": Change(
        "Drop a primary key, a unique constraint, `NOT NULL`",
        "ALTER TABLE app.t ALTER k DROP NOT NULL",
        RECOMPUTE,
        (*READERS, "s_over"),
        "was dropped",
        slow=True,
    ),
    "drop_key": Change(
        "Drop a primary key, a unique constraint, `NOT NULL`",
        "ALTER TABLE app.t DROP CONSTRAINT t_pkey; INSERT INTO app.t VALUES (3, 3, 3, 'twice')",
        RECOMPUTE,
        READERS,
        "app.t: a unique constraint was dropped",
        kinds=("keyed", "partitioned"),
    ),
    "add_key": Change(
        "Indexes, foreign keys, triggers and rules of yours",
        "ALTER TABLE app.t ADD PRIMARY KEY (id)",
        kinds=("keyless",),
    ),
    "drop_column": Change(
        "Drop a table, column, view or function that a query uses",
        "ALTER TABLE app.t DROP COLUMN note",
        ERROR,
        ("s_full", "s_rows"),
        "note",
        remedy="ALTER TABLE app.t ADD COLUMN note text DEFAULT 'back'",
    ),
    "drop_table": Change(
        "Drop a table, column, view or function that a query uses",
        "DROP TABLE app.t CASCADE",
        ERROR,
        READERS,
        "app.t: the table does not exist any more",
        remedy=f"CREATE TABLE app.t {_ANOTHER}; INSERT INTO app.t {_SAME}; {_VIEW}",
    ),
    "drop_view": Change(
        "Drop a table, column, view or function that a query uses",
        "DROP VIEW app.w",
        ERROR,
        ("s_viewed",),
        'relation "app.w" does not exist',
        remedy=_VIEW,
    ),
    "drop_function": Change(
        "Drop a table, column, view or function that a query uses",
        "DROP FUNCTION app.twice",
        ERROR,
        ("s_full", "s_rows"),
        "function app.twice(numeric) does not exist",
        remedy="CREATE FUNCTION app.twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 5 * $1'",
    ),
    "rename_view": Change(
        "Rename or move a view or one of its columns, a function",
        "ALTER VIEW app.w RENAME TO ww; ALTER VIEW app.ww SET SCHEMA public; ALTER VIEW ww RENAME COLUMN v TO amount",
        RECOMPUTE,
        ("s_viewed",),
        "app.w",
        {"w": "public.ww", "wv": "amount"},
    ),
    "rename_remade_view": Change(
        "Drop a table, column, view or function that a query uses",
        f"DROP VIEW app.w; {_VIEW}; ALTER VIEW app.w RENAME COLUMN v TO amount",
        ERROR,
        ("s_viewed",),
        "column a.v does not exist",
        remedy="ALTER VIEW app.w RENAME COLUMN amount TO v",
        slow=True,
    ),
    "rename_function": Change(
        "Rename or move a view or one of its columns, a function",
        "ALTER FUNCTION app.twice RENAME TO double; ALTER FUNCTION app.double SET SCHEMA public",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "the function is called public.double now",
        {"twice": "public.double"},
    ),
    "replace_view": Change(
        "Replace a view by another query, a function by another body or strictness",
        "CREATE OR REPLACE VIEW app.w AS SELECT id, k, v FROM app.t WHERE id > 3",
        RECOMPUTE,
        ("s_viewed",),
        "app.w: the view has another definition",
    ),
    "replace_function": Change(
        "Replace a view by another query, a function by another body or strictness",
        "CREATE OR REPLACE FUNCTION app.twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 3 * $1'",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.twice(numeric): the function has another body",
    ),
    "recreate_function": Change(
        "Replace a view by another query, a function by another body or strictness",
        "DROP FUNCTION app.twice;"
        "CREATE FUNCTION app.twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 5 * $1'",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.twice(numeric): the function does not exist any more",
        slow=True,
    ),
    "strict_function": Change(
        "Replace a view by another query, a function by another body or strictness",
        "ALTER FUNCTION app.twice STRICT",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "app.twice(numeric): the function has another body",
        slow=True,
    ),
    "rename_label": Change(
        "Rename a label of an enum",
        "ALTER TYPE app.mood RENAME VALUE 'ok' TO 'fine'",
        RECOMPUTE,
        ("s_full", "s_rows"),
        "labels of an enum were renamed",
    ),
    "row_security": Change(
        "Enable row level security (what applies to the engine's role is an error)",
        "ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON app.t USING (id > 3);"
        "ALTER TABLE app.t FORCE ROW LEVEL SECURITY",
        RECOMPUTE,
        READERS,
        "app.t: row level security was switched",
        slow=True,
    ),
    "attach_empty": Change(
        "Create or attach an empty partition or child; rename a partition",
        "CREATE TABLE app.t3 PARTITION OF app.t FOR VALUES FROM (1000) TO (2000); ALTER TABLE app.t1 RENAME TO t_one",
        kinds=("partitioned",),
        writes=WRITES + "; INSERT INTO app.t3 (id, k, v) VALUES (1500, 1, 1)",
    ),
    "attach_filled": Change(
        "Attach, detach (`CONCURRENTLY` too), drop, split partitions or children with rows in them",
        f"CREATE TABLE app.t3 {_ANOTHER}; INSERT INTO app.t3 (id, k, v) VALUES (1500, 1, 1);"
        "ALTER TABLE app.t ATTACH PARTITION app.t3 FOR VALUES FROM (1000) TO (2000)",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=("partitioned",),
    ),
    "detach": Change(
        "Attach, detach (`CONCURRENTLY` too), drop, split partitions or children with rows in them",
        ("ALTER TABLE app.t DETACH PARTITION app.t1 CONCURRENTLY",),
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=("partitioned",),
        writes="INSERT INTO app.t1 (id, k, v) VALUES (60, 1, 1); INSERT INTO app.t (id, k, v) VALUES (160, 1, 1)",
    ),
    "detach_and_attach": Change(
        "Attach, detach (`CONCURRENTLY` too), drop, split partitions or children with rows in them",
        "ALTER TABLE app.t DETACH PARTITION app.t1; INSERT INTO app.t1 (id, k, v) VALUES (60, 1, 1);"
        "ALTER TABLE app.t ATTACH PARTITION app.t1 FOR VALUES FROM (0) TO (100)",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=("partitioned",),
        slow=True,
    ),
    "split_partition": Change(
        "Attach, detach (`CONCURRENTLY` too), drop, split partitions or children with rows in them",
        "ALTER TABLE app.t DETACH PARTITION app.t1;"
        "CREATE TABLE app.t1a PARTITION OF app.t FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE app.t1b PARTITION OF app.t FOR VALUES FROM (50) TO (100);"
        "INSERT INTO app.t SELECT * FROM app.t1; DROP TABLE app.t1",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=("partitioned",),
        slow=True,
    ),
    "drop_partition": Change(
        "Attach, detach (`CONCURRENTLY` too), drop, split partitions or children with rows in them",
        "DROP TABLE app.t1",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=("partitioned", "inherited"),
        writes="INSERT INTO app.t (id, k, v) VALUES (160, 1, 1)",
        slow=True,
    ),
    "disable_triggers": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "ALTER TABLE app.t DISABLE TRIGGER ALL; INSERT INTO app.t (id, k, v) VALUES (70, 1, 1);"
        "ALTER TABLE app.t ENABLE TRIGGER ALL",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=_WHOLE,
    ),
    "drop_triggers": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "DROP TRIGGER zz_pgtrickle_1_truncate ON app.t; TRUNCATE app.t",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=("keyed", "keyless"),
        slow=True,
    ),
    "rename_trigger": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "ALTER TRIGGER zz_pgtrickle_1_insert ON app.t RENAME TO mine; INSERT INTO app.t (id, k, v) VALUES (70, 1, 1)",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        kinds=_WHOLE,
        slow=True,
    ),
    "replace_trigger_function": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "CREATE OR REPLACE FUNCTION pgtrickle_changes.f_1() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END';"
        "INSERT INTO app.t (id, k, v) VALUES (70, 1, 1)",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
    ),
    "alter_trigger_function": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "ALTER FUNCTION pgtrickle_changes.f_1() RESET ALL; ALTER FUNCTION pgtrickle_changes.f_1() SECURITY INVOKER",
        RECOMPUTE,
        READERS,
        "app.t: changes may have gone by uncaptured",
        slow=True,
    ),
    "drop_buffer": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "INSERT INTO app.t (id, k, v) VALUES (70, 1, 1); DROP TABLE pgtrickle_changes.b_1",
        RECOMPUTE,
        READERS,
    ),
    "rename_buffer": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "INSERT INTO app.t (id, k, v) VALUES (70, 1, 1); ALTER TABLE pgtrickle_changes.b_1 RENAME TO b_99",
        RECOMPUTE,
        READERS,
        slow=True,
    ),
    "alter_buffer": Change(
        "Disable, drop, rename our triggers, even for a moment; replace or drop our functions and change buffers",
        "INSERT INTO app.t (id, k, v) VALUES (70, 1, 1); ALTER TABLE pgtrickle_changes.b_1 DROP COLUMN c3",
        RECOMPUTE,
        ("s_rows", "s_groups", "s_viewed"),
        slow=True,
    ),
    "rename_stream_table": Change(
        "On the stream table: rename it, move it, indexes, grants, comments, statistics; a column of yours stays empty",
        "ALTER TABLE s_groups RENAME TO other; ALTER TABLE other SET SCHEMA app",
        RECOMPUTE,
        ("s_over",),
        "public.s_groups: it is called app.other now",
        {"groups": "app.other"},
    ),
    "rename_own_column": Change(
        "On the stream table: rename, retype or drop a column of its query: it is put back",
        "ALTER TABLE s_groups RENAME COLUMN total TO sum",
        RECOMPUTE,
        ("s_groups",),
        "the column total of the stream table was renamed, altered or dropped",
    ),
    "retype_own_column": Change(
        "On the stream table: rename, retype or drop a column of its query: it is put back",
        "ALTER TABLE s_groups ALTER total TYPE text",
        RECOMPUTE,
        ("s_groups", "s_over"),
        "total",
        slow=True,
    ),
    "drop_own_column": Change(
        "On the stream table: rename, retype or drop a column of its query: it is put back",
        "ALTER TABLE s_groups DROP COLUMN total",
        RECOMPUTE,
        ("s_groups", "s_over"),
        "total",
        slow=True,
    ),
    "write_past_guard": Change(
        "On the stream table: get past the guard against direct writes (`DISABLE TRIGGER`)",
        "ALTER TABLE s_groups DISABLE TRIGGER ALL; DELETE FROM s_groups WHERE k = 1;"
        "UPDATE s_groups SET n = 99 WHERE k = 2;"
        "ALTER TABLE s_groups ENABLE TRIGGER ALL",
        RECOMPUTE,
        ("s_groups", "s_over"),
        "s_groups",
    ),
    "drop_guard": Change(
        "On the stream table: get past the guard against direct writes (`DISABLE TRIGGER`)",
        "DROP TRIGGER pgtrickle_guard ON s_groups; DELETE FROM s_groups WHERE k = 1",
        RECOMPUTE,
        ("s_groups", "s_over"),
        "s_groups",
        slow=True,
    ),
    "drop_stream_table": Change(
        "On the stream table: drop it past `drop_stream_table`",
        "DROP TABLE s_groups",
        ERROR,
        ("s_groups", "s_over"),
        "it was dropped without drop_stream_table",
        remedy="CREATE TABLE s_groups (k int)",
    ),
}


def every() -> Mapping[str, Change]:
    """All changes."""
    return {**HARMLESS, **MATRIX}


def table() -> str:
    """The table of the documentation, in Markdown."""
    lines = ["| What you do | What happens |", "|---|---|"]
    groups: dict[str, set[str]] = {}
    for change in (*every().values(), *USED.values()):
        groups.setdefault(change.group, set()).add(_words(change))
    for group, words in sorted(groups.items(), key=lambda found: (max(map(_rank, found[1])), found[0])):
        told = words - {RECOMPUTE} if _FOLLOWED in words else words
        lines.append(f"| {group} | {'; '.join(sorted(told, key=_rank))} |")
    return "\n".join(lines)


_FOLLOWED = f"followed, {RECOMPUTE}"
_DEPENDENTS = "dependents are recomputed once"


def _rank(words: str) -> int:
    return [NOTHING, _DEPENDENTS, RECOMPUTE, _FOLLOWED, ERROR].index(words)


def _words(change: Change | Used) -> str:
    if isinstance(change, Used):
        return _FOLLOWED if change.now and change.outcome == RECOMPUTE else change.outcome
    if change.hits == ("s_over",):
        return _DEPENDENTS
    return _FOLLOWED if change.names else change.outcome


if __name__ == "__main__":
    print(table())
