"""The pure parts of the parser: holes, orders, grouping sets, views."""

from __future__ import annotations

import pytest
from pglast import ast

from pgtrickle.errors import InvalidQuery
from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.parse.ctes import unqualified_relations
from pgtrickle.parse.determinise import Texts, determinise
from pgtrickle.parse.expand import expand_views
from pgtrickle.parse.grouping import grouping_sets
from pgtrickle.parse.names import Names
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.select import parse_query
from pgtrickle.parse.subquery import aliases_in
from pgtrickle.parse.tree import walk


def is_aggregate(node: ast.Node) -> bool:
    return isinstance(node, ast.FuncCall) and node.over is None and node.funcname[-1].sval in ("array_agg", "count")


def ordered(query: str, texts: Texts = Texts.NEVER) -> str:
    stmt = parse_query(query)
    determinise(stmt, is_aggregate, texts=texts)
    return print_node(stmt)


def test_an_expression_keeps_its_text_and_gets_its_columns_in_the_holes() -> None:
    names = Names()
    marker = print_node(names.placeholder(col("amount_3")))
    assert names.split(f"({marker} * 2)") == text("(", Ref("amount_3"), " * 2)")


def test_a_hole_filled_with_an_expression_is_parenthesised() -> None:
    filled = text(col("a"), " * 2").substitute({"a": text(col("b"), " + 1")})
    assert "".join(part if isinstance(part, str) else part.name for part in filled.parts) == "(b + 1) * 2"


def test_the_sides_of_an_equality_are_substituted_too() -> None:
    equality = Expr(text(col("a"), " = ", col("b")).parts, (col("a"), col("b")))
    assert equality.substitute({"a": col("c")}).sides == (col("c"), col("b"))


def test_fresh_names_differ_and_fit_even_for_long_names() -> None:
    names = Names()
    made = {names.fresh("ü" * 60) for _ in range(100)}
    assert len(made) == 100
    assert all(len(name.encode()) <= 63 for name in made)


@pytest.mark.parametrize("query", ["SELECT 1; SELECT 2", "UPDATE t SET a = 1", "SELECT FROM WHERE", ""])
def test_anything_but_one_select_is_refused_before_it_reaches_the_server(query: str) -> None:
    with pytest.raises(InvalidQuery):
        parse_query(query)


@pytest.mark.parametrize("kind", ["bit", "char"])
def test_a_type_that_the_grammar_reads_in_another_way_is_printed_quoted(kind: str) -> None:
    printed = print_node(parse_query(f"SELECT '1'::\"{kind}\" AS c"))
    assert f'pg_catalog."{kind}"' in printed


def test_an_order_sensitive_aggregate_is_ordered_by_its_arguments() -> None:
    assert "array_agg(t.a ORDER BY t.b, t.a)" in ordered("SELECT array_agg(t.a ORDER BY t.b) FROM t")


def test_a_total_order_is_left_alone() -> None:
    stmt = parse_query("SELECT string_agg(t.a, ',' ORDER BY t.a) FROM t")
    assert not determinise(stmt, is_aggregate)


def test_what_leaves_the_order_free_reads_an_ordered_subquery_as_it_is_ordered() -> None:
    subquery = "(SELECT t.a FROM t ORDER BY t.b DESC) q"
    assert "array_agg(q.a ORDER BY q.pgt_order_1 DESC, q.a)" in ordered(f"SELECT array_agg(q.a) FROM {subquery}")
    assert "ORDER BY q.pgt_order_1 DESC, q.a LIMIT 2" in ordered(f"SELECT q.a FROM {subquery} LIMIT 2")
    numbered = ordered(f"SELECT row_number() OVER (), count(*) OVER () FROM {subquery}")
    assert "row_number() OVER (ORDER BY q.pgt_order_1 DESC" in numbered
    assert "count(*) OVER ()" in numbered


@pytest.mark.parametrize(
    "limit", ["OFFSET 0", "LIMIT NULL", "LIMIT ALL OFFSET NULL", "LIMIT NULL::bigint OFFSET '0'::bigint"]
)
def test_a_limit_that_drops_nothing_is_dropped(limit: str) -> None:
    assert ordered(f"SELECT t.a FROM t {limit}") == "SELECT t.a FROM t"


