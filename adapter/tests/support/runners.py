"""Runners as real processes, and waiting with a deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ADAPTER = Path(__file__).resolve().parents[2]
#: Nothing in a test takes this long; a machine under load may.
DEADLINE_SECONDS = 60.0


def eventually(check: Callable[[], Any], what: str = "", *, seconds: float = DEADLINE_SECONDS) -> Any:
    """Ask until the answer is true, and return it; fail after a deadline."""
    end = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what or check}"
        time.sleep(0.02)
    return answer


class RunnerProcess:
    """``pgtrickle run`` as a child process; its log events are collected."""

    def __init__(self, dsn: str, *arguments: str) -> None:
        self.events: list[dict[str, Any]] = []
        environment = {**os.environ, "PYTHONPATH": str(ADAPTER), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgtrickle", "run", "--dsn", dsn, "--log-format", "json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> RunnerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def named(self, event: str) -> list[dict[str, Any]]:
        """The events of one name so far."""
        return [found for found in list(self.events) if found["event"] == event]

    def wait_for(self, event: str, *, seconds: float = DEADLINE_SECONDS, **fields: Any) -> dict[str, Any]:
        """The first event of this name with these fields."""

        def find() -> dict[str, Any] | None:
            assert self.process.poll() is None or not self._reader.is_alive(), self.said()
            matching = [found for found in self.named(event) if fields.items() <= found.items()]
            if not matching and self.process.poll() is not None and not self._reader.is_alive():
                raise AssertionError(f"the runner ended with {self.process.returncode}: {self.said()}")
            return matching[0] if matching else None

        return eventually(find, f"{event} {fields}", seconds=seconds)

    def started(self) -> RunnerProcess:
        """Wait until it works."""
        self.wait_for("runner_started")
        return self

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(timeout=seconds)
        self._reader.join(timeout=seconds)
        return code

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal()
        return self.end()

    def kill(self) -> None:
        """SIGKILL, if it still lives."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=DEADLINE_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                self._reader.join(timeout=5)
                stream.close()

    def said(self) -> str:
        """All that it logged, and stderr if it has ended."""
        errors = self.process.stderr.read() if self.process.poll() is not None and self.process.stderr else ""
        return "\n".join([*(json.dumps(found) for found in self.events[-50:]), errors])
