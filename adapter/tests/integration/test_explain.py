"""What an explanation says is what the engine does: statements that the server takes, tables that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import psycopg
import pytest
from pglast import parse_sql
from psycopg.sql import SQL

from pgtrickle.analyze.types import TypeLoader
from pgtrickle.api import Explanation, PgTrickle
from pgtrickle.cli import main
from pgtrickle.delta import RULES
from pgtrickle.delta.aggregates import AGGREGATES, rule_for
from pgtrickle.delta.choice import ON_TOP
from pgtrickle.explain import render, to_text
from pgtrickle.explain.tables import COSTS
from pgtrickle.ir.expr import col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import INT8, Column
from pgtrickle.plan import Relation, StageBinding, Strategy
from tests.support import fixtures

pytestmark = pytest.mark.newest_only

Connection = psycopg.Connection[Any]
Cli = Callable[..., str]

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, amount numeric(12,2), placed date, note text);
CREATE TABLE items (order_id int, product text, qty int, price float8);
CREATE TABLE "Odd % names" ("a ""b"" c" int PRIMARY KEY, "select" text);
CREATE VIEW big_orders AS SELECT id, customer_id, amount FROM orders WHERE amount > 10;
INSERT INTO customers SELECT i, 'c' || i, 'r' || i % 3 FROM generate_series(1, 20) i;
INSERT INTO orders SELECT i, i % 25, i, date '2024-01-01' + i, 'x' FROM generate_series(1, 200) i;
INSERT INTO items SELECT i % 200, 'p' || i % 7, i % 5, i / 3.0 FROM generate_series(1, 300) i;
ANALYZE customers, orders, items
"""

#: One query per group of constructs; together they use every operator and every strategy.
QUERIES = {
    "joins": """SELECT c.name, o.amount, i.product, w.amount AS big
        FROM customers c JOIN orders o ON o.customer_id = c.id AND o.amount > 3
        LEFT JOIN items i ON i.order_id = o.id FULL JOIN big_orders w ON w.id = o.id
        WHERE c.region <> 'r1'""",
    "memberships": """SELECT o.id, o.amount FROM orders o
        WHERE EXISTS (SELECT FROM items i WHERE i.order_id = o.id)
          AND o.customer_id NOT IN (SELECT c.id FROM customers c WHERE c.region = 'r2')
          AND o.id IN (SELECT x.order_id FROM items x)""",
    "subqueries": """SELECT o.id, (SELECT max(i.qty) FROM items i WHERE i.order_id = o.id) AS most,
          CASE WHEN o.amount > ALL (SELECT b.amount FROM big_orders b WHERE b.customer_id = 1) THEN 'top' END AS top
        FROM orders o""",
    "series": "SELECT id, (SELECT max(g) FROM generate_series(1, o.id) AS g) AS last FROM orders o",
    "groups": """SELECT c.region, count(*) AS n, sum(o.amount) AS total, bool_and(o.amount > 1) AS all_big
        FROM customers c RIGHT JOIN orders o ON o.customer_id = c.id GROUP BY c.region HAVING count(*) > 1""",
    "recomputed": """SELECT product, max(price) AS highest, array_agg(qty) AS quantities, count(DISTINCT order_id) AS n
        FROM items GROUP BY product""",
    "grouping_sets": "SELECT customer_id, placed, count(*) AS n FROM orders GROUP BY ROLLUP (customer_id, placed)",
    "windows": """SELECT id, rank() OVER (PARTITION BY customer_id ORDER BY amount, id) AS r,
          sum(amount) OVER (PARTITION BY placed) AS s, row_number() OVER (ORDER BY id) AS n FROM orders""",
    "sets": """SELECT id FROM customers UNION SELECT customer_id FROM orders INTERSECT SELECT order_id FROM items
        EXCEPT ALL SELECT 3""",
    "laterals": """SELECT o.id, l.product, s.k FROM orders o
        CROSS JOIN LATERAL (SELECT i.product FROM items i WHERE i.order_id = o.id ORDER BY i.price LIMIT 1) l
        CROSS JOIN generate_series(1, 2) AS s (k)""",
    "picks": "SELECT DISTINCT ON (customer_id) customer_id, amount FROM orders ORDER BY customer_id, amount DESC",
    "limits": "SELECT id, amount FROM orders ORDER BY amount DESC LIMIT 5",
    "with": """WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5),
          big AS (SELECT customer_id, count(*) AS n FROM big_orders GROUP BY customer_id)
        SELECT a.customer_id, b.n, t.n AS m FROM big a JOIN big b USING (customer_id) JOIN t ON t.n = b.n""",
    "recursion": """WITH RECURSIVE t (id) AS (
            SELECT id FROM customers WHERE id < 3 UNION SELECT o.customer_id FROM orders o JOIN t ON t.id = o.id)
        SELECT t.id, c.name FROM t JOIN customers c USING (id)""",
    "names": """SELECT "a ""b"" c", "select" || '%' AS "100%", "a ""b"" c" % 2 AS odd FROM "Odd % names"
        WHERE "select" LIKE 'a%'""",
    "constants": "SELECT v.x, o.id FROM orders o JOIN (VALUES (1), (2)) AS v (x) ON v.x = o.customer_id",
}