def test_values_that_look_different_though_equal_are_ordered_by_their_text_too() -> None:
    assert "ORDER BY t.a, CAST(t.a AS pg_catalog.text)" in ordered("SELECT json_agg(t.a) FROM t", Texts.BEHIND)


def test_row_number_gets_a_total_order_and_rank_keeps_its_peers() -> None:
    printed = ordered("SELECT t.a, row_number() OVER (ORDER BY t.b), rank() OVER (ORDER BY t.b) FROM t")
    assert "row_number() OVER (ORDER BY t.b, t.a)" in printed
    assert "rank() OVER (ORDER BY t.b)" in printed


def test_functions_that_share_a_named_window_do_not_share_its_change() -> None:
    printed = ordered("SELECT t.a, row_number() OVER w, rank() OVER w FROM t WINDOW w AS (ORDER BY t.b)")
    assert "row_number() OVER (ORDER BY t.b, t.a)" in printed
    assert "rank() OVER w" in printed


def test_limit_breaks_ties_by_all_output_columns_but_with_ties_does_not() -> None:
    assert "ORDER BY t.a, t.b LIMIT 3" in ordered("SELECT t.a, t.b FROM t ORDER BY t.a LIMIT 3")
    assert "t.b" not in ordered("SELECT t.a, t.b FROM t ORDER BY t.a FETCH FIRST 3 ROWS WITH TIES").split("ORDER BY")[1]


def test_views_are_replaced_down_to_tables() -> None:
    stmt = parse_query("SELECT v.a FROM s.v")
    assert expand_views(stmt, {("s", "v"): "SELECT w.a FROM s.w w;", ("s", "w"): "SELECT t.a FROM s.t;"})
    assert print_node(stmt).count("SELECT") == 3
    assert "s.t" in print_node(stmt)


@pytest.mark.parametrize(
    ("clause", "sets"),
    [
        ("a, b", ["ab"]),
        ("ROLLUP (a, b)", ["ab", "a", ""]),
        ("CUBE (a, b)", ["ab", "a", "b", ""]),
        ("GROUPING SETS ((a, b), (c), ())", ["ab", "c", ""]),
        ("a, GROUPING SETS ((b), (c))", ["ab", "ac"]),
        ("ROLLUP ((a, b), c)", ["abc", "ab", ""]),
    ],
)
def test_grouping_sets_are_combined_as_postgresql_does(clause: str, sets: list[str]) -> None:
    stmt = parse_query(f"SELECT 1 FROM t GROUP BY {clause}")
    found = grouping_sets(stmt.groupClause or (), lambda node: text(print_node(node)))
    assert ["".join(str(expr.parts[0]) for expr in one) for one in found] == sets


def test_names_inside_a_subquery_are_known_at_every_depth() -> None:
    stmt = parse_query("SELECT 1 FROM s.a x JOIN (SELECT 1 FROM c JOIN s.b ON true) y ON true")
    assert aliases_in(stmt) == {"x", "y", "c", "b"}
    assert unqualified_relations(stmt) == {"c"}


def test_a_printed_node_does_not_remember_what_stands_around_it() -> None:
    stmt = parse_query("SELECT a, (SELECT b FROM t WHERE x IN (1, 2)) FROM u WINDOW w AS (PARTITION BY c)")
    print_node(stmt)
    assert not any(hasattr(node, "ancestors") for node in walk(stmt, into_subqueries=True))


@pytest.mark.parametrize(
    "expression",
    [
        "xmlroot(d, VERSION CAST('1.0' AS text), STANDALONE YES)",
        "xmlroot(d, VERSION v, STANDALONE NO VALUE)",
        "xmlroot(d, VERSION NO VALUE)",
        "xmlserialize(CONTENT d AS text INDENT)",
        "xmlserialize(DOCUMENT d AS varchar(10))",
    ],
)
def test_xml_expressions_are_printed_as_they_were_written(expression: str) -> None:
    assert print_node(parse_query(f"SELECT {expression} AS c FROM x")) == f"SELECT {expression} AS c FROM x"
