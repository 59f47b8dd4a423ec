"""Names of columns that a stored rule has, and the text that PostgreSQL prints of it has not.

Rows without a type carry names, ``to_json`` shows them. It prints others where two columns of a subquery or a join have
the same one (``x, x_1``), and none for the row of ``JOIN ... USING (...) AS x``. Nor does it print those that an alias
gives the columns of ``JSON_TABLE`` (17 and 18).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgtrickle import db
from pgtrickle.analyze.probe import probe, rolled_back
from pgtrickle.analyze.relations import View
from pgtrickle.analyze.rule_tree import Node, Value, atom, entries, kind_of, nodes, parts_of, tree_of
from pgtrickle.errors import PgTrickleError
from pgtrickle.parse.outputs import name_columns_of_json, share_names, show_rows_of_using
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.select import parse_query

_RECORD = "2249"
#: As PostgreSQL writes ROW(...), before version 16 and since.
_ROWS = ("ROW", "ROWEXPR")
_JSON_TABLE = "{TABLEFUNC :functype 1 "
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
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
    given = _with_columns_of_json(view)
    names = row_names(view.rule.text)
    if not names or _names_in(conn, given) == names:
        return given
    stmt = parse_query(given)
    share_names(stmt)
    show_rows_of_using(stmt)
    try:
        text = print_node(stmt)
        return text if _names_in(conn, text) == names else None
    except PgTrickleError as error:
        if db.passes(error):
            raise
        return None


def _with_columns_of_json(view: View) -> str:
    """The text of a view with the names that aliases give the columns of ``JSON_TABLE``."""
    if _JSON_TABLE not in view.rule.text:
        return view.text
    renamed: dict[str, tuple[str, ...]] = {}
    for item in nodes(tree_of(view.rule.text)):
        for function, alias, shown in zip(
            *(item.get(name, []) for name in ("tablefunc", "alias", "eref")), strict=False
        ):
            is_json = isinstance(function, dict) and atom(function, "functype") == "1"
            if is_json and isinstance(alias, dict) and isinstance(shown, dict) and entries(alias, "colnames"):
                renamed[_unescaped(atom(alias, "aliasname"))] = tuple(_unescaped(n[1:-1]) for n in _listed(shown))
    stmt = parse_query(view.text)
    return print_node(stmt) if name_columns_of_json(stmt, renamed) else view.text


def _unescaped(word: str) -> str:
    return _ESCAPED.sub(r"\1", word)


def _names_in(conn: db.Connection, text: str) -> tuple[tuple[str, ...], ...]:
    with rolled_back(conn):
        return row_names(probe(conn, text, "pgtrickle_names", catalog_path=False).view.rule.text)
