"""The names that rows without a type carry in a stored rule: ``to_json`` shows them.

PostgreSQL prints a query that it stored with other names where two columns of a subquery or a join have the same one
(``x, x_1``), and without names the row of ``JOIN ... USING (...) AS x``.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgtrickle import db
from pgtrickle.analyze.probe import probe, rolled_back
from pgtrickle.analyze.relations import View
from pgtrickle.analyze.rule_tree import Node, Value, atom, entries, kind_of, parts_of, tree_of
from pgtrickle.errors import PgTrickleError
from pgtrickle.parse.outputs import share_names
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.select import parse_query

_RECORD = "2249"
#: As PostgreSQL writes ROW(...), before version 16 and since.
_ROWS = ("ROW", "ROWEXPR")
#: What a rule without such rows has none of.
_SIGNS = (":varattno 0 :vartype 2249 ", "{ROW ", "{ROWEXPR ")


def row_names(rule: str) -> tuple[tuple[str, ...], ...]:
    """The names of the columns of each such row.

    Args:
        rule: ``pg_rewrite.ev_action``.
    """
    return tuple(_names(tree_of(rule), ())) if any(sign in rule for sign in _SIGNS) else ()


def _names(value: Value, queries: tuple[Node, ...]) -> Iterator[tuple[str, ...]]:
    kind = kind_of(value)
    if isinstance(value, dict):
        if kind == "QUERY":
            queries = (value, *queries)
        elif kind in _ROWS and atom(value, "row_typeid") == _RECORD:
            yield _listed(value)
        elif kind == "VAR" and atom(value, "varattno") == "0" and atom(value, "vartype") == _RECORD:
            level, number = int(atom(value, "varlevelsup")), int(atom(value, "varno"))
            item = entries(queries[level], "rtable")[number - 1] if level < len(queries) else {}
            shown = item.get("eref", []) if isinstance(item, dict) else []
            yield from (_listed(alias) for alias in shown if isinstance(alias, dict))
    for part in parts_of(value):
        yield from _names(part, queries)


def _listed(node: Node) -> tuple[str, ...]:
    return tuple(str(name) for name in entries(node, "colnames"))


def text_with_names(conn: db.Connection, view: View) -> str | None:
    """The text of a view, printed under the present search_path, in which rows show the names that its rule has.

    Args:
        conn: inside a transaction that will be rolled back.
        view: what the server stored and printed.

    Returns:
        None if such a text was not found.
    """
    names = row_names(view.rule.text)
    if not names or _names_in(conn, view.text) == names:
        return view.text
    stmt = parse_query(view.text)
    share_names(stmt)
    try:
        text = print_node(stmt)
        return text if _names_in(conn, text) == names else None
    except PgTrickleError:
        return None


def _names_in(conn: db.Connection, text: str) -> tuple[tuple[str, ...], ...]:
    with rolled_back(conn):
        return row_names(probe(conn, text, "pgtrickle_names", catalog_path=False).view.rule.text)
