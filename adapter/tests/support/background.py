"""Something that runs in a thread while a test does something else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest


class Background:
    """Something that runs in a thread, and its error."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, args=(work,))
        self.thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # raised again by done()
            self.error = error

    def done(self) -> None:
        """Wait for the end; raise what it raised."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


def until(condition: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    pytest.fail("it never came to that")
