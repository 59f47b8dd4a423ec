"""SQL with line breaks and indentation, for people. Only blanks and needless quotes change, so the meaning cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pglast.parser import scan

#: Clauses start a line of the query that they belong to.
_CLAUSES = frozenset(
    (
        *("WITH", "SELECT", "FROM", "WHERE", "GROUP_P", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "VALUES"),
        *("UNION", "INTERSECT", "EXCEPT", "INSERT", "UPDATE", "DELETE_P", "SET", "USING", "RETURNING"),
    )
)
_QUERIES = frozenset({"SELECT", "VALUES", "WITH", "INSERT", "UPDATE", "DELETE_P"})
_BREAKS = frozenset({"AND", "OR", "WHEN", "ELSE"})
_JOINS = frozenset({"JOIN", "LEFT", "RIGHT", "FULL", "INNER_P", "CROSS", "NATURAL"})
_PLAIN = re.compile(r'"([a-z_][a-z0-9_]*)"')
_GLUE = re.compile(r'[\w"$]')
_WIDTH = 100
#: Deep inside, lines may be longer: so much text stands on each.
_LEAST = 60
_OPEN, _CLOSE, _COMMA = "ASCII_40", "ASCII_41", "ASCII_44"


@dataclass(slots=True)
class _Word:
    """A token with the blank before it."""

    flat: str
    name: str
    spaced: bool


@dataclass(slots=True)
class _Group:
    """What stands in parentheses, or the whole statement; ``flat`` is None if it is too long for a line."""

    parts: list[_Part] = field(default_factory=list)
    spaced: bool = False
    flat: str | None = None

    @property
    def is_query(self) -> bool:
        """Whether it is a query in parentheses."""
        first = next(iter(self.parts), None)
        return first.is_query if isinstance(first, _Group) else first is not None and first.name in _QUERIES


_Part: TypeAlias = _Word | _Group


def pretty(sql: str) -> str:
    """The statement, one clause per line, queries in parentheses indented; what fits on a line stays on one.

    Args:
        sql: a statement that PostgreSQL's scanner can read, without comments.
    """
    root, _ = _grouped(list(_words(sql)), 0)
    return "\n".join(_Page.of(root.parts, 0).lines)


def _words(sql: str) -> Iterator[_Word]:
    end = 0
    for token in scan(sql):
        text = sql[token.start : token.end + 1]
        alone = not _GLUE.match(sql[token.start - 1 : token.start]) and not _GLUE.match(sql[token.end + 1 :])
        yield _Word(_unquoted(text) if alone and token.name == "IDENT" else text, token.name, token.start > end)
        end = token.end + 1


def _unquoted(text: str) -> str:
    """A quoted name without its quotes where PostgreSQL reads the same name without them."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        return text
    (bare,) = scan(match[1])
    return match[1] if bare.name == "IDENT" else text


def _grouped(words: list[_Word], start: int) -> tuple[_Group, int]:
    group = _Group()
    position = start
    while position < len(words):
        word = words[position]
        position += 1
        if word.name == _CLOSE:
            break
        if word.name == _OPEN:
            inner, position = _grouped(words, position)
            inner.spaced = word.spaced
            inside = _on_a_line(inner.parts)
            inner.flat = None if inside is None else f"({inside})"
            group.parts.append(inner)
        else:
            group.parts.append(word)
    return group, position


def _on_a_line(parts: Sequence[_Part]) -> str | None:
    """The parts on one line; None if they are too long for any."""
    line = ""
    for part in parts:
        if part.flat is None or len(line) > _WIDTH:
            return None
        line = _joined(line, part.flat, part.spaced)
    return line


def _joined(line: str, text: str, spaced: bool) -> str:
    return f"{line} {text}" if line and spaced else line + text


def _clauses(parts: list[_Part]) -> Iterator[list[_Part]]:
    current: list[_Part] = []
    previous = ""
    for part in parts:
        if current and isinstance(part, _Word) and _starts(part, previous):
            yield current
            current = []
        current.append(part)
        previous = part.name if isinstance(part, _Word) else ""
    if current:
        yield current


def _starts(word: _Word, previous: str) -> bool:
    """Whether a word begins a line of its query."""
    if word.name == "FROM" and previous in ("DISTINCT", "DELETE_P"):
        return False  # IS DISTINCT FROM
    if word.name in _JOINS:
        return previous not in _JOINS and previous not in ("OUTER_P", "")
    return word.name in _CLAUSES


@dataclass(slots=True)
class _Page:
    """Lines under way: text is added to the last one as long as it fits."""

    indent: int
    lines: list[str] = field(default_factory=list)
    line: str = ""
    level: int = 0
    deeper: int = 1

    @classmethod
    def of(cls, parts: list[_Part], indent: int) -> _Page:
        """A query, clause by clause."""
        page = cls(indent)
        for clause in _clauses(parts):
            page.level = 0
            page.deeper = 0 if _is_word(clause[0], "WITH") else 1
            page.add_all(clause)
            page.end()
        return page

    def add_all(self, parts: list[_Part]) -> None:
        """Parts in order; a break only after a comma and before AND, OR, WHEN, ELSE."""
        for number, segment in enumerate(_segments(parts)):
            text = _on_a_line(segment)
            if number and self.line and not self._has_room(text):
                self.end()
                self.level = self.deeper
            if text is not None and self._has_room(text):
                self.line = _joined(self.line, text, segment[0].spaced)
            else:
                for part in segment:
                    self._add(part)

    def end(self) -> None:
        """End the line."""
        if self.line:
            self.lines.append(" " * self._margin + self.line)
            self.line = ""

    @property
    def _margin(self) -> int:
        return self.indent + 2 * self.level

    def _has_room(self, text: str | None) -> bool:
        return text is not None and len(self.line) + 1 + len(text) <= max(_WIDTH - self._margin, _LEAST)

    def _add(self, part: _Part) -> None:
        """A part of a segment that is too long for a line."""
        if isinstance(part, _Word) or (part.flat is not None and self._has_room(part.flat)):
            if part.spaced and not self._has_room(part.flat):
                self.end()
                self.level = 1
            self.line = _joined(self.line, part.flat or "", part.spaced)
            return
        self.line = _joined(self.line, "(", part.spaced)
        if part.is_query:
            margin = self._margin
            self.end()
            self.lines += _Page.of(part.parts, margin + 2).lines
        else:
            self.add_all(part.parts)
        self.line = _joined(self.line, ")", False)


def _is_word(part: _Part, name: str) -> bool:
    return isinstance(part, _Word) and part.name == name


def _segments(parts: list[_Part]) -> Iterator[list[_Part]]:
    """Parts cut where a line may end."""
    current: list[_Part] = []
    between = False
    for part in parts:
        word = part.name if isinstance(part, _Word) else ""
        if current and word in _BREAKS and not (word == "AND" and between):
            yield current
            current = []
        between = (between or word == "BETWEEN") and word != "AND"
        current.append(part)
        if word == _COMMA:
            yield current
            current = []
    if current:
        yield current
