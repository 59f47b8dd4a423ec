"""The two programs a user would run by hand: dbt and pgtrickle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo import display
from demo.server import DATABASE, Server

PROJECT = Path(__file__).resolve().parent / "dbt_project"

_CLOCK = re.compile(r"^\d\d:\d\d:\d\d\s*")
_NOISE = ("Running with dbt", "Registered adapter", "Unable to do partial parsing", "Concurrency:")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _program(name: str) -> str:
    """The command that was installed beside this Python."""
    return str(Path(sys.executable).parent / name)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the server is, for dbt and the command line.

    Attributes:
        server: the running server.
        scratch: directory for logs and dbt's target.
    """

    server: Server
    scratch: Path

    def dbt(self, *arguments: str) -> bool:
        """Run dbt in the demo's project and show what it says; True if it succeeded."""
        display.say(display.paint(f"   $ dbt {' '.join(arguments)}", "cyan"))
        command = [_program("dbt"), "--no-use-colors", *arguments]
        command += ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
        process = subprocess.Popen(
            command, env=self._environment(), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for raw in process.stdout:
            line = _CLOCK.sub("", _COLOUR.sub("", raw.rstrip()))
            if line and not line.startswith(_NOISE) and " START " not in line:
                display.say(f"     {line}")
        return process.wait() == 0

    def pgtrickle(self, *arguments: str) -> bool:
        """Run the command ``pgtrickle`` and show what it says; True if it succeeded."""
        display.say(display.paint(f"   $ pgtrickle {' '.join(arguments)}", "cyan"))
        done = subprocess.run(
            self._pgtrickle(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        for line in done.stdout.splitlines():
            display.say(f"     {line}")
        return done.returncode == 0

    @contextmanager
    def runner(self) -> Iterator[Runner]:
        """``pgtrickle run`` in the background, its log in the scratch directory."""
        display.say(display.paint("   $ pgtrickle run &", "cyan"))
        with (self.scratch / "runner.log").open("wb") as log:
            process = subprocess.Popen(self._pgtrickle("run"), stdout=log, stderr=log)
            runner = Runner(process, self.scratch / "runner.log")
            try:
                yield runner
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def _pgtrickle(self, *arguments: str) -> list[str]:
        verb, *rest = arguments
        return [_program("pgtrickle"), verb, "--dsn", self.server.dsn(DATABASE), *rest]

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DEMO_PGHOST": "127.0.0.1",
            "DEMO_PGPORT": str(self.server.port),
            "DEMO_PGUSER": "postgres",
            "DEMO_PGDATABASE": DATABASE,
            "DBT_TARGET_PATH": str(self.scratch / "target"),
            "DBT_LOG_PATH": str(self.scratch / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "PYTHONUNBUFFERED": "1",
        }


@dataclass(frozen=True, slots=True)
class Runner:
    """A runner in the background."""

    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def stop(self) -> int:
        """Ask it to stop, as a service manager does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def tail(self, lines: int = 15) -> list[str]:
        """The end of its log."""
        return self.log.read_text(errors="replace").splitlines()[-lines:]
