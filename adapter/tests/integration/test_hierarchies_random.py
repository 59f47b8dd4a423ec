"""Random histories over inheritance and partitions: rows, tables that come and go, refreshes now and then."""

from __future__ import annotations

import random

import psycopg
import pytest
from psycopg.sql import SQL

from pgtrickle.api import PgTrickle
from tests.support.oracle import compare

BASE = """
    CREATE TABLE top (id int, v text);
    CREATE TABLE mid (x int) INHERITS (top);
    CREATE TABLE low (y int) INHERITS (mid);
    CREATE TABLE side (z text) INHERITS (top);
    CREATE TABLE lone (id int PRIMARY KEY, v text);
    CREATE TABLE pt (id int, v text) PARTITION BY RANGE (id);
    CREATE TABLE pa PARTITION OF pt FOR VALUES FROM (0) TO (10);
    CREATE TABLE pb PARTITION OF pt FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
    CREATE TABLE pb1 PARTITION OF pb FOR VALUES FROM (10) TO (15);
    CREATE TABLE pb2 PARTITION OF pb FOR VALUES FROM (15) TO (20);
    CREATE TABLE d (id int PRIMARY KEY, n text);
    INSERT INTO d SELECT g, 'n' || g % 5 FROM generate_series(0, 29) g;
    INSERT INTO lone SELECT g, 'l' FROM generate_series(0, 5) g;
"""
QUERIES = {
    "s_top": "SELECT id, v FROM top",
    "s_only_top": "SELECT id, v FROM ONLY top",
    "s_mid": "SELECT m.id, m.v, m.x, d.n FROM mid m LEFT JOIN d ON d.id = m.id",
    "s_low": "SELECT * FROM low",
    "s_only_mid": "SELECT v, count(*) AS n, sum(x) AS s FROM ONLY mid GROUP BY v",
    "s_where": "SELECT tableoid::regclass::text AS t, count(*) AS n FROM top GROUP BY 1",
    "s_lone": "SELECT l.id, l.v, d.n FROM lone l JOIN d USING (id)",
    "s_only_lone": "SELECT id, v, tableoid AS t FROM ONLY lone",
    "s_pt": "SELECT v, count(*) AS n FROM pt GROUP BY v",
    "s_pb": "SELECT id, v FROM pb",
    "s_pb1": "SELECT p.id, p.v, EXISTS (SELECT FROM low WHERE low.id = p.id) AS e FROM pb1 p",
    "s_pt_where": "SELECT tableoid AS t, v FROM pt",
    "s_both": "SELECT a.id, b.tableoid::regclass AS t FROM mid a JOIN ONLY top b ON a.v = b.v",
}
HEIRS, PARTITIONS = ("top", "mid", "low", "side"), ("pt", "pa", "pb", "pb1", "pb2")


