"""Faults in the SQL that string literals hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.mutation.nodes import Change

#: (pattern, replacements); the pattern's last group, or the whole match, is what is replaced.
FAULTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), replacements)
    for pattern, replacements in (
        (r"(?<=\s)=(?=[\s{\"])|(?<=\.)=(?=\))", ("<>",)),
        (r"(?<=\s)<>(?=[\s\"])", ("=",)),
        (r"(?<=\s)>(?=\s)", (">=", "<")),
        (r"(?<=\s)<(?=\s)", ("<=", ">")),
        (r"(?<=\s)>=(?=\s)", (">",)),
        (r"(?<=\s)<=(?=\s)", ("<",)),
        (r"^\"[<>]\"$", ('"="',)),
        (r"\bIS NOT DISTINCT FROM\b", ("=", "IS DISTINCT FROM")),
        (r"\bIS DISTINCT FROM\b", ("<>", "IS NOT DISTINCT FROM")),
        (r"\bIS NOT NULL\b", ("IS NULL",)),
        (r"\bIS NULL\b", ("IS NOT NULL",)),
        (r"\bIS TRUE\b", ("IS FALSE", "IS NOT FALSE")),
        (r"\bIS FALSE\b", ("IS TRUE", "IS NOT TRUE")),
        (r"\bUNION ALL\b", ("UNION", "EXCEPT ALL")),
        (r"\bNOT (?=EXISTS|IN\b|\{|\(|__|n\.)", ("",)),
        (r"(?<!NOT )\bEXISTS(?= \()|^\"EXISTS\"$", ("NOT EXISTS",)),
        (r" AND (?!FOLLOWING)", (" OR ",)),
        (r" OR ", (" AND ",)),
        (r"(?<=, )0(?=\))", ("NULL", "1")),
        (r"(?<=, )1(?=\))", ("0",)),
        (r"\bsum(?=\()", ("count", "max")),
        (r"\bcount(?=\()", ("sum", "max")),
        (r"\bbool_or(?=\()", ("bool_and",)),
        (r"\bLEFT JOIN\b", ("JOIN", "FULL JOIN")),
        (r"\bFULL JOIN\b", ("LEFT JOIN",)),
        (r"\bDISTINCT (?!FROM|ON)", ("",)),
        (r"(?<=\") - (?=\")|(?<=\s)-(?=\s)", (" + ",)),
        (r"(?<=\") \+ (?=\")|(?<=\s)\+(?=\s)", (" - ",)),
        (r"(?<=\") \* (?=\")", (" + ",)),
        (r"(?<=\") / (?=\")", (" * ",)),
        (r"(?<![\w.])-(?=[\d{n])", ("",)),
        (
            r"(?<=[(\s:])(?<!, )(?<!SELECT )(?<!RETURNING )[1-9](?=[\s\":)])",
            ("0",),
        ),  # what EXISTS reads does not matter
        (r"(?<=[>=<]\s)0(?=[\s\":)])", ("1",)),
        (r"\bTRUE\b", ("FALSE",)),
        (r"\bFALSE\b", ("TRUE",)),
        (r"\bNaN\b", ("Infinity",)),
        (r"(?<!-)\bInfinity\b", ("NaN",)),
        (r"-Infinity\b", ("Infinity",)),
        (r"\bround\b", ("trunc",)),
        (r"\bASC\b", ("DESC",)),
        (r"\bNULLS FIRST\b", ("NULLS LAST",)),
        (r"\bUNIQUE INDEX\b", ("INDEX",)),
        (r" WHERE (?=\{\}\"|number)", (" WHERE NOT ",)),
        (r"\bPARTITION BY \{\}", ("",)),
        (r" GROUP BY \{\}", ("",)),
    )
)
NOT_SQL = ("Error", "Unsupported", "Support", "Notice")


def changes_of_text(statement: ast.stmt, text: str) -> Iterator[Change]:
    """The faults in the strings of a statement's own expressions."""
    for expression in _own_expressions(statement):
        for literal in _literals(expression):
            source = ast.get_source_segment(text, literal)
            if source is None:
                continue
            for pattern, replacements in FAULTS:
                for match in pattern.finditer(source):
                    for replacement in replacements:
                        yield Change(
                            literal, f"SQL: {match[0].strip() or match[0]} -> {replacement.strip() or 'nothing'}",
                            replacement, skip=match.start(), length=len(match[0]),
                        )  # fmt: skip


def _own_expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    for _, value in ast.iter_fields(statement):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.expr):
                yield each


def _literals(node: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """String literals, without those that are told to a person."""
    match node:
        case ast.Call(func=ast.Name(id=name)) if name.endswith(NOT_SQL):
            return
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield node
            return
    for child in ast.iter_child_nodes(node):
        yield from _literals(child)
