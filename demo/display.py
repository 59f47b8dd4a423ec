"""What the demo prints: plain lines that also read well in a log file; colour only on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

WIDTH = 96

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STARTED = time.monotonic()


def _colour_wanted() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


_COLOUR = _colour_wanted()


def paint(text: str, style: str) -> str:
    """The text in a style (``bold``, ``dim``, ``red``, ``green``, ``yellow``, ``cyan``), if colours are wanted."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if _COLOUR else text


def say(text: str = "") -> None:
    """Print one line now, so that progress is seen in pipes and logs too."""
    print(text, flush=True)


def note(text: str) -> None:
    """An indented, quiet line of explanation."""
    say(paint(f"   {text}", "dim"))


def good(text: str) -> None:
    """Something that was checked and holds."""
    say(f"   {paint('ok', 'green')}  {text}")


def bad(text: str) -> None:
    """Something that was checked and does not hold."""
    say(f"   {paint('FAILED', 'red')}  {text}")


def head(title: str) -> None:
    """The headline of a section."""
    say()
    say(paint(f"== {title} ", "bold") + paint("=" * max(3, WIDTH - len(title) - 4), "dim"))


@contextmanager
def step(title: str) -> Iterator[None]:
    """Head a section, and say at its end how long it took."""
    head(title)
    started = time.monotonic()
    yield
    note(f"{time.monotonic() - started:.1f} s (since the start: {elapsed():.0f} s)")


def elapsed() -> float:
    """Seconds since the demo started."""
    return time.monotonic() - _STARTED


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[int] = (0,)) -> None:
    """Print rows in aligned columns, those at the positions ``left`` to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(titles), *cells]) for i in range(len(titles))]

    def line(row: Sequence[str]) -> str:
        parts = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "   " + "  ".join(parts).rstrip()

    say(paint(line(list(titles)), "bold"))
    for row in cells:
        say(line(row))


def seconds(value: float) -> str:
    """A duration for people: ``12 ms``, ``3.4 s``."""
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def count(value: int) -> str:
    """A number with thousands separators."""
    return f"{value:,}"