NAMES = [*QUERIES, "above"]


@pytest.fixture(scope="module")
def shop(module_db: str) -> Iterator[PgTrickle]:
    """Stream tables over all queries, with some history."""
    with PgTrickle.connect(module_db) as engine:
        engine.install()
        for statement in SCHEMA.strip().split(";\n"):
            engine.conn.execute(SQL(statement))  # pyright: ignore[reportArgumentType]
        for name, query in QUERIES.items():
            engine.create_stream_table(f"public.st_{name}", query)
        engine.create_stream_table("public.st_above", "SELECT region, n FROM st_groups WHERE n > 2")
        yield engine


@pytest.fixture(scope="module")
def explained(shop: PgTrickle) -> Mapping[str, Explanation]:
    """The explanation of every stream table, by the name of its query."""
    return {name: shop.explain(f"public.st_{name}") for name in NAMES}


@pytest.fixture
def say(module_db: str, capsys: pytest.CaptureFixture[str]) -> Cli:
    """What a command prints."""

    def run(*arguments: str) -> str:
        assert main([*arguments, "--dsn", module_db]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_of_an_explanation_is_one_that_the_server_prepares(
    shop: PgTrickle, explained: Mapping[str, Explanation], name: str
) -> None:
    found = explained[name]
    assert found.mode == "DIFFERENTIAL"
    statements = [statement for delta in found.deltas for statement in delta.statements]
    assert statements
    for statement in statements:
        assert len(parse_sql(statement.sql)) == 1
        numbers = {int(number) for number in re.findall(r"\$(\d+)", statement.sql)}
        assert numbers == set(range(1, len(statement.parameters) + 1))
        with shop.conn.transaction(force_rollback=True):
            shop.conn.execute("SET LOCAL search_path = pg_catalog")
            shop.conn.execute(SQL("PREPARE shown AS " + statement.sql), prepare=False)  # pyright: ignore[reportOperatorIssue,reportArgumentType]
            shop.conn.execute("DEALLOCATE shown")


@pytest.mark.parametrize("name", NAMES)
def test_every_source_has_its_statements_and_all_together_have_theirs(
    explained: Mapping[str, Explanation], name: str
) -> None:
    found = explained[name]
    sources = [source.name for source in found.sources]
    wanted = [(source,) for source in sources] + ([tuple(sorted(sources))] if len(sources) > 1 else [])
    assert sorted(delta.changed for delta in found.deltas) == sorted(wanted)
    for source in found.sources:
        (delta,) = [delta for delta in found.deltas if delta.changed == (source.name,)]
        assert source.changes is not None
        assert tuple(statement.stage for statement in delta.statements) == source.stages
        # A change that never reaches the stream table would be lost.
        assert source.stages[-1] == found.stages[-1].number


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_has_a_rule_a_description_and_a_reason(explained: Mapping[str, Explanation], name: str) -> None:
    for stage in explained[name].stages:
        for operator in stage.operators:
            assert operator.rule, operator
            assert operator.says.endswith("."), operator
            assert operator.why, operator


def test_the_queries_use_every_operator_and_every_strategy(
    shop: PgTrickle, explained: Mapping[str, Explanation]
) -> None:
    full = shop.validate_query(QUERIES["picks"], "FULL")
    stages = [stage for found in (*explained.values(), full) for stage in found.stages]
    operators = {operator.operator for stage in stages for operator in stage.operators}
    assert {"LeftJoin", "FullJoin", "SemiJoin", "AntiJoin"} <= operators
    assert {kind.__name__ for kind in (*RULES, *ON_TOP)} - {"OuterJoin", "Anti"} <= operators
    assert {strategy.value for strategy in Strategy} == {stage.strategy for stage in stages}
    # No line of the registry is dead.
    assert {rule.__name__ for rule in RULES.values()} <= {o.rule for stage in stages for o in stage.operators}


def test_scalar_subqueries_become_joins(shop: PgTrickle) -> None:
    by_key = (
        "SELECT o.id, (SELECT c.name FROM customers c WHERE c.id = o.customer_id) AS v FROM orders o",
        "SELECT o.id, (SELECT o.amount + 1 FROM customers c WHERE c.id = o.customer_id) AS v FROM orders o",
    )
    for query in by_key:
        assert {stage.strategy for stage in shop.validate_query(query).stages} == {Strategy.ROWS.value}
    one_of_many = (
        "SELECT id, (SELECT price FROM items i WHERE i.order_id = o.id AND i.product = 'p1') AS v FROM orders o"
    )
    assert not [s.reason for s in shop.validate_query(one_of_many).stages if "evaluated again" in s.reason]


def test_every_rule_for_an_aggregate_is_taken_for_some_type(engine: PgTrickle) -> None:
    rows = engine.conn.execute(
        "SELECT p.proname, ARRAY(SELECT CASE t.typtype WHEN 'p' THEN 23 ELSE t.oid::bigint END"
        " FROM unnest(p.proargtypes) WITH ORDINALITY AS a (oid, n) JOIN pg_type t ON t.oid = a.oid ORDER BY n)"
        " FROM pg_proc p"
        " WHERE p.prokind = 'a' AND p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (%s)",
        [list(AGGREGATES)],
    ).fetchall()
    numeric, scale_2 = 1700, (12 << 16 | 2) + 4
    wanted = {(oid, -1) for _, oids in rows for oid in oids} | {(numeric, scale_2)}
    types = TypeLoader(engine.conn).load(wanted)
    used: dict[str, set[int]] = {name: set() for name in AGGREGATES}
    for name, oids in rows:
        for typmod in (-1, scale_2) if numeric in oids else (-1,):
            columns = tuple(Column(f"a{n}", types[oid, typmod if oid == numeric else -1]) for n, oid in enumerate(oids))
            args = tuple(col(column.name) for column in columns)
            rule = rule_for(
                AggregateCall(columns[0] if columns else Column("a", INT8), text(name), name, args, None, True), columns
            )
            used[name] |= {id(rule)}
    assert {name for name, _ in rows if not {id(rule) for rule in AGGREGATES[name]} <= used[name]} == set()


def test_the_rewrites_are_told(shop: PgTrickle, explained: Mapping[str, Explanation]) -> None:
    steps = {name: {rewrite.step for rewrite in found.rewrites} for name, found in explained.items()}
    assert {"views", "prune"} <= steps["joins"]
    assert {"semi join", "anti join"} <= steps["memberships"]
    assert {"unnest"} <= steps["subqueries"]
    assert {"subquery"} <= steps["series"]
    assert {"right join", "having"} <= steps["groups"]
    assert {"order"} <= steps["recomputed"]
    assert {"grouping sets"} <= steps["grouping_sets"]
    assert {"windows", "stages"} <= steps["windows"]
    assert {"distinct", "set operation"} <= steps["sets"]
    assert {"with", "using"} <= steps["with"]
    joined = shop.validate_query("SELECT o.id FROM customers c, orders o WHERE o.customer_id = c.id AND c.region = 'a'")
    assert [rewrite.text for rewrite in joined.rewrites if rewrite.step == "push"] == [
        "region_3 = CAST('a' AS text) is checked before the join"
    ]


def test_tables_are_counted_and_weighed(shop: PgTrickle, explained: Mapping[str, Explanation]) -> None:
    found = explained["groups"]
    tables = {(table.role, table.stage): table for table in found.tables}
    state, output = tables["state", 0], tables["output", 0]
    (rows,) = shop.conn.execute("SELECT count(*) FROM st_groups").fetchone() or (None,)
    assert (output.name, output.rows, output.exact) == ("public.st_groups", rows, True)
    assert state.exists
    assert state.rows
    for table in found.tables:
        size = shop.conn.execute("SELECT pg_total_relation_size(%s::regclass)", [table.name]).fetchone()
        assert size == (table.bytes,)
    assert sum("CREATE" in index for table in (state, output) for index in table.indexes) == 2
    # It is read by another one, so it keeps a log.
    assert ("log", 0) in tables


def test_every_table_of_the_state_schema_is_in_an_explanation(
    shop: PgTrickle, explained: Mapping[str, Explanation]
) -> None:
    rows = shop.conn.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('pgtrickle_state')"
    ).fetchall()
    told = {table.name for found in explained.values() for table in found.tables if table.exists}
    assert {name for (name,) in rows} <= told


