"""Collations under which a query compares what has another collation, from the text of a stored rule.

Under a non-deterministic collation 'a' may be 'A', under the column's own they are two values: what one comparison
takes for equal is then grouped, hashed and found again as different, by us and by PostgreSQL's own plans. Or the
column's own takes them for one value and the comparison does not: what it tells apart is then put together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pgtrickle.analyze.rule_tree import Node, Value, atom, entries, nodes, tree_of

_COMPARISONS = frozenset({"OPEXPR", "DISTINCTEXPR", "NULLIFEXPR", "SCALARARRAYOPEXPR"})
_BOOL = "16"
_OWN = re.compile(r"(?!inputcollid)\w*collid|collOid|collation")


def foreign_collations(text: str) -> frozenset[int]:
    """The collations under which texts of another collation are compared, or put together by UNION and its like; and
    those other collations, where two texts are compared.

    Args:
        text: a ``pg_rewrite.ev_action``.
    """
    if ":inputcollid" not in text and ":colCollations" not in text:
        return frozenset()
    tree = tree_of(text)
    found: set[str] = set()
    for node in nodes(tree):
        if node[""] == ["QUERY"] and "setOperations" in node:
            found |= _of_set_operation(node)
        elif node[""] and node[""][0] in _COMPARISONS and node.get("opresulttype", [_BOOL]) == [_BOOL]:
            under = atom(node, "inputcollid")
            own = [_own(arg) for arg in entries(node, "args")]
            others = set(own) - {"0", under}
            found |= {under} if others else set()
            found |= others if "0" not in own else set()
    return frozenset(int(oid) for oid in found) - {0}


def _of_set_operation(query: Node) -> set[str]:
    """The collations of the columns of which a branch has another one."""
    found: set[str] = set()
    operations = [n for n in nodes(query["setOperations"], into_queries=False) if n[""] == ["SETOPERATIONSTMT"]]
    for operation in operations:
        under = [oid for oid in entries(operation, "colCollations") if isinstance(oid, str) and oid != "o"]
        for entry in entries(query, "rtable"):
            for branch in entry.get("subquery", ()) if isinstance(entry, Mapping) else ():
                shown = [_own(column) for column in entries(branch, "targetList") if not _is_junk(column)]
                pairs = zip(under, shown, strict=False)
                found.update(oid for pair in pairs if pair[1] not in ("0", pair[0]) for oid in pair)
    return found


def _own(value: Value) -> str:
    """The collation of an expression; a constant takes on that of what it is compared with."""
    if not isinstance(value, Mapping) or value[""] == ["CONST"]:
        return "0"
    if value[""] == ["TARGETENTRY"]:
        return _own(value["expr"][0])
    if value[""] == ["ARRAYEXPR"]:
        return next((oid for oid in map(_own, entries(value, "elements")) if oid != "0"), "0")
    return next((atom(value, name) for name in value if _OWN.fullmatch(name)), "0")


def _is_junk(column: Value) -> bool:
    return not isinstance(column, Mapping) or atom(column, "resjunk") == "true"
