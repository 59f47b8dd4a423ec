"""Checks the house rules that no linter knows: sizes, names of machines, ticket numbers, where SQL may stand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 800
SIZED = {".py", ".md", ".toml", ".yml"}
UNSIZED = ("adapter/tests/fixtures/", "docs/reference/")
BINARY = {".png", ".gz", ".whl", ".ico"}


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A pattern that must not occur in files below one of the prefixes, and why."""

    pattern: re.Pattern[str]
    why: str
    below: tuple[str, ...] = ("",)
    but_not: tuple[str, ...] = ()


_TICKETS = r"(?:\b(?:issue|ticket|bug|PR|pull request)\s*#?\d+\b)|(?:\bH[1-9] (?:owns|writes)\b)|\bPLAN_[A-Z]+"
_HOMES = r"/(?:work|root|home/\w+)/(?:main|shared|\.\w+|\w+)|/tmp/brief|/Users/\w+"
_HOSTS = r"https?://(?:localhost|127\.0\.0\.1|10\.\d+|192\.168)\S*(?:simple|npm|pypi|registry)|--index-url|--registry\b"
FORBIDDEN = (
    Forbidden(re.compile(_HOMES), "names a directory of one machine"),
    Forbidden(re.compile(_HOSTS), "names a package registry"),
    Forbidden(re.compile(_TICKETS), "names a ticket: say the reason instead", ("adapter/", "macros/", "tools/")),
    Forbidden(
        re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
        "unfinished: do it or write it into the limitations",
        but_not=("tools/check_house.py",),
    ),
    Forbidden(
        re.compile(r"\bexcept(?: Exception)?:"),
        "catches everything",
        ("adapter/pgtrickle/", "adapter/dbt/"),
        ("adapter/pgtrickle/schedule/",),
    ),
    Forbidden(
        re.compile(r"\b(?:SQL|execute)\(\s*(?:f\"|f'|rf\")"),
        "SQL in an f-string",
        ("adapter/pgtrickle/", "adapter/dbt/", "tools/", "demo/"),
    ),
    Forbidden(
        re.compile(r"\bprint\("),
        "only the command line prints",
        ("adapter/pgtrickle/", "adapter/dbt/"),
        ("adapter/pgtrickle/cli/",),
    ),
    Forbidden(re.compile(r"\bunittest\.mock|\bMagicMock\b|\bmocker\b"), "no mocks", ("adapter/tests/",)),
)


def main() -> int:
    """Print every breach. Returns 1 if there is one."""
    breaches = [breach for path in files() for breach in check(path)]
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


def files() -> list[str]:
    """Every text file that belongs to the project, relative to its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [name for name in names if (ROOT / name).is_file() and Path(name).suffix not in BINARY]


def check(name: str) -> Iterator[str]:
    """The breaches of one file."""
    path = ROOT / name
    if path.is_symlink():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    if path.suffix in SIZED and len(lines) > MAX_LINES and not name.startswith(UNSIZED):
        yield f"{name}: {len(lines)} lines, at most {MAX_LINES} are allowed"
    if name == "tools/check_house.py":
        return
    for rule in FORBIDDEN:
        if name.startswith(rule.below) and not (rule.but_not and name.startswith(rule.but_not)):
            yield from (
                f"{name}:{number}: {rule.why}: {line.strip()[:100]}"
                for number, line in enumerate(lines, 1)
                if rule.pattern.search(line)
            )


if __name__ == "__main__":
    sys.exit(main())