def test_every_index_that_is_told_is_there(shop: PgTrickle, explained: Mapping[str, Explanation]) -> None:
    for found in explained.values():
        for table in found.tables:
            named = [match[1] for index in table.indexes for match in re.finditer(r"INDEX (pgtrickle_\w+) ON", index)]
            present = shop.conn.execute(
                "SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = indexrelid WHERE indrelid = %s::regclass",
                [table.name],
            ).fetchall()
            assert set(named) <= {relname for (relname,) in present}, table


def test_every_table_of_a_stage_has_a_cost_in_words() -> None:
    roles = {field.name for field in fields(StageBinding) if "Relation" in str(field.type)}
    assert Relation.__name__ in str(fields(StageBinding)[0].type)
    assert roles | {"changes"} == set(COSTS)


def test_missing_indexes_on_join_columns_are_told_until_they_are_there(engine: PgTrickle, conn: Connection) -> None:
    conn.execute("CREATE TABLE a (id int PRIMARY KEY, b_id int); CREATE TABLE b (id int PRIMARY KEY, kind text)")
    query = "SELECT a.id, b.kind FROM a JOIN b ON b.id = a.b_id"
    (advice,) = engine.validate_query(query).advice
    assert (advice.table, advice.columns, advice.reason) == ("public.a", ("b_id",), "joined to what changed")
    assert "hardly matters" in to_text(engine.validate_query(query))
    conn.execute("CREATE INDEX ON a (b_id) WHERE id > 5")
    assert engine.validate_query(query).advice
    conn.execute(advice.statement.encode())
    assert engine.validate_query(query).advice == ()


