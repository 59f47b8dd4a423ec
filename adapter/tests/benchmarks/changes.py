"""What happens to the tables between two refreshes: 70 % updates, 15 % deletes, 15 % inserts of random rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.benchmarks.model import Change

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Table:
    """How one table changes.

    Attributes:
        key: its key columns.
        sets: SET list of an update; ``p.r`` is a random number from 0 to 999.
        fresh: columns that a copied row gets anew; ``{cycle}`` is the number of the cycle.
        deletes: condition on ``t`` for rows that may be deleted.
    """

    key: Sequence[str]
    sets: str
    fresh: Mapping[str, str]
    deletes: str = "true"


def _moved(column: str, digit: int, value: str) -> str:
    """A fifth of the updates move this column; the update of a single row does."""
    return f"{column} = CASE WHEN p.r % 5 = {digit} OR p.single THEN {value} ELSE {column} END"


TABLES: Mapping[str, Table] = {
    "lineitem": Table(
        ("l_orderkey", "l_linenumber"),
        "l_quantity = l_quantity % 50 + 1, l_extendedprice = 900 + p.r * 100 + l_linenumber, "
        + _moved("l_shipdate", 1, "l_shipdate + 30")
        + ", "
        + _moved("l_partkey", 2, "(l_partkey * 7) % (SELECT count(*)::int FROM part) + 1")
        + ", "
        + _moved("l_suppkey", 3, "(l_suppkey * 7) % (SELECT count(*)::int FROM supplier) + 1"),
        {"l_linenumber": "l_linenumber % 1000 + 1000 * {cycle}"},
    ),
    "orders": Table(
        ("o_orderkey",),
        "o_totalprice = o_totalprice + p.r, "
        + _moved("o_orderdate", 1, "o_orderdate + 30")
        + ", "
        + _moved("o_custkey", 2, "(o_custkey * 7 + p.r) % (SELECT count(*)::int FROM customer) + 1"),
        {"o_orderkey": "nextval('bench_key')"},
    ),
    "customer": Table(
        ("c_custkey",),
        "c_acctbal = c_acctbal + p.r, " + _moved("c_nationkey", 1, "(c_nationkey + 1) % 25"),
        {"c_custkey": "nextval('bench_key')"},
    ),
    "supplier": Table(
        ("s_suppkey",),
        "s_acctbal = s_acctbal + p.r, " + _moved("s_nationkey", 1, "(s_nationkey + 1) % 25"),
        {"s_suppkey": "nextval('bench_key')"},
    ),
    "part": Table(
        ("p_partkey",),
        "p_retailprice = p_retailprice + p.r, " + _moved("p_size", 1, "p_size % 50 + 1"),
        {"p_partkey": "nextval('bench_key')"},
    ),
    "partsupp": Table(
        ("ps_partkey", "ps_suppkey"),
        "ps_supplycost = ps_supplycost + p.r % 10, ps_availqty = ps_availqty % 9000 + p.r",
        {"ps_suppkey": "nextval('bench_key')"},
    ),
    "tree": Table(
        ("id",),
        "value = value + p.r",
        {"id": "nextval('bench_key')", "parent": "id", "value": "value + 1"},
        # Only leaves go, and the root stays as it is.
        "t.parent IS NOT NULL AND NOT EXISTS (SELECT FROM tree AS c WHERE c.parent = t.id)",
    ),
}
FIRST_KEY = 1_000_000_000


def _numbered(table: Table) -> str:
    return ", ".join(f"k{place}" for place in range(len(table.key)))


class Writer:
    """The application: it changes tables, one transaction per window."""

    def __init__(self, dsn: str, tables: Sequence[str], *, seed: float = 0.5) -> None:
        self.conn: Connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
        self.tables = [table for table in tables if table in TABLES]
        self.cycle = 0
        self._triggers: dict[str, float] | None = None
        self.conn.execute("SELECT setseed(%s)", (seed,))
        self._execute(f"CREATE SEQUENCE IF NOT EXISTS bench_key START {FIRST_KEY}")
        self._sizes = {table: self._rows(table) for table in self.tables}

    def close(self) -> None:
        """Close the connection."""
        self.conn.close()

    def size(self, change: Change) -> int:
        """Rows that a change of this rate touches in all tables together."""
        return sum(change.of(rows) for rows in self._sizes.values())

    def apply(self, change: Change, triggers: dict[str, float] | None = None) -> int:
        """Change all tables in one transaction; the rows touched.

        Args:
            change: how much.
            triggers: gets the milliseconds that each trigger took
        """
        self.cycle += 1
        self._triggers = triggers
        with self.conn.transaction():
            return sum(self._change(table, change.of(rows)) for table, rows in self._sizes.items())

    def _write(self, text: str) -> None:
        """A statement that changes a table; explained where the times of its triggers are wanted."""
        if self._triggers is None:
            self._execute(text)
            return
        cursor = self.conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}".encode())
        row = cursor.fetchone()
        assert row is not None
        for trigger in row[0][0]["Triggers"]:
            name = trigger["Trigger Name"]
            self._triggers[name] = self._triggers.get(name, 0.0) + trigger["Time"]

    def _execute(self, text: str) -> None:
        self.conn.execute(text.encode())

    def _rows(self, table: str) -> int:
        row = self.conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        return row[0]

    def _change(self, name: str, wanted: int) -> int:
        if wanted == 0:
            return 0
        table = TABLES[name]
        picked = self._pick(name, table, wanted)
        match = " AND ".join(f"t.{column} = p.k{place}" for place, column in enumerate(table.key))
        self._write(f"UPDATE {name} AS t SET {table.sets} FROM picked AS p WHERE {match} AND p.kind = 'u'")
        if wanted > 1:
            self._write(f"DELETE FROM {name} AS t USING picked AS p WHERE {match} AND p.kind = 'd' AND {table.deletes}")
            columns = self._columns(name)
            values = [
                table.fresh[column].format(cycle=self.cycle) if column in table.fresh else column for column in columns
            ]
            self._write(
                f"INSERT INTO {name} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {name} AS s"
                f" WHERE ({', '.join(table.key)}) IN (SELECT {_numbered(table)} FROM picked WHERE kind = 'i')"
                " ON CONFLICT DO NOTHING"
            )
        return picked

    def _pick(self, name: str, table: Table, wanted: int) -> int:
        """Keys of random rows into ``picked``: by address where few are wanted, by a sample where many are."""
        size = self._sizes[name]
        if wanted * 50 < size:
            where = (
                "WHERE ctid = ANY (ARRAY(SELECT format('(%s,%s)', floor(random() * pages), 1 + floor(random() * width))"
                f"::tid FROM generate_series(1, {wanted * 2 + 50}) AS i, (SELECT relpages AS pages, "
                f"1.05 * reltuples / relpages AS width FROM pg_class WHERE oid = '{name}'::regclass) AS c))"
            )
        else:
            where = f"TABLESAMPLE BERNOULLI ({min(100.0, 100 * wanted / size * 1.05 + 1):.3f})"
        keys = ", ".join(table.key)
        renamed = ", ".join(f"{column} AS k{place}" for place, column in enumerate(table.key))
        root = " AND id > 1" if name == "tree" else ""
        if root:
            where = where + root if where.startswith("WHERE") else where + " WHERE id > 1"
        self._execute("DROP TABLE IF EXISTS picked")
        self._execute(
            f"CREATE TEMP TABLE picked AS SELECT {renamed}, floor(random() * 1000)::int AS r, {wanted == 1} AS single,"
            f" CASE WHEN n <= greatest(1, 0.7 * {wanted}) THEN 'u' WHEN n <= 0.85 * {wanted} THEN 'd' ELSE 'i' END"
            " AS kind"
            f" FROM (SELECT {keys}, row_number() OVER (ORDER BY random()) AS n FROM {name} {where}) AS c"
            f" WHERE n <= {wanted}"
        )
        self._execute("ANALYZE picked")
        row = self.conn.execute("SELECT count(*) FROM picked").fetchone()
        assert row is not None
        assert row[0] > 0, f"no row of {name} was picked"
        return row[0]

    def _columns(self, name: str) -> list[str]:
        rows = self.conn.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " ORDER BY attnum",
            (name,),
        ).fetchall()
        return [column for (column,) in rows]
