"""Makes mutants: copies of a module in which one thing is wrong. Nothing is written to disk."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.nodes import Change, changes_of
from tests.mutation.texts import changes_of_text

ADAPTER = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mutant.

    Attributes:
        path: of the module, relative to the directory of the packages.
        function: qualified name of the function it is in; empty for what runs when the module is loaded.
        rule: what was done.
        lines: first and last line of the statement it is in (of its head, if the statement has a body).
        start: where the replaced text starts, as an offset.
        before: the text that was replaced.
        after: the text instead.
    """

    path: str
    function: str
    rule: str
    lines: tuple[int, int]
    start: int
    before: str
    after: str

    @property
    def module(self) -> str:
        """Dotted name."""
        name = self.path.removesuffix(".py").replace("/", ".")
        return name.removesuffix(".__init__")

    def source(self, original: str) -> str:
        """The module's text with the fault in it."""
        return original[: self.start] + self.after + original[self.start + len(self.before) :]

    def diff(self, original: str) -> tuple[str, str]:
        """The changed lines before and after, each joined to one line: they name the mutant, whatever its line is."""
        first = original.rfind("\n", 0, self.start) + 1
        last = original.find("\n", self.start + len(self.before))
        mutated = self.source(original)
        end = last + len(self.after) - len(self.before)
        return _one_line(original[first:last]), _one_line(mutated[first:end])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def mutants_of(path: str, *, root: Path = ADAPTER) -> list[Mutant]:
    """All mutants of a module, in the order of its text, without those that are no Python or change nothing.

    Args:
        path: relative to ``root``.
        root: the directory of the packages.
    """
    text = (root / path).read_text(encoding="utf-8")
    tree = ast.parse(text)
    meaning = ast.dump(tree)
    offsets = _line_offsets(text)
    found: dict[tuple[int, str, str], Mutant] = {}
    for function, lines, change in _changes(tree, text):
        node = change.node
        start = _offset(offsets, node.lineno, node.col_offset) + change.skip
        whole = text[start : _offset(offsets, node.end_lineno or node.lineno, node.end_col_offset or 0)]
        before = whole if change.length is None else whole[: change.length]
        mutant = Mutant(path, function, change.rule, lines, start, before, change.after)
        key = (start, before, change.after)
        if key not in found and _is_another_program(mutant.source(text), meaning):
            found[key] = mutant
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.rule, mutant.after))


def _is_another_program(source: str, meaning: str) -> bool:
    try:
        return ast.dump(ast.parse(source)) != meaning
    except SyntaxError:
        return False


def _changes(tree: ast.Module, text: str) -> Iterator[tuple[str, tuple[int, int], Change]]:
    optional = _functions_that_may_return_none(tree)
    for function, statement in _statements(tree.body, ""):
        lines = (statement.lineno, _end_of_head(statement))
        for change in (*changes_of(statement), *changes_of_text(statement, text)):
            yield function, lines, change
        if isinstance(statement, ast.Return) and statement.value is not None and function in optional:
            yield function, lines, Change(statement.value, "None returned", "None")


def _functions_that_may_return_none(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None and "None" in ast.unparse(node.returns):
            found.add(node.name)
    return found


def _statements(body: list[ast.stmt], function: str, *, in_class: bool = False) -> Iterator[tuple[str, ast.stmt]]:
    """Every statement with the function it is in; what is not worth a mutant is left out."""
    for statement in body:
        if _is_dull(statement):
            continue
        inner = function
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            inner = f"{function}.{statement.name}".removeprefix(".")
        else:
            yield "" if in_class else function, statement
        for part in bodies_of(statement):
            yield from _statements(part, inner, in_class=isinstance(statement, ast.ClassDef))


def bodies_of(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks inside a statement."""
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    if isinstance(statement, ast.Match):
        for case in statement.cases:
            yield case.body
    if isinstance(statement, ast.Try):
        for handler in statement.handlers:
            yield handler.body


def _is_dull(statement: ast.stmt) -> bool:
    """Imports, documentation, errors and declarations: nothing there decides about rows."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Raise() | ast.Assert() | ast.Pass() | ast.Global():
            return True
        case ast.AnnAssign(value=None) | ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.Assign(value=ast.Subscript(value=ast.Name(id="Callable"))):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.If(body=[ast.Raise()], orelse=[]):
            return True  # a guard against ourselves: without it nothing else happens
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef():
            return any(isinstance(base, ast.Name) and base.id == "Enum" for base in statement.bases)
    return False


def _end_of_head(statement: ast.stmt) -> int:
    inner = [each.lineno for part in bodies_of(statement) for each in part]
    if isinstance(statement, ast.Match):
        inner = [statement.subject.lineno + 1]
    end = statement.end_lineno or statement.lineno
    return max(statement.lineno, min(inner) - 1) if inner else end


def _line_offsets(text: str) -> list[int]:
    offsets = [0]
    for line in text.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    return offsets


def _offset(offsets: list[int], line: int, column: int) -> int:
    """Columns are counted in bytes by the parser; the modules are ASCII where it matters."""
    return offsets[line - 1] + column
