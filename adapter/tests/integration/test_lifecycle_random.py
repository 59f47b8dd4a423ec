"""Random definitions in a chain of stream tables, random changes of rows and tables: right after every step."""

from __future__ import annotations

import random

import psycopg
import pytest

from pgtrickle.errors import DependencyCycle, DependentsExist

NAMES = ("s0", "s1", "s2")
BASES = (
    "SELECT id, k, v FROM t",
    "SELECT id, v, k FROM t",
    "SELECT k, count(*) AS v FROM t GROUP BY k",
    "SELECT k, sum(v) AS v, max(w) AS w FROM t GROUP BY k",
    "SELECT t.id, d.n AS k, t.v FROM t LEFT JOIN d USING (k)",
    "SELECT DISTINCT k FROM t",
    "SELECT id, k, v, w * 2 AS w FROM t WHERE v > 3",
    "SELECT k FROM t UNION ALL SELECT n FROM d",
    "SELECT d.n AS k, count(*) FILTER (WHERE v > 5) AS v FROM d JOIN t USING (k) GROUP BY d.n",
    "SELECT id, k, random() > 2 AS v FROM t",
    "SELECT count(*) AS v, 'x'::text AS k FROM t",
    "SELECT id::bigint AS id, k::varchar(10) AS k, v::numeric AS v FROM t",
    "SELECT k, array_agg(v ORDER BY v) AS v FROM t GROUP BY k",
)
ABOVE = (
    "SELECT k, count(*) AS c FROM {} GROUP BY k",
    "SELECT k, v FROM {} WHERE v IS NOT NULL",
    "SELECT a.k, b.c FROM {} a LEFT JOIN (SELECT k, count(*) AS c FROM d GROUP BY k) b ON a.k = b.k",
)
TABLES = (
    "ALTER TABLE t ALTER COLUMN v TYPE bigint",
    "ALTER TABLE t ALTER COLUMN v TYPE int USING v::int",
    "ALTER TABLE d RENAME TO d_old; CREATE TABLE d AS TABLE d_old; DROP TABLE d_old",
    "ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET v = v + 1 WHERE id < 5; ALTER TABLE t ENABLE TRIGGER ALL",
    "ALTER TABLE t ADD COLUMN IF NOT EXISTS x int DEFAULT 1",
    "ALTER TABLE t DROP COLUMN IF EXISTS x",
    "TRUNCATE d",
)


class Story:
    """One random history; ``definitions`` is what each stream table has to equal."""

    def __init__(self, conn, engine, oracle, seed):
        self.conn, self.engine, self.oracle = conn, engine, oracle
        self.rng = random.Random(seed)
        self.definitions: dict[str, str] = {}

    def step(self) -> None:
        rng = self.rng
        for _ in range(rng.randrange(4)):
            self.write()
        if rng.random() < 0.12:
            self.conn.execute(rng.choice(TABLES))
        name, action = rng.choice(NAMES), rng.random()
        if action < 0.4:
            self.define(name)
        elif action < 0.47:
            self.drop(name)
        elif name in self.definitions:
            self.engine.refresh_stream_table(name)
            self.check(name)
            assert self.engine.verify(name).proven is not False

    def write(self) -> None:
        rng, n = self.rng, self.rng.randrange(30)
        statement, values = rng.choice(
            (
                (
                    "INSERT INTO t VALUES (%s, %s, 1, 2) ON CONFLICT (id) DO UPDATE SET k = excluded.k",
                    [n, rng.choice("abc")],
                ),
                ("INSERT INTO t VALUES (%s, NULL, %s, 2) ON CONFLICT (id) DO NOTHING", [n, n % 9]),
                ("UPDATE t SET v = v + 1, w = w * 1.5 WHERE id < %s", [n]),
                ("DELETE FROM t WHERE id = %s", [n]),
                ("INSERT INTO d VALUES (%s, %s)", [rng.choice("abcd"), rng.choice("xyz")]),
            )
        )
        self.conn.execute(statement, values)

    def define(self, name: str) -> None:
        sources = [one for one in NAMES[: NAMES.index(name)] if one in self.definitions]
        above = sources and self.rng.random() < 0.5
        query = self.rng.choice(ABOVE).format(self.rng.choice(sources)) if above else self.rng.choice(BASES)
        try:
            self.conn.execute(query)
        except psycopg.errors.UndefinedColumn:
            return
        try:
            result = self.engine.create_or_replace_stream_table(
                name, query, refresh_mode=self.rng.choice(["AUTO", "FULL"])
            )
        except (DependentsExist, DependencyCycle):
            return
        self.definitions[name] = query
        if {"load", "recompute"} & set(result.actions):
            self.check(name)

    def drop(self, name: str) -> None:
        try:
            self.engine.drop_stream_table(name, if_exists=True)
        except DependentsExist:
            return
        self.definitions.pop(name, None)

    def check(self, name: str) -> None:
        """As rows of the query's own order: columns that others use are not moved in place."""
        query = self.definitions[name]
        listed = ", ".join(f'"{column.name}"' for column in self.conn.execute(f"{query} LIMIT 0").description or ())
        self.oracle(self.conn, f"(SELECT {listed} FROM {name}) AS stored", query)


@pytest.mark.newest_only
@pytest.mark.parametrize("seed", range(4))
def test_definitions_rows_and_tables_change_at_random(connect, engine, oracle, seed):
    conn = connect(prepare_threshold=None)
    conn.execute("CREATE TABLE t (id int PRIMARY KEY, k text, v int, w numeric); CREATE TABLE d (k text, n text)")
    story = Story(conn, engine, oracle, seed)
    for _ in range(60):
        story.step()
    for name in reversed(NAMES):
        engine.drop_stream_table(name, if_exists=True)
    left = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND c.relkind = 'r'
              UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"""
    assert conn.execute(left).fetchall() == []
