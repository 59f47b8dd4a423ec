"""Small file systems, which fill up when they are told to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import servers

_CHUNK = 1 << 16


class NoDisk(Exception):
    """This machine lets us mount nothing."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of a few MiB, whose directory ``place`` belongs to the servers' user."""

    place: Path

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes free, and not more."""
        with (self.place.parent / "ballast").open("ab", buffering=0) as ballast:
            try:
                while True:
                    free = os.statvfs(self.place)
                    room = free.f_bavail * free.f_frsize - left
                    if room <= 0:
                        return
                    ballast.write(b"x" * min(room, _CHUNK))
            except OSError:
                return

    def free(self) -> None:
        """Everything is free that nobody else has filled."""
        (self.place.parent / "ballast").unlink(missing_ok=True)


@contextmanager
def mounted(size_mb: int) -> Iterator[Disk]:
    """A file system in memory.

    Raises:
        NoDisk: only root may mount, or not even root.
    """
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise NoDisk("mounting a small file system takes Linux and root")
    with tempfile.TemporaryDirectory(prefix="pgt") as name:
        Path(name).chmod(0o755)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "pgt", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NoDisk(f"mount failed: {done.stderr.strip()}")
        try:
            place = Path(name) / "place"
            place.mkdir(mode=0o755)
            account = servers.account()
            if account.uid is not None and account.gid is not None:
                os.chown(place, account.uid, account.gid)
            yield Disk(place)
        finally:
            subprocess.run(["umount", "-l", name], check=True)
