"""Reads the code blocks of a Markdown page and runs those that are marked, in order, like a reader would.

A block is marked by a comment on the line before it:

    <!-- run -->                 run it; it must succeed
    <!-- run: exit 2 -->         run it; the shell must end with this exit code
    <!-- run: error PGT101 -->   run it; it must fail, and the message must contain this text
    <!-- file: models/a.sql -->  write it to this file of the working directory
    <!-- output -->              what the block before it printed; ``...`` stands for anything
    <!-- not run: reason -->     for reading only
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

EXECUTABLE = ("sql", "python", "bash", "console")
COMMAND_SECONDS = 120

_FENCE = re.compile(r"^\s*```\s*(\w*)\s*$")
_COMMENT = re.compile(r"^\s*<!--\s*(run|file|output|not run)\s*(?::\s*(.*?))?\s*-->\s*$")


class SnippetFailed(AssertionError):
    """A block did not do what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        line: where its text begins, from 1.
        language: the word after the fence, lower case.
        text: what is in it.
        directive: ``run``, ``file``, ``output``, ``not run`` or None.
        argument: what follows the colon of the directive.
    """

    line: int
    language: str
    text: str
    directive: str | None = None
    argument: str = ""

    @property
    def needs_mark(self) -> bool:
        """Whether it looks executable but does not say if it is."""
        return self.language in EXECUTABLE and self.directive is None


def blocks_of(markdown: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found: list[Block] = []
    comment: re.Match[str] | None = None
    language: str | None = None
    start = 0
    body: list[str] = []
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = _FENCE.match(line)
        if language is not None:
            if fence and not fence[1]:
                directive, argument = (comment[1], comment[2] or "") if comment else (None, "")
                found.append(Block(start, language, "\n".join(body), directive, argument))
                language, comment = None, None
            else:
                body.append(line)
        elif fence:
            language, start, body = fence[1].lower(), number + 1, []
        elif line.strip():
            comment = _COMMENT.match(line)
    return found


@dataclass
class Session:
    """Runs the blocks of one page against one database, in one working directory.

    Attributes:
        dsn: connection string of the page's database.
        directory: working directory of shells, place of files.
    """

    dsn: str
    directory: Path
    _printed: str = field(default="", init=False)
    _groups: list[int] = field(default_factory=list, init=False)
    _names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__snippets__"}, init=False)

    def run(self, block: Block) -> None:
        """Do what the block's directive says.

        Raises:
            SnippetFailed: something else happened than the page says.
        """
        if block.directive == "file":
            path = self.directory / block.argument
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n")
        elif block.directive == "output":
            compare(block.text, self._printed)
        elif block.directive == "run":
            self._printed = self._execute(block)

    def close(self) -> None:
        """End what the page left running in the background."""
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def _execute(self, block: Block) -> str:
        expected = block.argument.removeprefix("error ") if block.argument.startswith("error ") else None
        try:
            printed = self._dispatch(block)
        except SnippetFailed:
            raise
        except Exception as error:
            if expected is not None and expected in f"{type(error).__name__}: {error}":
                return str(error)
            raise SnippetFailed(f"line {block.line}: {type(error).__name__}: {error}") from error
        if expected is not None:
            raise SnippetFailed(f"line {block.line}: should have failed with {expected}, printed:\n{printed}")
        return printed

    def _dispatch(self, block: Block) -> str:
        if block.language == "sql":
            return self._sql(block.text)
        if block.language == "python":
            return self._python(block)
        if block.language == "console":
            return self._console(block)
        code = int(block.argument.removeprefix("exit ")) if block.argument.startswith("exit ") else 0
        return self._shell(block.text, code)

    def _sql(self, text: str) -> str:
        lines: list[str] = []
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            while True:
                if cursor.description:
                    lines.append(" | ".join(column.name for column in cursor.description))
                    lines += [" | ".join("" if cell is None else str(cell) for cell in row) for row in cursor]
                if not cursor.nextset():
                    return "\n".join(lines)

    def _python(self, block: Block) -> str:
        printed = io.StringIO()
        code = compile("\n" * (block.line - 1) + block.text, "snippet", "exec")
        with contextlib.redirect_stdout(printed), _environment(self._environ()), _directory(self.directory):
            exec(code, self._names)
        return printed.getvalue()

    def _console(self, block: Block) -> str:
        printed = ""
        for command, expected in _commands(block.text):
            printed = self._shell(command, 0)
            if expected:
                compare(expected, printed)
        return printed

    def _shell(self, text: str, code: int) -> str:
        with (self.directory / ".printed").open("w+b") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", text],
                cwd=self.directory,
                env={**os.environ, **self._environ()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._groups.append(process.pid)
            ended = process.wait(timeout=COMMAND_SECONDS)
            output.seek(0)
            printed = output.read().decode(errors="replace")
        if ended != code:
            raise SnippetFailed(f"`{text}` ended with {ended}, not {code}:\n{printed}")
        return printed

    def _environ(self) -> dict[str, str]:
        where = conninfo_to_dict(self.dsn)
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": str(where["host"]),
            "PGPORT": str(where["port"]),
            "PGUSER": str(where["user"]),
            "PGDATABASE": str(where["dbname"]),
            "PGPASSWORD": str(where.get("password", "")),
            "HOME": str(self.directory),
            "NO_COLOR": "1",
            "DBT_USE_COLORS": "false",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "PYTHONUNBUFFERED": "1",
        }


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands (lines after ``$``) of a console block, each with what is shown under it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown.strip()


def compare(expected: str, printed: str) -> None:
    """Check what a page shows against what was printed.

    Runs of blanks count as one, ruler lines do not count, ``...`` stands for anything (alone on a line: for any lines).

    Raises:
        SnippetFailed: they differ.
    """
    pattern = re.escape("\n".join(_lines(expected))).replace(r"\.\.\.", ".*")
    if not re.fullmatch(pattern, "\n".join(_lines(printed)), flags=re.DOTALL):
        raise SnippetFailed(f"the page shows:\n{expected}\nbut it printed:\n{printed}")


def _lines(text: str) -> list[str]:
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not re.fullmatch(r"[-+=| ]+", line)]


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