class History:
    """Writes random statements; knows which tables exist."""

    def __init__(self, conn: psycopg.Connection[object], seed: int) -> None:
        self.conn, self.random, self.made = conn, random.Random(seed), 0
        self.statements: list[str] = []
        self.below: dict[str, str] = {}  # what hangs below something, beside the tables above
        self.detached: list[str] = []

    def execute(self, statement: str) -> bool:
        """Run it; False if the server refuses (no partition takes the row ...): then it is no part of it."""
        try:
            self.conn.execute(SQL(statement))  # pyright: ignore[reportArgumentType]
        except (psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation, psycopg.errors.DatatypeMismatch):
            return False
        self.statements.append(statement)
        return True

    def step(self) -> None:
        """One statement, or several that belong together."""
        kind = self.random.choices(
            (self.insert, self.update, self.delete, self.truncate, self.restructure), (8, 6, 4, 1, 3)
        )[0]
        kind()

    def _table(self) -> str:
        return self.random.choice((*HEIRS, *PARTITIONS, "lone", *self.below))

    def _only(self) -> str:
        return self.random.choice(("", "", "ONLY "))

    def insert(self) -> None:
        table, number = self._table(), self.random.randrange(20)
        self.execute(
            f"INSERT INTO {table} (id, v) SELECT g, 'v' || g % 3 FROM generate_series({number}, {number + 2}) g"
        )
        self.execute(f"INSERT INTO {table} (id, v) VALUES ({number}, 'one')")

    def update(self) -> None:
        what = self.random.choice(("v = v || 'u'", "v = 'same'", "id = id", "id = (id + 7) % 20"))
        self.execute(f"UPDATE {self._only()}{self._table()} SET {what} WHERE id % 3 = {self.random.randrange(3)}")

    def delete(self) -> None:
        self.execute(f"DELETE FROM {self._only()}{self._table()} WHERE id % 4 = {self.random.randrange(4)}")

    def truncate(self) -> None:
        table = self.random.choice((*HEIRS, "pa", "pb2", "lone"))
        self.execute(f"TRUNCATE {'' if table in PARTITIONS else self._only()}{table}")

    def restructure(self) -> None:
        if self.below and self.random.random() < 0.6:
            self._take_away()
        elif self.detached and self.random.random() < 0.5:
            self._put_below(self.detached.pop())
        else:
            self.made += 1
            name = f"n{self.made}"
            if self.random.random() < 0.5:
                self.execute(f"CREATE TABLE {name} (id int NOT NULL, v text, x int, y int)")
                self.execute(f"INSERT INTO {name} VALUES (25, 'before', 1, 1)")
                self._put_below(name)
            else:
                parent = self.random.choice(("top", "mid", "low", "lone"))
                self.execute(f"CREATE TABLE {name} () INHERITS ({parent})")
                self.below[name] = parent

    def _put_below(self, name: str) -> None:
        parent = self.random.choice(("top", "mid", "low", "lone", "pt"))
        if parent == "pt" and "pt" not in self.below.values():
            self.execute(f"CREATE TABLE {name}_p (id int, v text)")
            self.execute(f"INSERT INTO {name}_p VALUES (25, 'filled')")
            self.execute(f"ALTER TABLE pt ATTACH PARTITION {name}_p FOR VALUES FROM (20) TO (30)")
            self.below[f"{name}_p"] = "pt"
        elif parent != "pt" and self.execute(f"ALTER TABLE {name} INHERIT {parent}"):
            self.below[name] = parent

    def _take_away(self) -> None:
        name = self.random.choice(sorted(self.below))
        parent = self.below.pop(name)
        if self.random.random() < 0.5:
            self.execute(f"DROP TABLE {name}")
        elif parent == "pt":
            self.execute(f"ALTER TABLE pt DETACH PARTITION {name}")
        else:
            self.execute(f"ALTER TABLE {name} NO INHERIT {parent}")
            columns = {
                row[0]
                for row in self.conn.execute(
                    SQL("SELECT attname FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0").format(name)
                )
            }
            if {"x", "y"} <= columns:
                self.detached.append(name)


def _play(conn: psycopg.Connection[object], engine: PgTrickle, seed: int, steps: int) -> None:
    conn.execute(BASE)
    for name, query in QUERIES.items():
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
    history = History(conn, seed)
    for _ in range(steps):
        for _ in range(history.random.randrange(1, 6)):
            history.step()
        chosen = [name for name in QUERIES if history.random.random() < 0.5]
        for name in chosen:
            engine.refresh_stream_table(name)
        for name in chosen:
            difference = compare(conn, name, QUERIES[name])
            assert difference is None, "\n".join((f"seed {seed}", *history.statements, difference))


@pytest.mark.newest_only
def test_random_history_of_hierarchies(conn: psycopg.Connection[object], engine: PgTrickle) -> None:
    _play(conn, engine, 1, 6)


@pytest.mark.slow
@pytest.mark.edges_only
@pytest.mark.parametrize("seed", range(100, 120))
def test_long_random_history_of_hierarchies(conn: psycopg.Connection[object], engine: PgTrickle, seed: int) -> None:
    _play(conn, engine, seed, 30)
