"""The faults that are put into the compiler."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.mutants import mutants_of
from tests.mutation.report import read_equivalents

MODULE = '''"""Documentation with x = y and 1 > 0."""
from os import path

LIMIT = 5


def rule(left, right, flag: bool = True):
    """More documentation."""
    if left is None:
        raise ValueError("left = right")
    found = [each for each in left if each > 0]
    if flag and not right:
        found.append(Negate(left))
    return SQL("SELECT a FROM t WHERE a = 1 AND b > 0 UNION ALL SELECT COALESCE(a, 0) FROM u"), LIMIT + 1
'''


@pytest.fixture
def diffs(tmp_path: Path) -> set[tuple[str, str, str]]:
    (tmp_path / "module.py").write_text(MODULE)
    mutants = mutants_of("module.py", root=tmp_path)
    for mutant in mutants:
        ast.parse(mutant.source(MODULE))
    return {(mutant.rule, mutant.before, mutant.after) for mutant in mutants}


@pytest.mark.parametrize(
    "expected",
    [
        ("constant moved", "5", "6"),
        ("comparison exchanged", "each > 0", "(each >= 0)"),
        ("condition left out", "each > 0", "True"),
        ("condition negated", "flag and not right", "not (flag and (not right))"),
        ("condition never met", "flag and not right", "False"),
        ("and/or exchanged", "flag and not right", "(flag or not right)"),
        ("operand left out", "flag and not right", "flag"),
        ("not left out", "not right", "right"),
        ("call left out", "found.append(Negate(left))", "pass"),
        ("Negate left out", "Negate(left)", "left"),
        ("sides exchanged", "left", "right"),
        ("SQL: = -> <>", "=", "<>"),
        ("SQL: AND -> OR", " AND ", " OR "),
        ("SQL: > -> >=", ">", ">="),
        ("SQL: UNION ALL -> UNION", "UNION ALL", "UNION"),
        ("SQL: 0 -> NULL", "0", "NULL"),
        ("sign flipped", "LIMIT + 1", "((LIMIT) - (1))"),
    ],
    ids=lambda expected: expected[0],
)
def test_a_fault_of_every_kind_is_made(expected: tuple[str, str, str], diffs: set[tuple[str, str, str]]) -> None:
    alike = [diff for diff in diffs if diff[0] == expected[0]]
    assert expected in diffs, alike


def test_documentation_guards_and_imports_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    lines = {mutant.lines[0] for mutant in mutants_of("module.py", root=tmp_path)}
    assert lines == {4, 11, 12, 13, 14}


def test_an_excuse_without_a_reason_is_refused(tmp_path: Path) -> None:
    listed = tmp_path / "listed.txt"
    listed.write_text("# a heading\n\n@ module.py\n- x = 1\n+ x = 2\n# nobody reads x\n")
    (found,) = read_equivalents(listed)
    assert (found.path, found.before, found.after, found.reason) == ("module.py", "x = 1", "x = 2", "nobody reads x")
    listed.write_text("@ module.py\n- x = 1\n+ x = 2\n")
    with pytest.raises(ValueError, match="incomplete"):
        read_equivalents(listed)


def test_the_listed_mutants_can_be_read() -> None:
    assert all(each.reason and each.before != each.after for each in read_equivalents())
