"""What a stored rule means, as text in which only differences of meaning are left."""

from __future__ import annotations

import re

#: Fields that depend on how a query was written: columns are referred to by number, never by name.
_WRITING = re.compile(
    r" :(?:\w*format|rellockmode|location|stmt_location|stmt_len|element_typeid) -?\d+"
    r"| :isNatural (?:true|false)"  # the server has made USING of it
    r"| :(?:alias|eref) (?:<>|\{ALIAS(?:\\.|[^\\}])*\})"
    r"| :(?:resname|aliasname) (?:\\.|[^\\ ])+"
    r"| :colnames \((?:\"(?:\\.|[^\"\\])*\" ?)*\)"
)
_OWN_OID = re.compile(r":relid (\d+)")
_TOKEN = re.compile(r"\\.|[{}()]|[^\\{}()]+", re.DOTALL)
_ARRAY = re.compile(r"(ARRAY(?:EXPR)? :array_typeid )\d+( :array_collid )\d+( :elements )")
_ARRAY_CAST = re.compile(r"ARRAYCOERCEEXPR :arg ")
_ARRAY_TYPE = re.compile(r" :resulttype (\d+) :resulttypmod -?\d+ :resultcollid (\d+)")
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
            closed = _pushed_cast(closed)
            arguments = _same_operator(closed, stack)
            if arguments is None:
                stack[-1].append(closed)
            else:
                stack[-1].extend(arguments)
        else:
            stack[-1].append(token)
    return root


def _pushed_cast(node: Tree) -> Tree:
    """The cast of an array constructor as the constructor of an array of cast elements: so the grammar reads it."""
    if len(node) != 7 or not isinstance(node[1], str) or not _ARRAY_CAST.fullmatch(node[1]):
        return node
    _, _, array, _, cast, result, _ = node
    found = _ARRAY_TYPE.fullmatch(result) if isinstance(result, str) else None
    if found is None or not isinstance(array, list) or not isinstance(cast, list):
        return node
    return _with_cast_elements(array, cast, found[1], found[2]) or node


def _with_cast_elements(array: Tree, cast: Tree, type_oid: str, collation: str) -> Tree | None:
    """An array constructor with the cast applied to its elements, those of nested constructors included."""
    head = _ARRAY.fullmatch(array[1]) if len(array) == 5 and isinstance(array[1], str) else None
    if head is None or not isinstance(array[2], list):
        return None
    nested = ":multidims true" in array[3]
    elements: Tree = []
    for element in array[2]:
        done: str | Tree | None = element
        if isinstance(element, list):
            done = _with_cast_elements(element, cast, type_oid, collation) if nested else _applied(cast, element)
        if done is None:
            return None
        elements.append(done)
    return [array[0], f"{head[1]}{type_oid}{head[2]}{collation}{head[3]}", elements, *array[3:]]


def _applied(cast: Tree, element: Tree) -> Tree:
    """The cast of one element; in that of the array a CaseTestExpr stands for it."""
    if len(cast) > 1 and isinstance(cast[1], str) and cast[1].startswith("CASETESTEXPR "):
        return element
    return [_applied(part, element) if isinstance(part, list) else part for part in cast]


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
