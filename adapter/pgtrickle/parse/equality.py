"""What the server shows of an equality: how it converts the sides."""

from __future__ import annotations

from dataclasses import dataclass

from pglast import ast

from pgtrickle.parse.printing import print_node
from pgtrickle.parse.select import parse_query


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an equality: its text, and whether it is a conversion of a column or the column itself."""

    text: str
    converted: bool


def shown_sides(query: str) -> tuple[Side, Side] | None:
    """Both sides of the equality that is the first column of a query.

    Returns:
        None if that is no ``=``, or a side is more than a column and conversions of it.
    """
    node = next((target.val for target in parse_query(query).targetList or ()), None)
    if not isinstance(node, ast.A_Expr) or tuple(part.sval for part in node.name or ()) != ("=",):
        return None
    left, right = _side(node.lexpr), _side(node.rexpr)
    return (left, right) if left is not None and right is not None else None


def _side(node: object) -> Side | None:
    column = node
    while isinstance(column, ast.TypeCast):
        column = column.arg
    if not isinstance(node, ast.Node) or not isinstance(column, ast.ColumnRef):
        return None
    return Side(print_node(node), column is not node)
