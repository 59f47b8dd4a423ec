"""Random histories of a schema: DDL of all kinds between writes and refreshes, with the names that count by now.

Everything that is renamed gets a name that nothing has had, so that what a query means stays clear: the history knows
each object by its first name and writes queries with the present ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.sql import SQL

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support.oracle import compare

BASE = """
CREATE SCHEMA app; CREATE SCHEMA lib;
CREATE TYPE lib.mood AS ENUM ('sad', 'ok', 'glad');
CREATE TYPE lib.pair AS (a int, b text);
CREATE DOMAIN lib.small AS int;
CREATE FUNCTION lib.twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
CREATE COLLATION lib.plain FROM "C";
CREATE TEXT SEARCH CONFIGURATION lib.words (COPY = pg_catalog.english);
CREATE TABLE app.t (id int PRIMARY KEY, k int NOT NULL, v numeric(8,2), note text, m lib.mood, p lib.pair, spare int);
CREATE TABLE app.d (k int, label text);
CREATE TABLE app.pt (id int, k int) PARTITION BY RANGE (id);
CREATE TABLE app.part1 PARTITION OF app.pt FOR VALUES FROM (0) TO (50);
CREATE TABLE app.heir () INHERITS (app.d);
CREATE VIEW app.w AS SELECT k, v FROM app.t;
INSERT INTO app.t SELECT n, n % 4, n, 'running ' || n, 'ok', ROW(n, 'b')::lib.pair, n FROM generate_series(1, 12) n;
INSERT INTO app.d SELECT n, 'label ' || n FROM generate_series(0, 3) n;
INSERT INTO app.pt SELECT n, n % 4 FROM generate_series(0, 20) n;
"""
NAMES: Mapping[str, str] = {
    **{name: name for name in ("app", "lib", "t", "d", "pt", "w", "s_count")},
    **{name: name for name in ("id", "k", "v", "note", "m", "p", "label")},
    **{name: name for name in ("mood", "pair", "small", "twice", "plain", "words", "sad", "ok", "glad", "b")},
    **{"wk": "k", "wv": "v", "pk": "k", "dk": "k", "schema_t": "app"},
}
#: Name and query of each stream table, and another query that it may be given.
QUERIES: Mapping[str, tuple[str, ...]] = {
    "s_rows": (
        "SELECT {id} AS id, {k} AS k, {lib}.{twice}({v}) AS v2, {note} AS note FROM {schema_t}.{t} WHERE {v} > 0",
        "SELECT {id} AS id, {note} AS note, {lib}.{twice}({v}) AS v2, {k} AS k FROM {schema_t}.{t}",
    ),
    "s_types": (
        "SELECT {id} AS id, {m}::text AS m, {m} = '{sad}'::{lib}.{mood} AS is_sad, {p}::text AS p, ({p}).{b} AS b,"
        " {k}::{lib}.{small} AS small FROM {schema_t}.{t}",
        "SELECT {m} AS m, max({p}::text) AS p, count(*) AS n FROM {schema_t}.{t} GROUP BY {m}",
    ),
    "s_words": (
        "SELECT {id} AS id, to_tsvector('{lib}.{words}', {note})::text AS words FROM {schema_t}.{t}",
        "SELECT {id} AS id, {note} COLLATE {lib}.{plain} < 'running 3' AS first FROM {schema_t}.{t}",
    ),
    "s_whole": (
        "SELECT {t}.{id} AS id, to_jsonb({t}) AS j FROM {schema_t}.{t}",
        "SELECT {t}.{k} AS k, count({t}) AS n, min({t}::text) AS low FROM {schema_t}.{t} GROUP BY {t}.{k}",
    ),
    "s_joined": (
        "SELECT a.{wk} AS k, max(a.{wv}) AS v, e.{label} AS label"
        " FROM {app}.{w} a LEFT JOIN {app}.{d} e ON e.{dk} = a.{wk} GROUP BY a.{wk}, e.{label}",
        "SELECT e.{dk} AS k, e.{label} AS label, EXISTS (SELECT FROM {app}.{w} a WHERE a.{wk} = e.{dk}) AS there"
        " FROM {app}.{d} e",
    ),
    "s_count": ("SELECT {pk} AS k, count(*) AS n FROM {app}.{pt} GROUP BY {pk}",),
    "s_over": ("SELECT n, count(*) AS many FROM {s_count} GROUP BY n",),
}
MODES = ("DIFFERENTIAL", "AUTO", "FULL")
#: What can be taken away -> who misses it, by the words of the query that stand for it.
_LOSSES = ("note", "twice", "w", "label")


@dataclass
class History:
    """One history; replayed with the same seed it is the same.

    Attributes:
        names: first name -> present name.
        missing: what was taken away and not brought back.
        trail: what was done, for whoever has to understand a failure.
    """

    conn: psycopg.Connection[Any]
    engines: tuple[PgTrickle, ...]
    seed: int
    names: dict[str, str] = field(default_factory=lambda: dict(NAMES))
    chosen: dict[str, tuple[str, str]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    trail: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.conn.execute(BASE)
        for name, queries in QUERIES.items():
            self.chosen[name] = (queries[0], self.random.choice(MODES))
            self.engines[0].create_stream_table(name, self.query(name), refresh_mode=self.chosen[name][1])

    def play(self, steps: int) -> None:
        """Go so many steps; at the end everything is brought back, and everything has to be right.

        Raises:
            AssertionError: a stream table is not what its query says, or does not say what is missing.
        """
        try:
            for _ in range(steps):
                self._step()
            self._mend()
        except BaseException as error:
            told = "\n".join(self.trail)
            raise AssertionError(f"seed {self.seed}, after:\n{told}\n{error}") from error

    def query(self, name: str) -> str:
        """The present query of a stream table."""
        return self.chosen[name][0].format(**self.names)

    def _step(self) -> None:
        for _ in range(self.random.randrange(3)):
            self._write()
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3))):
            change = self.random.choice(CHANGES)
            self._count(change.__name__)
            change(self)
        for _ in range(self.random.randrange(2)):
            self._write()
        for name in self.random.sample(list(QUERIES), self.random.randrange(1, 4)):
            self.check(name)
        if self.missing and self.random.random() < 0.4:
            self._mend()

    def execute(self, statement: str) -> None:
        """Run DDL with names in braces."""
        text = statement.format(**self.names)
        self.trail.append(text)
        self.conn.execute(SQL(text))  # pyright: ignore[reportArgumentType]

    def fresh(self, first: str) -> str:
        """A name that nothing has had."""
        self.number += 1
        return f"{first}_{self.number}"

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _write(self) -> None:
        n = self.random.randrange(1, 40)
        self.execute(
            self.random.choice(
                (
                    f"INSERT INTO {{schema_t}}.{{t}} ({{id}}, {{k}}, {{v}}) VALUES ({n}, {n % 4}, {n})"
                    " ON CONFLICT DO NOTHING",
                    f"UPDATE {{schema_t}}.{{t}} SET {{v}} = {{v}} + 1, {{m}} = '{{glad}}' WHERE {{id}} = {n}",
                    f"UPDATE {{schema_t}}.{{t}} SET {{p}} = NULL, {{k}} = {n % 5} WHERE {{id}} % 7 = {n % 7}",
                    f"DELETE FROM {{schema_t}}.{{t}} WHERE {{id}} = {n}",
                    f"INSERT INTO {{app}}.{{d}} ({{dk}}) VALUES ({n % 6})",
                    f"DELETE FROM {{app}}.{{d}} WHERE {{dk}} = {n % 6}",
                    f"INSERT INTO {{app}}.{{pt}} VALUES ({n}, {n % 3}); DELETE FROM {{app}}.{{pt}} WHERE id = {n + 1}",
                    "TRUNCATE {schema_t}.{t}" if n == 1 else "SELECT 1",
                )
            )
        )

    def lacks(self, name: str) -> bool:
        """Whether something that a stream table reads is missing."""
        return any("{" + lost + "}" in self.chosen[name][0] for lost in self.missing)

    def _stored(self, name: str) -> Any:
        query = f"SELECT array_agg(s::text ORDER BY s::text) FROM {self.names.get(name, name)} s"
        row = self.conn.execute(SQL(query)).fetchone()  # pyright: ignore[reportArgumentType]
        return None if row is None else row[0]

    def check(self, name: str) -> None:
        """Refresh a stream table: it is right, or it refuses and says what is missing."""
        engine, table = self.random.choice(self.engines), self.names.get(name, name)
        before = self._stored(name)
        self.trail.append(f"-- refresh {table}")
        if self.lacks(name):
            self._check_refused(engine, name, before)
            return
        result = engine.refresh_stream_table(table)
        self._count(result.action)
        difference = compare(self.conn, table, self.query(name))
        assert difference is None, difference
        status = engine.status(table)[0]
        assert (status.status, status.consecutive_errors) == ("ACTIVE", 0), status
        if self.random.random() < 0.2:
            assert engine.verify(table).proven is not False

    def _check_refused(self, engine: PgTrickle, name: str, before: Any) -> None:
        try:
            done = engine.refresh_stream_table(self.names.get(name, name))
        except PgTrickleError as error:
            self._count("refused")
            said = f"{error} {error.detail}"
            lost = [one for one in self.missing if "{" + one + "}" in self.chosen[name][0]]
            # It may have got another name before it went, which nobody has seen.
            assert any(re.search(rf"\b{one}(_\d+)?\b", said) for one in lost), (lost, said)
            assert engine.status(name)[0].status == "ERROR"
        else:
            raise AssertionError(f"{name} was refreshed without {self.missing}: {done}")
        assert self._stored(name) == before

    def _mend(self) -> None:
        for lost in sorted(self.missing):
            self.execute(_REMEDIES[lost])
        self.missing.clear()
        self.refresh_all()

    def refresh_all(self) -> None:
        """Refresh and check everything."""
        for name in QUERIES:
            self.check(name)


def _rename(kind: str, first: str, statement: str, needs: str = "") -> Callable[[History], None]:
    def rename(history: History) -> None:
        if {first, needs} & history.missing:
            return
        new = history.fresh(first)
        history.execute(statement.replace("%new", new))
        history.names[first] = new

    rename.__name__ = f"rename_{kind}"
    return rename


def _plain(name: str, *statements: str, needs: tuple[str, ...] = ()) -> Callable[[History], None]:
    def change(history: History) -> None:
        if not history.missing & {*needs}:
            history.execute(history.random.choice(statements).replace("%new", history.fresh("x")))

    change.__name__ = name
    return change


def _lose(history: History) -> None:
    """Only what everybody knows by its present name: what comes back can be found by nothing but its name."""
    lost = history.random.choice(_LOSSES)
    users = [name for name in QUERIES if "{" + lost + "}" in history.chosen[name][0]]
    if lost in history.missing or any(map(history.lacks, users)):
        return
    for name in users:
        history.check(name)
    history.execute(_DROPS[lost])
    history.missing.add(lost)


def _move_table(history: History) -> None:
    new = "lib" if history.names["schema_t"] == history.names["app"] else "app"
    history.execute(f"ALTER TABLE {{schema_t}}.{{t}} SET SCHEMA {{{new}}}")
    history.names["schema_t"] = history.names[new]


def _rename_schema(history: History) -> None:
    first = history.random.choice(("app", "lib"))
    if {"app": "w", "lib": "twice"}[first] in history.missing:
        return
    old, new = history.names[first], history.fresh(first)
    history.execute(f"ALTER SCHEMA {{{first}}} RENAME TO {new}")
    history.names[first] = new
    if history.names["schema_t"] == old:
        history.names["schema_t"] = new


def _swap(history: History) -> None:
    """As dbt does. Everybody has seen the present name, and sees the new table by it before it may get another name."""
    if history.missing:
        return
    history.refresh_all()
    history.execute(
        "CREATE TABLE {app}.tmp AS SELECT {dk}, {label} || '!' AS {label} FROM ONLY {app}.{d};"
        "ALTER TABLE {app}.{d} RENAME TO backup; ALTER TABLE {app}.tmp RENAME TO {d}; DROP TABLE {app}.backup CASCADE"
    )
    history.refresh_all()


def _redefine(history: History) -> None:
    name = history.random.choice([one for one in QUERIES if len(QUERIES[one]) > 1])
    query, mode = history.random.choice(QUERIES[name]), history.random.choice(MODES)
    if any("{" + lost + "}" in query for lost in history.missing):
        return
    history.chosen[name] = (query, mode)
    history.trail.append(f"-- {name} AS {history.query(name)}")
    engine = history.random.choice(history.engines)
    engine.create_or_replace_stream_table(name, history.query(name), refresh_mode=mode)


def _undone(history: History) -> None:
    """What is rolled back has not been."""
    try:
        with history.conn.transaction():
            history.execute("ALTER TABLE {schema_t}.{t} RENAME COLUMN {v} TO never; DELETE FROM {schema_t}.{t}")
            raise psycopg.errors.RaiseException
    except psycopg.errors.RaiseException:
        history.trail.append("-- rolled back")


def _partition(history: History) -> None:
    """One with a row in it comes, and perhaps goes."""
    part = history.fresh("part")
    low = 10000 + history.number * 100
    history.execute(
        f"CREATE TABLE {{app}}.{part} (id int, {{pk}} int); INSERT INTO {{app}}.{part} VALUES ({low}, 7);"
        f"ALTER TABLE {{app}}.{{pt}} ATTACH PARTITION {{app}}.{part} FOR VALUES FROM ({low}) TO ({low + 99})"
    )
    if history.random.random() < 0.5:
        history.execute(f"ALTER TABLE {{app}}.{{pt}} DETACH PARTITION {{app}}.{part}")


_DROPS = {
    "note": "ALTER TABLE {schema_t}.{t} DROP COLUMN {note}",
    "twice": "DROP FUNCTION {lib}.{twice}(numeric)",
    "w": "DROP VIEW {app}.{w}",
    "label": "ALTER TABLE {app}.{d} DROP COLUMN {label}",
}
_REMEDIES = {
    "note": "ALTER TABLE {schema_t}.{t} ADD COLUMN {note} text DEFAULT 'running back'",
    "twice": "CREATE FUNCTION {lib}.{twice}(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 4 * $1'",
    "w": "CREATE VIEW {app}.{w} AS SELECT {k} AS {wk}, {v} AS {wv} FROM {schema_t}.{t}",
    "label": "ALTER TABLE {app}.{d} ADD COLUMN {label} text",
}
_OWNER = "ALTER TABLE {schema_t}.{t}"
CHANGES: tuple[Callable[[History], None], ...] = (
    *(
        _rename("column", first, f"ALTER TABLE {{schema_t}}.{{t}} RENAME COLUMN {{{first}}} TO %new")
        for first in ("id", "k", "v", "note", "m", "p")
    ),
    _rename("column", "label", "ALTER TABLE {app}.{d} RENAME COLUMN {label} TO %new"),
    _rename("column", "pk", "ALTER TABLE {app}.{pt} RENAME COLUMN {pk} TO %new"),
    _rename("view_column", "wk", "ALTER VIEW {app}.{w} RENAME COLUMN {wk} TO %new", "w"),
    _rename("table", "t", "ALTER TABLE {schema_t}.{t} RENAME TO %new"),
    _rename("table", "d", "ALTER TABLE {app}.{d} RENAME TO %new"),
    _rename("table", "pt", "ALTER TABLE {app}.{pt} RENAME TO %new"),
    _rename("view", "w", "ALTER VIEW {app}.{w} RENAME TO %new"),
    _rename("type", "mood", "ALTER TYPE {lib}.{mood} RENAME TO %new"),
    _rename("type", "pair", "ALTER TYPE {lib}.{pair} RENAME TO %new"),
    _rename("type", "small", "ALTER DOMAIN {lib}.{small} RENAME TO %new"),
    _rename("label", "sad", "ALTER TYPE {lib}.{mood} RENAME VALUE '{sad}' TO '%new'"),
    _rename("label", "glad", "ALTER TYPE {lib}.{mood} RENAME VALUE '{glad}' TO '%new'"),
    _rename("attribute", "b", "ALTER TYPE {lib}.{pair} RENAME ATTRIBUTE {b} TO %new"),
    _rename("function", "twice", "ALTER FUNCTION {lib}.{twice}(numeric) RENAME TO %new"),
    _rename("collation", "plain", "ALTER COLLATION {lib}.{plain} RENAME TO %new"),
    _rename("configuration", "words", "ALTER TEXT SEARCH CONFIGURATION {lib}.{words} RENAME TO %new"),
    _rename("stream_table", "s_count", "ALTER TABLE {s_count} RENAME TO %new"),
    _plain("add_column", _OWNER + " ADD COLUMN %new int DEFAULT 3"),
    _plain("drop_column", _OWNER + " DROP COLUMN IF EXISTS spare"),
    _plain(
        "retype",
        _OWNER + " ALTER {note} TYPE varchar(90) USING upper({note})",
        _OWNER + " ALTER {note} TYPE text USING {note} || '.'",
        needs=("note",),
    ),
    _plain("add_label", "ALTER TYPE {lib}.{mood} ADD VALUE '%new' BEFORE '{ok}'"),
    _plain("add_attribute", "ALTER TYPE {lib}.{pair} ADD ATTRIBUTE %new int"),
    _plain("domain", "ALTER DOMAIN {lib}.{small} ADD CHECK (VALUE < 1000000)"),
    _plain(
        "body",
        "CREATE OR REPLACE FUNCTION {lib}.{twice}(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 3 * $1'",
        "CREATE OR REPLACE FUNCTION {lib}.{twice}(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1'",
        "ALTER FUNCTION {lib}.{twice}(numeric) STRICT",
        needs=("twice",),
    ),
    _plain(
        "configuration",
        "ALTER TEXT SEARCH CONFIGURATION {lib}.{words} ALTER MAPPING FOR asciiword WITH simple",
        "ALTER TEXT SEARCH CONFIGURATION {lib}.{words} ALTER MAPPING FOR asciiword WITH english_stem",
    ),
    _plain(
        "off_and_on",
        _OWNER + " DISABLE TRIGGER ALL; UPDATE {schema_t}.{t} SET {v} = {v} + 1; " + _OWNER + " ENABLE TRIGGER ALL",
        _OWNER + " DISABLE TRIGGER ALL; TRUNCATE {schema_t}.{t}; " + _OWNER + " ENABLE TRIGGER ALL",
    ),
    _plain("row_security", _OWNER + " ENABLE ROW LEVEL SECURITY", _OWNER + " DISABLE ROW LEVEL SECURITY"),
    _plain("heir", "CREATE TABLE {app}.%new () INHERITS ({app}.{d}); INSERT INTO {app}.%new VALUES (2)"),
    _plain("unlogged", _OWNER + " SET UNLOGGED; " + _OWNER + " SET LOGGED", _OWNER + " SET (fillfactor = 60)"),
    _plain(
        "damage",
        "ALTER TABLE {s_count} DISABLE TRIGGER ALL; DELETE FROM {s_count} WHERE n > 2;"
        "ALTER TABLE {s_count} ENABLE TRIGGER ALL",
    ),
    _plain(
        "view",
        "CREATE OR REPLACE VIEW {app}.{w} AS SELECT {k} AS {wk}, {v} AS {wv} FROM {schema_t}.{t} WHERE {v} > 3",
        "CREATE OR REPLACE VIEW {app}.{w} AS SELECT {k} AS {wk}, {v} AS {wv} FROM {schema_t}.{t}",
        needs=("w",),
    ),
    _lose,
    _lose,
    _move_table,
    _rename_schema,
    _swap,
    _redefine,
    _redefine,
    _undone,
    _partition,
)
