"""Recursion over deep trees: as deep as it has to be, and equally deep wherever the caller stands.

Python counts the levels of the caller too. A query would compile in a short script and be too deep for the same
engine inside a program with a stack of its own, so the levels are counted from where the work begins.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Levels for one piece of work. Each takes about half a kilobyte of a thread's stack, which has megabytes.
LEVELS = 2500


class _Shared:
    """What all threads share: how many are deep, and the limit from before the first."""

    lock = threading.Lock()
    users = 0
    before = 0


@contextmanager
def deep() -> Iterator[None]:
    """Allow `LEVELS` more levels of recursion than are in use now; the limit is the interpreter's again afterwards.

    Raises:
        RecursionError: from the work inside, if that is not enough.
    """
    wanted = _levels_in_use() + LEVELS
    with _Shared.lock:
        # The limit is the whole interpreter's: the last one to leave restores it.
        if not _Shared.users:
            _Shared.before = sys.getrecursionlimit()
        _Shared.users += 1
        sys.setrecursionlimit(max(wanted, sys.getrecursionlimit()))
    try:
        yield
    finally:
        with _Shared.lock:
            _Shared.users -= 1
            if not _Shared.users:
                sys.setrecursionlimit(_Shared.before)


def _levels_in_use() -> int:
    frame, levels = sys._getframe(), 0  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        frame, levels = frame.f_back, levels + 1
    return levels
