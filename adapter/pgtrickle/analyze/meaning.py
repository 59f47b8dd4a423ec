"""What a stored rule means, as text in which only differences of meaning are left."""

from __future__ import annotations

import re

from pgtrickle.analyze.groups import Tree, clause_of, join_repeated_keys, repeatable, text_of

#: Fields that depend on how a query was written: columns are referred to by number, never by name.
_WRITING = re.compile(
    r" :(?:\w*format|rellockmode|location|stmt_location|stmt_len|element_typeid) -?\d+"
    r"| :isNatural (?:true|false)"  # the server has made USING of it
    r"| :(?:alias|eref) (?:<>|\{ALIAS(?:\\.|[^\\}])*\})"
    r"| :(?:resname|aliasname) (?:\\.|[^\\ ])+"
    # Only which privileges it takes: a column of a whole row is printed as the column.
    r"| :selectedCols \(b[\d ]*\)"
    r"| :(?:colnames|usingClause) \((?:\"(?:\\.|[^\"\\])*\" ?)*\)"
)
#: JSON_QUERY returns jsonb WITHOUT WRAPPER if nothing is said, which is printed.
_RETURNS_JSONB = re.compile(r"(\{JSONRETURNING :format \{JSONFORMAT :format_type )2( :encoding 0\} :typid 3802 )")
_UNWRAPPED = re.compile(r"( :wrapper )1(?= )")
#: A float that is no number is one value, and printed without its sign.
_NAN = re.compile(r"(\{CONST :consttype 70[01] [^}]* :constvalue [48] \[ (?:0 0 -64|0 0 0 0 0 0 -8)) (?:127|-1)[^\]]*")
_OWN_OID = re.compile(r":relid (\d+)")
_TOKEN = re.compile(r"\\.|[{}()]|[^\\{}()]+", re.DOTALL)
_ARRAY = re.compile(r"(ARRAY(?:EXPR)? :array_typeid )\d+( :array_collid )\d+( :elements )")
_ARRAY_CAST = re.compile(r"ARRAYCOERCEEXPR :arg ")
_ARRAY_TYPE = re.compile(r" :resulttype (\d+) :resulttypmod -?\d+ :resultcollid (\d+)")
_BOOLEAN = re.compile(r"BOOLEXPR :boolop (and|or) :args ")

_TARGET_REF = re.compile(r"(:ressortgroupref )(\d+)")
_CLAUSE_REF = re.compile(r"(SORTGROUPCLAUSE :tleSortGroupRef )(\d+)")
_CLAUSES = (":groupClause ", ":sortClause ", ":distinctClause ", ":partitionClause ", ":orderClause ")


def meaning_of(rule: str, relid: int, volatile: frozenset[int] = frozenset()) -> str:
    """The text of a rule without traces of its writing and of the view's own OID.

    Args:
        rule: ``pg_rewrite.ev_action``.
        relid: OID of the view.
        volatile: OIDs of functions of which two calls may have different results.
    """
    rule = _UNWRAPPED.sub(r"\g<1>0", _RETURNS_JSONB.sub(r"\g<1>0\2", _NAN.sub(r"\1", _WRITING.sub("", rule))))
    rule = _OWN_OID.sub(lambda match: ":relid 0" if int(match[1]) == relid else match[0], rule)
    return text_of(_flattened(rule, volatile))


def _flattened(rule: str, volatile: frozenset[int]) -> Tree:
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
            join_repeated_keys(closed, volatile)
            _join_repeated_targets(closed, volatile)
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


def _join_repeated_targets(query: Tree, volatile: frozenset[int]) -> None:
    """One reference for output columns with the same expression: a clause that names one may mean any; in place.

    The references are numbered anew, in the order of the columns.
    """
    if len(query) < 2 or not isinstance(query[1], str) or not query[1].startswith("QUERY "):
        return
    targets = clause_of(query, ":targetList ")
    if targets is None or clause_of(query, ":groupingSets ") is not None:
        return
    known: dict[str, int] = {}
    renamed: dict[str, int] = {}
    for target in targets:
        ref = _ref(target, _TARGET_REF)
        if isinstance(target, list) and ref not in (None, "0"):
            renamed[ref or ""] = known.setdefault(repeatable(target[2:-2], volatile) or f"{ref} alone", len(known) + 1)
    left = set(renamed.values())
    for target in targets:
        if isinstance(target, list) and isinstance(target[-2], str):
            number = known.get(repeatable(target[2:-2], volatile) or f"{_ref(target, _TARGET_REF)} alone", 0)
            shown = number if number in left else 0
            left.discard(number)
            target[-2] = _TARGET_REF.sub(rf"\g<1>{shown}", target[-2])
    for clause in (query, *(clause_of(query, ":windowClause ") or ())):
        if not isinstance(clause, list):
            continue
        for name in _CLAUSES:
            _renumber(clause_of(clause, name) or [], renamed)


def _ref(node: str | Tree, pattern: re.Pattern[str]) -> str | None:
    heads = [part for part in node if isinstance(part, str)] if isinstance(node, list) else []
    found = next((match for match in map(pattern.search, heads) if match), None)
    return found[2] if found else None


def _renumber(clause: Tree, renamed: dict[str, int]) -> None:
    """Give the items of a clause the new references, each of them once."""
    items: Tree = []
    seen: set[int] = set()
    for item in clause[1:-1]:
        number = renamed.get(_ref(item, _CLAUSE_REF) or "")
        if not isinstance(item, list) or number is None or not isinstance(item[1], str):
            items.append(item)
        elif number not in seen:
            items.append([item[0], _CLAUSE_REF.sub(rf"\g<1>{number}", item[1]), *item[2:]])
            seen.add(number)
        elif items and items[-1] == " ":
            items.pop()  # between this item and the one before
    clause[1:-1] = items