def test_missing_indexes_on_recomputed_keys_are_told_through_views_and_unions(
    engine: PgTrickle, conn: Connection
) -> None:
    conn.execute("CREATE TABLE p (k int, v int); CREATE TABLE q (k int, v int)")
    conn.execute("CREATE VIEW pq AS SELECT k AS kk, v FROM p UNION ALL SELECT k, v FROM q")
    wanted = {("public.p", ("k",)), ("public.q", ("k",))}
    for call, reason in (
        ("max(v)", "a group is looked at again when the row that decided it leaves"),
        ("array_agg(v)", "affected groups are computed again"),
    ):
        found = engine.validate_query(f"SELECT kk, {call} AS m FROM pq GROUP BY kk").advice
        assert {(advice.table, advice.columns) for advice in found} == wanted
        assert {advice.reason for advice in found} == {reason}
    assert engine.validate_query("SELECT kk, sum(v) AS s FROM pq GROUP BY kk").advice == ()


# --- formats ----------------------------------------------------------------------------------------------------------


def test_json_has_every_field_of_an_explanation(explained: Mapping[str, Explanation], say: Cli) -> None:
    document = json.loads(say("explain", "public.st_groups", "--format", "json"))
    assert list(document) == [field.name for field in fields(Explanation)]
    assert document == json.loads(say("explain", "public.st_groups", "--json"))
    found = explained["groups"]
    assert document["name"] == found.name == "public.st_groups"
    assert [operator["rule"] for operator in document["stages"][0]["operators"]] == [
        operator.rule for operator in found.stages[0].operators
    ]
    assert document["deltas"][0]["statements"][0]["sql"] == found.deltas[0].statements[0].sql


