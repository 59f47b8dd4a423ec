"""WITH RECURSIVE over small random graphs: after every window each stream table equals its query, by delta alone.

Every test runs many short histories from one seed; a failure names the statements of the history, so it can be
repeated and cut down by hand. A history over walks without a bound only contains graphs on which the query itself
terminates; the delta then has to terminate too.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support.oracle import compare

#: The other versions run it with --run-slow.
pytestmark = pytest.mark.newest_by_default

SCHEMA = """
CREATE TABLE edge (s integer, d integer);
CREATE TABLE link (id integer PRIMARY KEY, s integer NOT NULL, d integer NOT NULL, w numeric);
CREATE TABLE root (id integer);
CREATE TABLE blocked (id integer);
CREATE TABLE label (id integer, t text);
CREATE TABLE node (id integer PRIMARY KEY, parent integer, t text);
"""
TABLES = ("edge", "link", "root", "blocked", "label", "node")
PLACES = ("NULL", "1", "2", "3", "4", "5", "6")

#: UNION: any graph, cycles included.
SETS = {
    "pairs": "with recursive r(s, d) as (select s, d from edge union select r.s, e.d from r join edge e on e.s = r.d)"
    " select * from r",
    "left linear": "with recursive r(s, d) as (select s, d from edge"
    " union select e.s, r.d from edge e join r on e.d = r.s) select * from r",
    "reach": "with recursive r(x) as (select id from root union select e.d from r, edge e where e.s = r.x)"
    " select x, x is null as n from r",
    "not exists": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " where not exists (select 1 from blocked b where b.id = e.d)) select * from r",
    "not exists theta": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " where not exists (select 1 from blocked b where b.id > r.x and b.id < e.d)) select * from r",
    "in": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " where e.d in (select l.id from label l where l.t <> 'c')) select * from r",
    "not in": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " where e.d not in (select b.id from blocked b)) select * from r",
    "left join": "with recursive r(x, t) as (select id, null::text from root union"
    " select e.d, l.t from r join edge e on e.s = r.x left join label l on l.id = e.d) select * from r",
    "left join of the recursion": "with recursive r(x) as (select id from root union"
    " select coalesce(e.d, -1) from r left join edge e on e.s = r.x) select * from r",
    "two tables": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " join link k on k.s = e.s and k.d = e.d) select * from r",
    "one table twice": "with recursive r(x) as (select s from edge union select b.d from r join edge a on a.s = r.x"
    " join edge b on b.s = a.d) select * from r",
    "both directions": "with recursive r(x) as (select id from root union select case when k.s = r.x then k.d else k.s"
    " end from r join link k on r.x in (k.s, k.d)) select * from r",
    "grouping beside": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " join (select s, count(*) as n from edge group by s) g on g.s = e.s and g.n < 3) select * from r",
    "full join beside": "with recursive r(x, t) as (select id, 'r' from root union select coalesce(q.d, q.id),"
    " coalesce(q.t, '-') from r join (select k.s, k.d, l.id, l.t from link k full join label l on l.id = k.d) q"
    " on coalesce(q.s, q.id) = r.x) select * from r",
    "anti join beside": "with recursive r(x) as (select id from root union select q.d from r join (select e.s, e.d"
    " from edge e where not exists (select 1 from link k where k.s = e.s and k.d = e.d)) q on q.s = r.x)"
    " select * from r",
    "distinct step": "with recursive r(x) as (select id from root union select distinct e.d from r"
    " join edge e on e.s = r.x) select * from r",
    "scalar subquery": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " where e.d < (select coalesce(max(id), 4) from blocked)) select * from r",
    "correlated subquery": "with recursive r(x, n) as (select id, 0::bigint from root union select e.d,"
    " (select count(*) from label l where l.id = e.d) from r join edge e on e.s = r.x) select * from r",
    "function": "with recursive r(x) as (select id from root union select g from r join edge e on e.s = r.x,"
    " lateral generate_series(e.d, e.d + 1) g where g < 7) select * from r",
    "used twice": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x)"
    " select a.x, count(*) from r a left join r b on b.x < a.x group by 1",
    "over a recursion": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x),"
    " q(x) as (select x from r union select k.d from q join link k on k.s = q.x join r on r.x = k.d) select * from q",
    "outside join": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x)"
    " select l.t, r.x from label l left join r on r.x = l.id",
    "not reached": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x)"
    " select n.id from node n where not exists (select 1 from r where r.x = n.id)",
    "window above": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x)"
    " select x, row_number() over (partition by x % 2 order by x) from r",
    "distance within a bound": "with recursive r(x, n) as (select id, 0 from root union select e.d, n + 1 from r"
    " join edge e on e.s = r.x where n < 4) select x, min(n) from r group by x",
    "constants": "with recursive r(x) as (values (1), (4) union select e.d from r join edge e on e.s = r.x)"
    " select * from r",
    "cross join": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x"
    " cross join (select 1 from blocked) z) select * from r",
    "cycle": "with recursive r(x) as (select id from root union select e.d from r join edge e on e.s = r.x)"
    " cycle x set looped using way select x, looped from r",
    "search": "with recursive r(x) as (select id from root union select k.d from r join link k on k.s = r.x"
    " where k.s < k.d) search depth first by x set place select x from r order by place",
    "search by breadth": "with recursive r(x) as (select id from root union select k.d from r join link k on k.s = r.x"
    " where k.s < k.d) search breadth first by x set place select x, count(*) from r group by x",
    "grouped base": "with recursive r(x) as (select s from edge group by s having count(*) > 1 union"
    " select e.d from r join edge e on e.s = r.x) select * from r",
}
#: UNION ALL with a bound of its own: any graph.
BOUNDED = {
    "depth": "with recursive r(x, n) as (select id, 1 from root union all select e.d, n + 1 from r"
    " join edge e on e.s = r.x where n < 4) select * from r",
    "path": "with recursive r(x, p) as (select id, array[id] from root where id is not null union all"
    " select k.d, p || k.d from r join link k on k.s = r.x where not k.d = any(p)) select * from r",
    "path as text": "with recursive r(x, p) as (select id, id::text from root union all"
    " select k.d, p || '/' || k.d from r join link k on k.s = r.x where length(p) < 8) select x, p from r",
    "quantities": "with recursive r(x, q, n) as (select id, 1.0, 0 from root union all"
    " select k.d, r.q * k.w, n + 1 from r join link k on k.s = r.x where n < 3)"
    " select x, sum(q), count(*) from r group by x",
    "numbers of any scale": "with recursive r(x, q, n) as (select id, 1::numeric, 0 from root union all"
    " select k.d, r.q * k.w, n + 1 from r join link k on k.s = r.x where n < 3) select * from r",
    "left join": "with recursive r(x, n, t) as (select id, 0, null::text from root union all select e.d, n + 1, l.t"
    " from r join edge e on e.s = r.x left join label l on l.id = e.d where n < 3) select * from r",
    "left join of the recursion": "with recursive r(x, n) as (select id, 0 from root union all"
    " select e.d, n + 1 from r left join edge e on e.s = r.x where n < 3) select * from r",
    "not exists": "with recursive r(x, n) as (select id, 0 from root union all select e.d, n + 1 from r"
    " join edge e on e.s = r.x where n < 3 and not exists (select 1 from blocked b where b.id = e.d)) select * from r",
    "exists": "with recursive r(x, n) as (select id, 0 from root union all select e.d, n + 1 from r"
    " join edge e on e.s = r.x where n < 3 and exists (select 1 from blocked b where b.id = e.d)) select * from r",
    "one table twice": "with recursive r(x, n) as (select s, 0 from edge union all select b.d, n + 1 from r"
    " join edge a on a.s = r.x join edge b on b.s = a.d where n < 2) select * from r",
    "grouping beside": "with recursive r(x, n) as (select id, 0 from root union all select e.d, n + 1 from r"
    " join (select s, d, count(*) as c from edge group by s, d) e on e.s = r.x and e.c < 3 where n < 3)"
    " select * from r",
    "correlated subquery": "with recursive r(x, n) as (select id, 0::bigint from root union all select e.d,"
    " n + 1 + (select count(*) from label l where l.id = e.d) from r join edge e on e.s = r.x where n < 4)"
    " select * from r",
    "cycle": "with recursive r(s, d) as (select s, d from link where s < 3 union all select k.s, k.d from r"
    " join link k on k.s = r.d) cycle s, d set looped to 1 default 0 using way"
    " select * from (select s, d, looped from r) z",
    "length and text of a way": "with recursive r(x, y) as (select id, null::integer from root union all"
    " select k.d, k.s from r join link k on k.s = r.x) cycle x, y set looped using way"
    " select x, array_length(way, 1), cardinality(way), way::text from r where not looped",
    "cycle with its path": "with recursive r(x) as (select id from root union all select k.d from r"
    " join link k on k.s = r.x) cycle x set looped using way select x, way[1]::text from r where not looped",
    "cycle by a number": "with recursive r(x, w) as (select s, w from link where s < 3 union all select k.d, k.w from r"
    " join link k on k.s = r.x) cycle x, w set looped using way select x, looped from r",
    "search and cycle": "with recursive r(x, n) as (select id, 0 from root union all select k.d, n + 1 from r"
    " join link k on k.s = r.x) search breadth first by x set place cycle x set looped using way"
    " select n, x, looped from r order by place",
    "search with its order": "with recursive r(x, n) as (select id, 0 from root union all select k.d, n + 1 from r"
    " join link k on k.s = r.x where n < 2) search depth first by x set place"
    " select x, n, row_number() over (order by place, n, x) from r",
    "window in the step": "with recursive r(x, n) as (select id, 0::bigint from root union all select e.d,"
    " n + row_number() over (order by e.d, e.s, n) from r join edge e on e.s = r.x where n < 4)"
    " select x, count(*) from r group by x",
    "cross join": "with recursive r(x, n) as (select id, 0 from root union all select r.x, n + 1 from r"
    " cross join (select 1 from blocked) z where n < 2) select * from r",
}
#: UNION ALL without a bound: terminates where no cycle can be reached.
WALKS = {
    "walks": "with recursive r(x) as (select id from root union all select e.d from r join edge e on e.s = r.x)"
    " select * from r",
    "counted walks": "with recursive r(x, n) as (select id, 0 from root union all select e.d, n + 1 from r"
    " join edge e on e.s = r.x) select x, n, count(*) from r group by x, n",
    "with labels": "with recursive r(x, t) as (select id, ''::text from root union all select e.d, l.t from r"
    " join edge e on e.s = r.x left join label l on l.id = e.d) select * from r",
    "tree": "with recursive r(id, n, p) as (select id, 0, t from node where parent is null union all"
    " select c.id, n + 1, p || '/' || c.t from r join node c on c.parent = r.id) select * from r",
}


class History:
    """Random statements; remembers them since the last `restart`."""

    def __init__(self, conn: psycopg.Connection[Any], seed: int) -> None:
        self._conn = conn
        self._random = random.Random(seed)
        self._id = 0
        self.statements: list[str] = []

    def restart(self) -> None:
        """Forget everything and start with another small graph."""
        self.statements = []
        self.run("; ".join(f"TRUNCATE {table}" for table in TABLES))
        for _ in range(self._random.randint(3, 16)):
            self.run(self._insert(self._random.choice(("edge", "edge", "link", *TABLES))))

    def change(self) -> None:
        """A window: one to five statements, often several tables."""
        for _ in range(self._random.randint(1, 5)):
            self.run(self._statement())

    def run(self, statement: str) -> None:
        """Execute and remember a statement."""
        self.statements.append(statement)
        self._conn.execute(statement.encode())

    def _statement(self) -> str:
        table = self._random.choice(("edge", "edge", "edge", "link", "link", *TABLES))
        kind = self._random.choice(("insert", "insert", "insert", "delete", "delete", "update", "turn", "truncate"))
        columns = {"edge": ("s", "d"), "link": ("s", "d"), "node": ("parent",)}.get(table, ("id",))
        column = self._random.choice(columns)
        one = f"ctid = (SELECT ctid FROM {table} ORDER BY {column}, ctid OFFSET {self._random.randint(0, 3)} LIMIT 1)"
        match kind:
            case "insert":
                return self._insert(table)
            case "delete":
                return f"DELETE FROM {table} WHERE {self._random.choice((one, one, f'{column} = {self._place()}'))}"
            case "update":
                return f"UPDATE {table} SET {column} = {self._place(table == 'link')} WHERE {one}"
            case "turn" if table in ("edge", "link"):
                return f"UPDATE {table} SET s = d, d = s WHERE {one} AND s IS NOT NULL"
            case "truncate" if self._random.random() < 0.2:
                return f"TRUNCATE {table}"
            case _:
                return self._insert(table)

    def _insert(self, table: str) -> str:
        self._id += 1
        choose = self._random.choice
        rows = {
            "edge": f"{self._place()}, {self._place()}",
            "link": f"{self._id}, {self._place(True)}, {self._place(True)}, {choose(('1', '2.0', '2.00', '0.5'))}",
            "root": self._place(),
            "blocked": self._place(),
            "label": f"{self._place()}, {choose(('NULL', repr('a'), repr('b'), repr('c')))}",
            "node": f"{self._place(True)}, {self._place()}, {choose((repr('a'), repr('b')))}",
        }
        conflict = " ON CONFLICT DO NOTHING" if table == "node" else ""
        return f"INSERT INTO {table} VALUES ({rows[table]}){conflict}"

    def _place(self, known: bool = False) -> str:
        return self._random.choice(PLACES[1:] if known else PLACES)


@contextmanager
def at_most(seconds: float, engine: PgTrickle) -> Iterator[None]:
    """Cancel what the engine runs if it takes longer."""
    timer = threading.Timer(seconds, engine.cancel)
    timer.start()
    yield
    timer.cancel()


def create(engine: PgTrickle, queries: dict[str, str]) -> dict[str, tuple[str, str]]:
    """A stream table for each query: its name -> (title, query)."""
    tables = {}
    for number, (title, query) in enumerate(queries.items()):
        engine.create_stream_table(f"st_{number}", query, refresh_mode="DIFFERENTIAL")
        tables[f"st_{number}"] = (title, query)
    return tables


def check(
    engine: PgTrickle, conn: psycopg.Connection[Any], tables: dict[str, tuple[str, str]], history: History
) -> None:
    """Refresh all; each must have followed its changes and equal its query."""
    story = ";\n".join(history.statements)
    for name, (title, query) in tables.items():
        with at_most(20, engine):
            result = engine.refresh_stream_table(name)
        assert result.action in ("DIFFERENTIAL", "NO_DATA"), (title, result, story)
        assert result.fallback_reason is None, (title, result, story)
        difference = compare(conn, name, query)
        assert difference is None, f"{title}: {difference}\n{query}\nafter\n{story}"


def terminates(conn: psycopg.Connection[Any]) -> bool:
    """Whether no cycle of ``edge`` can be reached from ``root``. The parts of ``node`` below NULL are always trees."""
    edges: dict[int, list[int]] = {}
    for s, d in conn.execute("SELECT s, d FROM edge WHERE s IS NOT NULL AND d IS NOT NULL").fetchall():
        edges.setdefault(s, []).append(d)
    done: set[int] = set()

    def acyclic(place: int, above: frozenset[int]) -> bool:
        if place in above:
            return False
        if place in done:
            return True
        if all(acyclic(other, above | {place}) for other in edges.get(place, ())):
            done.add(place)
            return True
        return False

    return all(acyclic(row[0], frozenset()) for row in conn.execute("SELECT id FROM root").fetchall())


#: A graph, and changes that each let something be reached or not in another way.
GRAPH = """
INSERT INTO root VALUES (1); INSERT INTO edge VALUES (1, 2), (2, 3), (3, 1), (3, 5);
INSERT INTO link VALUES (-1, 1, 2, 2), (-2, 2, 3, 1.5), (-3, 3, 5, 1);
INSERT INTO label VALUES (3, 'a'); INSERT INTO blocked VALUES (5)
"""
ALONE = (
    "INSERT INTO label VALUES (2, 'b'), (5, 'a')",
    "INSERT INTO blocked VALUES (2)",
    "DELETE FROM blocked WHERE id = 5",
    "UPDATE label SET id = 1 WHERE id = 2",
    "DELETE FROM blocked",
    "INSERT INTO label VALUES (2, 'a')",
    "DELETE FROM edge WHERE s = 1; INSERT INTO edge VALUES (3, 2)",
    "INSERT INTO edge VALUES (1, 4), (4, 4), (1, 4)",
    "DELETE FROM edge WHERE s = 1; INSERT INTO edge VALUES (2, 4)",
    "INSERT INTO root VALUES (4), (NULL), (4)",
    "DELETE FROM link WHERE id = -2",
    "TRUNCATE label",
    "INSERT INTO link VALUES (-2, 2, 3, 1.5); UPDATE root SET id = 2 WHERE id = 1",
)


@pytest.mark.parametrize("queries", [SETS, BOUNDED], ids=["union", "union all"])
def test_one_kind_of_change_after_the_other(
    queries: dict[str, str], engine: PgTrickle, conn: psycopg.Connection[Any]
) -> None:
    conn.execute(SCHEMA.encode())
    conn.execute(GRAPH.encode())
    tables = create(engine, queries)
    history = History(conn, 6)
    for change in ALONE:
        history.run(change)
        check(engine, conn, tables, history)


@pytest.mark.timeout(3600)  # with --run-slow there are a hundred histories
@pytest.mark.parametrize(("queries", "seed"), [(SETS, 1), (BOUNDED, 2)], ids=["union", "union all"])
def test_recursions_follow_their_graphs(
    queries: dict[str, str], seed: int, engine: PgTrickle, conn: psycopg.Connection[Any], histories: int
) -> None:
    conn.execute(SCHEMA.encode())
    tables = create(engine, queries)
    history = History(conn, seed)
    for _ in range(histories):
        history.restart()
        for _ in range(4):
            check(engine, conn, tables, history)
            history.change()


@pytest.mark.timeout(3600)
def test_walks_without_a_bound_end_where_the_query_ends(
    engine: PgTrickle, conn: psycopg.Connection[Any], histories: int
) -> None:
    conn.execute(SCHEMA.encode())
    tables = create(engine, WALKS)
    history = History(conn, 3)
    for _ in range(histories):
        history.restart()
        for _ in range(6):
            if terminates(conn):
                check(engine, conn, tables, history)
            history.change()
        if not terminates(conn):
            history.run("TRUNCATE edge")
        check(engine, conn, tables, history)


def test_a_new_edge_from_a_row_that_goes_to_an_unreachable_cycle_ends(
    engine: PgTrickle, conn: psycopg.Connection[Any]
) -> None:
    """Propagating losses and gains together would go round the cycle for ever: both are there in every round."""
    conn.execute(SCHEMA.encode())
    conn.execute("INSERT INTO root VALUES (1); INSERT INTO edge VALUES (1, 2), (3, 4), (4, 3)")
    tables = create(engine, WALKS)
    history = History(conn, 4)
    history.run("DELETE FROM edge WHERE s = 1; INSERT INTO edge VALUES (2, 3)")
    check(engine, conn, tables, history)


def test_a_derivation_that_is_replaced_by_one_through_itself_does_not_keep_a_row(
    engine: PgTrickle, conn: psycopg.Connection[Any]
) -> None:
    """2 loses its only edge from the root and gains one from 3, which is only reached through 2."""
    conn.execute(SCHEMA.encode())
    conn.execute("INSERT INTO root VALUES (1); INSERT INTO edge VALUES (1, 2), (2, 3)")
    tables = create(engine, SETS)
    history = History(conn, 5)
    history.run("DELETE FROM edge WHERE s = 1; INSERT INTO edge VALUES (3, 2)")
    check(engine, conn, tables, history)


@pytest.fixture
def histories(request: pytest.FixtureRequest) -> int:
    """How many: a taste by default, a hundred with ``--run-slow``; `make soak` goes on with other queries."""
    return 100 if request.config.getoption("--run-slow") else 2
