"""What a stored rule means, as text in which only differences of meaning are left."""

from __future__ import annotations

import re

#: Fields that depend on how a query was written: columns are referred to by number, never by name.
_WRITING = re.compile(
    r" :(?:\w*format|rellockmode|location|stmt_location|stmt_len) -?\d+"
    r"| :(?:alias|eref) (?:<>|\{ALIAS(?:\\.|[^\\}])*\})"
    r"| :(?:resname|aliasname) (?:\\.|[^\\ ])+"
    r"| :colnames \((?:\"(?:\\.|[^\"\\])*\" ?)*\)"
)
_OWN_OID = re.compile(r":relid (\d+)")
_TOKEN = re.compile(r"\\.|[{}()]|[^\\{}()]+", re.DOTALL)
_BOOLEAN = re.compile(r"BOOLEXPR :boolop (and|or) :args ")

Tree = list["str | Tree"]


def meaning_of(rule: str, relid: int) -> str:
    """The text of a rule without traces of its writing and of the view's own OID.

    Args:
        rule: ``pg_rewrite.ev_action``.
        relid: OID of the view.
    """
    rule = _WRITING.sub("", rule)
    rule = _OWN_OID.sub(lambda match: ":relid 0" if int(match[1]) == relid else match[0], rule)
    return _text(_flattened(rule))


def _flattened(rule: str) -> Tree:
    """The nodes as nested lists, an AND inside an AND (or OR inside OR) merged: the grammar does that with text."""
    root: Tree = []
    stack: list[Tree] = [root]
    for token in _TOKEN.findall(rule):
        if token in ("{", "("):
            stack.append([token])
        elif token in ("}", ")"):
            closed = stack.pop()
            closed.append(token)
            arguments = _same_operator(closed, stack)
            if arguments is None:
                stack[-1].append(closed)
            else:
                stack[-1].extend(arguments)
        else:
            stack[-1].append(token)
    return root


def _same_operator(closed: Tree, stack: list[Tree]) -> Tree | None:
    """The arguments of a boolean expression that stands among those of one with the same operator."""
    if len(stack) < 3 or _operator(closed) is None or _operator(closed) != _operator(stack[-2]):
        return None
    arguments = closed[2]
    return arguments[1:-1] if isinstance(arguments, list) else None


def _operator(node: Tree) -> str | None:
    head = node[1] if len(node) > 1 else None
    found = _BOOLEAN.fullmatch(head) if isinstance(head, str) else None
    return found[1] if found else None


def _text(tree: Tree) -> str:
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
