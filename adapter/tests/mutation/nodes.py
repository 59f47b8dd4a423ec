"""Faults in Python: what may be put wrongly in the place of a node of the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
#: Names (and attributes) that stand for two sides of something.
PAIRS = (
    ("left", "right"),
    ("delta_left", "delta_right"),
    ("before", "now"),
    ("old", "new"),
    ("before", "after"),
    ("mine", "theirs"),
    ("mine", "other"),
    ("kept", "other"),
    ("plus", "minus"),
    ("stored", "neutral"),
    ("outer", "inner"),
    ("a", "b"),
    ("keys", "copies"),
    ("gone", "added"),
)
PARTNERS: dict[str, tuple[str, ...]] = {}
for _one, _two in PAIRS:
    PARTNERS[_one] = (*PARTNERS.get(_one, ()), _two)
    PARTNERS[_two] = (*PARTNERS.get(_two, ()), _one)
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
TRANSPARENT = frozenset({"sorted", "reversed"})
#: Calls that may be left out: what remains is their first argument.
WRAPPERS = frozenset(
    {"Negate", "Filter", "Project", "Weigh", "Restrict", "Distinct", "Consolidate", "_only", "_ordered", "restrict"}
    | {"push", "prune", "consolidate", "rebuilt", "_rebuild", "_renumbered", "grouping_sets", "image", "_with_hash"}
)
ENUMS = {
    "Strategy": ("ROWS", "AGGREGATE", "KEYS", "ALL"),
    "OuterKind": ("LEFT", "FULL"),
    "Equality": ("EXACT", "COARSE", "NONE"),
    "ColumnClass": ("EXACT", "REPRESENTATIVE", "APPROXIMATE", "ORDERED"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """Text to put in the place of a node.

    Attributes:
        node: what is replaced: all its text, or ``length`` characters from ``skip`` on.
        rule: what was done.
        after: the text instead.
    """

    node: ast.expr | ast.stmt | ast.pattern
    rule: str
    after: str
    skip: int = 0
    length: int | None = None


def changes_of(statement: ast.stmt) -> Iterator[Change]:
    """The faults of a statement, without those of the statements inside it."""
    yield from _of_statement(statement)
    for node in _own_nodes(statement):
        if isinstance(node, ast.expr):
            for change in _of_expression(node):
                yield replace(change, after=f"({change.after})" if _needs_parentheses(change.after) else change.after)


def _needs_parentheses(text: str) -> bool:
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.UnaryOp | ast.Lambda)


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement's own expressions; type annotations and f-strings are left out."""
    for name, value in ast.iter_fields(statement):
        if name in ("annotation", "returns", "decorator_list", "targets", "target"):
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.expr):
                yield from _walk(each)
            if isinstance(each, ast.match_case) and each.guard is not None:
                yield from _walk(each.guard)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.JoinedStr):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.comprehension):
            for part in (child.iter, *child.ifs):
                yield from _walk(part)
        elif isinstance(child, ast.keyword):
            if child.arg != "strict":  # zip's guard against ourselves
                yield from _walk(child.value)
        elif isinstance(child, ast.expr):
            yield from _walk(child)


def _of_statement(statement: ast.stmt) -> Iterator[Change]:
    match statement:
        case ast.If(test=test) | ast.While(test=test):
            yield Change(test, "condition negated", f"not ({ast.unparse(test)})")
            if isinstance(statement, ast.If):
                yield Change(test, "condition never met", "False")
        case ast.Expr(value=ast.Call()):
            yield Change(statement, "call left out", "pass")
        case ast.AugAssign():
            yield Change(statement, "assignment left out", "pass")
        case ast.Continue():
            yield Change(statement, "continue left out", "pass")
        case ast.Match():
            yield from _of_match(statement)


def _of_match(statement: ast.Match) -> Iterator[Change]:
    for case in statement.cases:
        pattern, guard = case.pattern, case.guard
        if guard is not None:
            yield Change(guard, "guard left out", "True")
            yield Change(guard, "case left out", "False")
        elif not (isinstance(pattern, ast.MatchAs) and pattern.pattern is None):
            yield Change(pattern, "case left out", f"{ast.unparse(pattern)} if False")
        if isinstance(pattern, ast.MatchOr):
            for position in range(len(pattern.patterns)):
                rest = pattern.patterns[:position] + pattern.patterns[position + 1 :]
                yield Change(pattern, "alternative left out", " | ".join(map(ast.unparse, rest)))


def _of_expression(node: ast.expr) -> Iterator[Change]:
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            for other in COMPARISONS.get(type(operator), ()):
                changed = ast.Compare(left, [other()], [right])
                yield Change(node, "comparison exchanged", ast.unparse(ast.fix_missing_locations(changed)))
        case ast.BoolOp():
            yield from _of_connective(node)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield Change(node, "not left out", ast.unparse(operand))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield Change(node, "minus left out", ast.unparse(operand))
        case ast.BinOp():
            yield from _of_arithmetic(node)
        case ast.IfExp(body=body, orelse=orelse):
            yield Change(node, "always the first", ast.unparse(body))
            yield Change(node, "always the second", ast.unparse(orelse))
        case ast.Constant():
            yield from _of_constant(node)
        case ast.Name(id=name, ctx=ast.Load()):
            for partner in PARTNERS.get(name, ()):
                yield Change(node, "sides exchanged", partner)
        case ast.Attribute():
            yield from _of_attribute(node)
        case ast.Call():
            yield from _of_call(node)
        case ast.Tuple(ctx=ast.Load()) | ast.List(ctx=ast.Load()):
            yield from _of_sequence(node)
        case ast.Dict():
            yield from _of_dict(node)
        case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper)) if lower or upper:
            yield Change(node, "slice left out", ast.unparse(node.value))
        case ast.GeneratorExp() | ast.ListComp() | ast.SetComp() | ast.DictComp():
            yield from _of_comprehension(node)


