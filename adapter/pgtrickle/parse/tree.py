"""Walking and rewriting pglast trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pglast import ast


def walk(node: object, *, into_subqueries: bool = False) -> Iterator[ast.Node]:
    """All nodes below and including this one, top down.

    A nested SELECT is yielded but not entered unless ``into_subqueries`` is set.
    """
    waiting: list[object] = [node]
    while waiting:
        found = waiting.pop()
        if isinstance(found, tuple):
            waiting.extend(reversed(found))
        elif isinstance(found, ast.Node):
            yield found
            if into_subqueries or not isinstance(found, ast.SelectStmt):
                waiting.extend(reversed([getattr(found, attribute) for attribute in found]))


def has_nested_query(stmt: ast.SelectStmt) -> bool:
    """Whether a subquery stands anywhere in an expression or in FROM, or a clause that is spelled out as one."""
    kinds = (ast.SubLink, ast.RangeSubselect, ast.CTESearchClause, ast.CTECycleClause)
    return any(isinstance(node, kinds) for node in walk(stmt, into_subqueries=True))


def transform(node: object, replace: Callable[[ast.Node], ast.Node | None]) -> object:
    """Rewrite a tree in place, top down; a node for which ``replace`` returns another one is not entered."""
    if isinstance(node, tuple):
        return tuple(transform(item, replace) for item in node)
    if not isinstance(node, ast.Node):
        return node
    replaced = replace(node)
    if replaced is not None:
        return replaced
    for attribute in node:
        value = getattr(node, attribute)
        if isinstance(value, ast.Node | tuple):
            changed = transform(value, replace)
            if changed is not value:
                setattr(node, attribute, changed)
    return node


def function_name(call: ast.FuncCall) -> tuple[str, str]:
    """Schema and name of a called function; what the server printed unqualified is in pg_catalog."""
    names = [part.sval for part in call.funcname]
    return (names[0], names[1]) if len(names) > 1 else ("pg_catalog", names[0])


def returns_sets(clauses: object, returns_set: Callable[[ast.FuncCall], bool]) -> bool:
    """Whether a function that returns a set stands in some clauses: it decides how many rows there are."""
    return any(isinstance(node, ast.FuncCall) and returns_set(node) for node in walk(clauses))
