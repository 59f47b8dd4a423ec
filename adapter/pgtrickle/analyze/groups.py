"""Grouping keys of a stored rule that are written twice."""

from __future__ import annotations

import re
from itertools import pairwise

Tree = list["str | Tree"]
"""A node of a rule, or a list in it: its brackets, texts and inner nodes."""

_FUNCTION = re.compile(r":(?:funcid|opfuncid) (\d+)")
_GROUPED = re.compile(r" :rtekind 9 :groupexprs ")
_VAR = re.compile(r"VAR :varno (\d+) :varattno (\d+)(.*)", re.DOTALL)
_LEVEL = re.compile(r" :varlevelsup (\d+)")
_WRITTEN = re.compile(r"( :varnosyn \d+ :varattnosyn )\d+")


def text_of(tree: Tree) -> str:
    """The text of a node."""
    # Not recursive: a rule may be nested more deeply than Python's stack allows.
    parts: list[str] = []
    waiting: list[str | Tree] = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            parts.append(part)
        else:
            waiting.extend(reversed(part))
    return "".join(parts)


def clause_of(node: Tree, name: str) -> Tree | None:
    """The list behind a field of a node; None if it is empty."""
    for before, found in pairwise(node):
        if isinstance(before, str) and before.endswith(name) and isinstance(found, list):
            return found
    return None


def repeatable(expr: Tree, volatile: frozenset[int]) -> str | None:
    """The text of an expression; None if the same text need not mean the same value."""
    text = text_of(expr)
    return None if any(int(oid) in volatile for oid in _FUNCTION.findall(text)) else text


def join_repeated_keys(query: Tree, volatile: frozenset[int]) -> None:
    """One grouping key for all with the same expression, in place: GROUP BY e, e is read as GROUP BY e.

    From PostgreSQL 18 on the keys of a query are a relation of their own, to which the rest of it refers by number.
    """
    if len(query) < 2 or not isinstance(query[1], str) or not query[1].startswith("QUERY "):
        return
    if clause_of(query, ":groupingSets ") is not None:
        return
    entries = [entry for entry in clause_of(query, ":rtable ") or () if isinstance(entry, list)]
    for number, entry in enumerate(entries, 1):
        exprs = next((e for b, e in pairwise(entry) if isinstance(b, str) and _GROUPED.search(b)), None)
        if isinstance(exprs, list):
            renamed = _without_repeats(exprs, volatile)
            if any(old != new for old, new in renamed.items()):
                _refer(query, number, renamed)


def _without_repeats(exprs: Tree, volatile: frozenset[int]) -> dict[int, int]:
    """Old number of each key -> new number; the repeated ones are taken out of the list."""
    known: dict[str, int] = {}
    renamed: dict[int, int] = {}
    kept: Tree = []
    for place, expr in enumerate((part for part in exprs[1:-1] if isinstance(part, list)), 1):
        text = repeatable(expr, volatile) or f"{place} alone"
        if text not in known:
            known[text] = len(known) + 1
            kept += [" ", expr] if kept else [expr]
        renamed[place] = known[text]
    exprs[1:-1] = kept
    return renamed


def _refer(query: Tree, relation: int, renamed: dict[int, int]) -> None:
    """Give the references to columns of one relation of a query their new numbers, also in queries inside it."""
    waiting: list[tuple[Tree, int]] = [(query, -1)]
    while waiting:
        node, depth = waiting.pop()
        head = node[1] if len(node) > 1 else None
        if isinstance(head, str):
            depth += head.startswith("QUERY ")
            found = _VAR.fullmatch(head)
            if found is not None and int(found[1]) == relation and _level(node) == depth:
                number = renamed[int(found[2])]
                node[1] = f"VAR :varno {relation} :varattno {number}{found[3]}"
                node[:] = [_WRITTEN.sub(rf"\g<1>{number}", p) if isinstance(p, str) else p for p in node]
        waiting.extend((part, depth) for part in node if isinstance(part, list))


def _level(var: Tree) -> int:
    found = next(filter(None, (_LEVEL.search(part) for part in var if isinstance(part, str))), None)
    return int(found[1]) if found is not None else 0