def _of_connective(node: ast.BoolOp) -> Iterator[Change]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield Change(node, "and/or exchanged", ast.unparse(ast.BoolOp(other, node.values)))
    for position in range(len(node.values)):
        rest = node.values[:position] + node.values[position + 1 :]
        left = ast.unparse(rest[0]) if len(rest) == 1 else ast.unparse(ast.BoolOp(node.op, rest))
        yield Change(node, "operand left out", left)


def _of_arithmetic(node: ast.BinOp) -> Iterator[Change]:
    left, right = ast.unparse(node.left), ast.unparse(node.right)
    match node.op:
        case ast.Add():
            yield Change(node, "operand left out", left)
            yield Change(node, "operand left out", right)
            yield Change(node, "sign flipped", f"({left}) - ({right})")
        case ast.Sub():
            yield Change(node, "operand left out", left)
            yield Change(node, "sign flipped", f"({left}) + ({right})")
        case ast.BitOr() | ast.BitAnd():
            yield Change(node, "operand left out", left)
            yield Change(node, "operand left out", right)
        case ast.Mult():
            yield Change(node, "operand left out", left)
            yield Change(node, "operand left out", right)


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield Change(node, "constant flipped", str(not value))
    elif isinstance(value, int):
        yield Change(node, "constant moved", str(value + 1))
        if value == 1:
            yield Change(node, "constant moved", "0")
        if value == 0:
            yield Change(node, "constant moved", "-1")


def _of_attribute(node: ast.Attribute) -> Iterator[Change]:
    base = ast.unparse(node.value)
    members = ENUMS.get(base, ())
    if node.attr in members:
        for member in members:
            if member != node.attr:
                yield Change(node, "constant exchanged", f"{base}.{member}")
        return
    for partner in PARTNERS.get(node.attr, ()):
        yield Change(node, "sides exchanged", f"{base}.{partner}")


def _of_call(node: ast.Call) -> Iterator[Change]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    args = [ast.unparse(arg) for arg in node.args]
    keywords = [ast.unparse(keyword) for keyword in node.keywords]
    if name in FUNCTIONS:
        yield Change(node, "function exchanged", f"{FUNCTIONS[name]}({', '.join([*args, *keywords])})")
    if name in TRANSPARENT and len(args) == 1:
        yield Change(node, "order left out", args[0])
    if name in WRAPPERS and args:
        yield Change(node, f"{name} left out", args[0])
    function = ast.unparse(node.func)
    if len(args) >= 2 and name not in ("isinstance", "zip") and _alike(node.args[0], node.args[1]):
        swapped = [args[1], args[0], *args[2:], *keywords]
        yield Change(node, "arguments exchanged", f"{function}({', '.join(swapped)})")


def _alike(one: ast.expr, two: ast.expr) -> bool:
    """Whether one could be taken for the other: two names, or two calls of one function."""
    if isinstance(one, ast.Call) and isinstance(two, ast.Call):
        return ast.dump(one.func) == ast.dump(two.func)
    return isinstance(one, ast.Name | ast.Attribute) and isinstance(two, ast.Name | ast.Attribute)


def _of_sequence(node: ast.Tuple | ast.List) -> Iterator[Change]:
    items = [ast.unparse(item) for item in node.elts]
    opening, closing = ("(", ")") if isinstance(node, ast.Tuple) else ("[", "]")
    for position in range(len(items)):
        rest = items[:position] + items[position + 1 :]
        comma = "," if len(rest) == 1 and opening == "(" else ""
        yield Change(node, "element left out", f"{opening}{', '.join(rest)}{comma}{closing}")
    if len(items) == 2 and _alike(*node.elts):
        yield Change(node, "elements exchanged", f"{opening}{items[1]}, {items[0]}{closing}")


def _of_dict(node: ast.Dict) -> Iterator[Change]:
    items = [
        f"{ast.unparse(key)}: {ast.unparse(value)}" if key is not None else f"**{ast.unparse(value)}"
        for key, value in zip(node.keys, node.values, strict=True)
    ]
    for position in range(len(items)):
        rest = ", ".join(items[:position] + items[position + 1 :])
        yield Change(node, f"entry {items[position].split(':')[0]} left out", f"{{{rest}}}")


def _of_comprehension(node: ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp) -> Iterator[Change]:
    for generator in node.generators:
        for condition in generator.ifs:
            yield Change(condition, "condition left out", "True")
            yield Change(condition, "condition negated", f"not ({ast.unparse(condition)})")
