"""A sign of life for long operations: on stderr, and only if a person is looking at a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Nothing is shown for what is over sooner.
PATIENCE_SECONDS = 0.5
_CLEAR = "\r\x1b[K"


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show ``text`` and the seconds that passed while the block runs."""
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(text, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(text: str, ended: threading.Event) -> None:
    started = time.monotonic()
    if ended.wait(PATIENCE_SECONDS):
        return
    while True:
        sys.stderr.write(f"{_CLEAR}{text} ... {time.monotonic() - started:.0f} s")
        sys.stderr.flush()
        if ended.wait(1.0):
            break
    sys.stderr.write(_CLEAR)
    sys.stderr.flush()
