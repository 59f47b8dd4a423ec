"""A test case: a schema, stream tables and a history, as text that a person can read and a runner can replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.property.smaller import smaller_queries

MARK = "--- "


@dataclass(frozen=True, slots=True)
class StreamTable:
    """A stream table of a case.

    Attributes:
        name: qualified name.
        query: the defining query.
        mode: the mode to create it with; DIFFERENTIAL must not be refused; POSSIBLE is DIFFERENTIAL, or AUTO if that
            is refused.
        classes: how each column is to be compared.
    """

    name: str
    query: str
    mode: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Transactions, and the stream tables that are refreshed afterwards."""

    changes: tuple[tuple[str, ...], ...]
    refreshed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that is needed to run it again."""

    schema: tuple[str, ...]
    stream_tables: tuple[StreamTable, ...]
    windows: tuple[Window, ...]

    def only(self, names: set[str]) -> Case:
        """The same case with these stream tables only."""
        kept = tuple(each for each in self.stream_tables if each.name in names)
        windows = tuple(
            replace(window, refreshed=tuple(name for name in window.refreshed if name in names))
            for window in self.windows
        )
        return replace(self, stream_tables=kept, windows=windows)

    def _smaller_queries(self) -> Iterator[Case]:
        for position, each in enumerate(self.stream_tables):
            for query, classes in smaller_queries(each.query, each.classes):
                if len(query) < len(each.query):
                    changed = replace(each, query=query, classes=classes)
                    kept = (*self.stream_tables[:position], changed, *self.stream_tables[position + 1 :])
                    yield replace(self, stream_tables=kept)

    def reductions(self) -> Iterator[Case]:
        """Simpler cases, the boldest first: without stream tables, windows, transactions, statements."""
        for each in self.stream_tables:
            yield self.only({other.name for other in self.stream_tables if other != each})
        for position in range(len(self.windows)):
            yield replace(self, windows=self.windows[:position] + self.windows[position + 1 :])
        yield from self._smaller_queries()
        for position in range(len(self.windows) - 1):
            first, second = self.windows[position], self.windows[position + 1]
            joined = Window(first.changes + second.changes, second.refreshed)
            yield replace(self, windows=(*self.windows[:position], joined, *self.windows[position + 2 :]))
        for position, window in enumerate(self.windows):
            for smaller in _smaller_windows(window):
                yield replace(self, windows=(*self.windows[:position], smaller, *self.windows[position + 1 :]))
        for position in range(len(self.schema)):
            yield replace(self, schema=self.schema[:position] + self.schema[position + 1 :])
        for position, statement in enumerate(self.schema):
            for smaller_statement in _fewer_rows(statement):
                yield replace(self, schema=(*self.schema[:position], smaller_statement, *self.schema[position + 1 :]))


def _smaller_windows(window: Window) -> Iterator[Window]:
    for position, change in enumerate(window.changes):
        before, after = window.changes[:position], window.changes[position + 1 :]
        yield replace(window, changes=before + after)
        if len(change) > 1:
            for statement in range(len(change)):
                yield replace(window, changes=(*before, change[:statement] + change[statement + 1 :], *after))
            inner = tuple((part,) for part in change if part not in ("BEGIN", "COMMIT"))
            if not any(part.startswith(("ROLLBACK", "SAVEPOINT")) for part in change):
                yield replace(window, changes=(*before, *inner, *after))
        for statement in range(len(change)):
            for smaller in _fewer_rows(change[statement]):
                fewer = (*change[:statement], smaller, *change[statement + 1 :])
                yield replace(window, changes=(*before, fewer, *after))


def _fewer_rows(statement: str) -> Iterator[str]:
    """An INSERT with one row less; rows are separated by a pair of parentheses."""
    if not statement.startswith("INSERT INTO") or " VALUES (" not in statement:
        return
    head, _, rest = statement.partition(" VALUES (")
    body, separator, tail = rest.rpartition(") ON CONFLICT")
    rows = body.split("), (")
    if len(rows) > 1:
        for position in range(len(rows)):
            yield f"{head} VALUES ({'), ('.join(rows[:position] + rows[position + 1 :])}{separator}{tail}"


def write(case: Case, title: str) -> str:
    """The case as text: sections that start with three dashes, one statement per line."""
    lines = [f"-- {line}" for line in title.splitlines()]
    lines += [f"{MARK}schema", *(f"{statement};" for statement in case.schema)]
    for each in case.stream_tables:
        lines += [f"{MARK}stream table {each.name} {each.mode} {','.join(each.classes)}", f"{each.query};"]
    for window in case.windows:
        lines.append(f"{MARK}changes")
        lines += [f"{'; '.join(change)};" for change in window.changes]
        lines.append(f"{MARK}refresh {' '.join(window.refreshed)}")
    return "\n".join(lines) + "\n"


def read(text: str) -> Case:
    """The case that `write` wrote."""
    schema: list[str] = []
    stream_tables: list[StreamTable] = []
    windows: list[Window] = []
    changes: list[tuple[str, ...]] = []
    section: list[str] = []
    for line in text.splitlines():
        if line.startswith(MARK):
            section = line.removeprefix(MARK).split()
            if section[0] == "refresh":
                windows.append(Window(tuple(changes), tuple(section[1:])))
                changes = []
        elif not line.strip() or line.startswith("-- "):
            continue
        elif section[0] == "schema":
            schema.append(line.removesuffix(";"))
        elif section[0] == "stream":
            classes = tuple(section[4].split(",")) if len(section) > 4 else ()
            stream_tables.append(StreamTable(section[2], line.removesuffix(";"), section[3], classes))
        else:
            changes.append(tuple(line.removesuffix(";").split("; ")))
    return Case(tuple(schema), tuple(stream_tables), tuple(windows))