@pytest.mark.parametrize("form", ["text", "mermaid", "dot"])
def test_the_command_prints_what_the_explanation_renders_to(
    explained: Mapping[str, Explanation], say: Cli, form: str
) -> None:
    assert say("explain", "public.st_joins", "--format", form).rstrip() == render(explained["joins"], form).rstrip()


def test_sql_is_shown_if_asked_for(explained: Mapping[str, Explanation], say: Cli) -> None:
    assert say("explain", "public.st_joins", "--sql").rstrip() == to_text(explained["joins"], sql=True).rstrip()


@pytest.mark.parametrize("name", NAMES)
def test_text_shows_every_part(explained: Mapping[str, Explanation], name: str) -> None:
    found = explained[name]
    text = to_text(found, sql=True)
    parts = ["query", "columns", "sources", "stage 0: ", "tables", "gates", *(["rewrites"] if found.rewrites else [])]
    assert all(f"\n\n{part}" in text for part in parts)
    for stage in found.stages:
        assert all(f"[{operator.rule}]" in text for operator in stage.operators)
    for delta in found.deltas:
        assert f"when {' and '.join(delta.changed)} changed" in text
    assert "$1" not in to_text(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_mermaid_picture_is_whole(explained: Mapping[str, Explanation], name: str) -> None:
    found = explained[name]
    head, *lines = render(found, "mermaid").splitlines()
    assert head.startswith("flowchart")
    nodes = [match[1] for line in lines if (match := re.fullmatch(r' +(\w+)\[\(?"[^"]*"\)?\]', line))]
    boxes = [match[1] for line in lines if (match := re.fullmatch(r' +subgraph (\w+)\["[^"]*"\]', line))]
    edges = [match.groups() for line in lines if (match := re.fullmatch(r" +(\w+) -(?:-|\.-)> (\w+)", line))]
    ends = [line for line in lines if line.strip() == "end"]
    assert len(lines) == len(nodes) + len(boxes) + len(edges) + len(ends)
    assert len(boxes) == len(ends) == len(found.stages)
    _assert_whole(found, nodes, edges)


@pytest.mark.parametrize("name", NAMES)
def test_a_dot_picture_is_whole(explained: Mapping[str, Explanation], name: str) -> None:
    found = explained[name]
    lines = render(found, "dot").splitlines()
    label = r'label="(?:[^"\\]|\\.)*"'
    nodes = [m[1] for line in lines if (m := re.fullmatch(rf" +(\w+) \[(?:shape=cylinder, )?{label}\];", line))]
    edges = [m.groups() for line in lines if (m := re.fullmatch(r" +(\w+) -> (\w+)(?: \[style=dashed\])?;", line))]
    boxes = [line for line in lines if re.fullmatch(r" +subgraph cluster_stage\d+ {", line)]
    labels = [line for line in lines if re.fullmatch(rf" +{label};", line)]
    assert lines[0] == "digraph plan {"
    assert sum(line.strip() == "}" for line in lines) == len(boxes) + 1
    assert len(boxes) == len(labels) == len(found.stages)
    assert len(lines) == 4 + len(nodes) + len(edges) + 3 * len(boxes)
    _assert_whole(found, nodes, edges)


def _assert_whole(found: Explanation, nodes: list[str], edges: list[Any]) -> None:
    """Every node once, every edge between nodes, everything leads to the result, every source is read."""
    operators = [operator.id for stage in found.stages for operator in stage.operators]
    assert len(nodes) == len(set(nodes)) == len(operators) + len(found.sources) + 1
    assert {end for edge in edges for end in edge} <= set(nodes)
    assert len(edges) == len(set(edges))
    reaching = {"result"}
    while more := {start for start, end in edges if end in reaching} - reaching:
        reaching |= more
    assert reaching == set(nodes)


# --- queries alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_alone_gets_the_same_explanation(
    shop: PgTrickle, explained: Mapping[str, Explanation], name: str
) -> None:
    alone = shop.validate_query(QUERIES[name])
    stored = explained[name]
    assert (alone.name, alone.cost, alone.gates) == (None, None, ())
    assert alone.rewrites == stored.rewrites
    assert alone.advice == stored.advice
    assert [stage.operators for stage in alone.stages] == [stage.operators for stage in stored.stages]
    assert [stage.tree for stage in alone.stages] == [stage.tree for stage in stored.stages]
    assert [delta.changed for delta in alone.deltas] == [delta.changed for delta in stored.deltas]
    for delta in alone.deltas:
        for statement in delta.statements:
            parse_sql(statement.sql)


def test_validating_leaves_no_trace(shop: PgTrickle, say: Cli) -> None:
    count = "SELECT count(*), sum(hashtext(relname)) FROM pg_class"
    before = shop.conn.execute(count).fetchone()
    for form in ("text", "json", "mermaid", "dot"):
        assert say("validate", "-q", QUERIES["groups"], "--format", form)
    assert shop.conn.execute(count).fetchone() == before


@pytest.mark.parametrize("form", ["text", "mermaid", "dot"])
def test_a_query_that_runs_in_full_has_its_reason_its_statement_and_a_picture(shop: PgTrickle, form: str) -> None:
    found = shop.validate_query("SELECT id, random() AS r FROM orders")
    assert (found.requested_mode, found.mode) == ("AUTO", "FULL")
    assert "random" in (found.full_reason or "")
    ((computed, applied),) = [delta.statements for delta in found.deltas]
    assert len(parse_sql(computed.sql)) == len(parse_sql(applied.sql)) == 1
    assert "public.orders" in render(found, form)
    assert "whatever changed" in to_text(found, sql=True)


def test_an_unknown_format_is_refused(shop: PgTrickle) -> None:
    from pgtrickle.errors import InvalidOption

    with pytest.raises(InvalidOption):
        render(shop.validate_query("SELECT 1 AS one"), "svg")


@pytest.mark.slow
@pytest.mark.parametrize("topic", fixtures.TOPICS)
def test_whatever_the_fixtures_ask_is_explained_whole(engine: PgTrickle, topic: str) -> None:
    for statement in fixtures.schema():
        engine.conn.execute(SQL(statement))  # pyright: ignore[reportArgumentType]
    for query in fixtures.queries_of(topic):
        found = engine.validate_query(query)
        assert all(o.rule and o.says and o.why for stage in found.stages for o in stage.operators), query
        assert all(len(parse_sql(one.sql)) == 1 for delta in found.deltas for one in delta.statements), query
        assert all(render(found, form) for form in ("text", "mermaid", "dot"))
