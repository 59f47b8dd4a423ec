"""Client programs of PostgreSQL (pg_dump, pg_restore, pg_basebackup ...), found where a version brings them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from tests.support import servers

#: Where distributions put a version's programs.
_SYSTEM = "/usr/lib/postgresql/{major}"


class ProgramMissing(Exception):
    """A program is not on this machine."""


class ProgramFailed(Exception):
    """A program ended with an error; the message holds what it said."""


def program(name: str, major: int = servers.EMBEDDED_MAJOR) -> Path:
    """A client program of a major version, readable for the server's user.

    Raises:
        ProgramMissing: this version brings none here.
    """
    try:
        homes = [servers.installation(major)]
    except servers.ServerUnavailable:
        homes = []
    for home in (*homes, Path(_SYSTEM.format(major=major))):
        found = home / "bin" / name
        if os.access(found, os.X_OK):
            return found
    raise ProgramMissing(f"{name} of PostgreSQL {major} is not installed here")


def run(
    name: str, *arguments: str, dsn: str | None = None, major: int = servers.EMBEDDED_MAJOR, place: str = "/"
) -> str:
    """Run a client program as the user that servers run as; what it printed.

    Args:
        name: of the program.
        arguments: as on a command line.
        dsn: the database it connects to, by the environment.
        major: of which version.
        place: the directory that it works in.

    Raises:
        ProgramMissing, ProgramFailed
    """
    environment = dict(os.environ)
    if dsn is not None:
        facts = conninfo_to_dict(dsn)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "password": "PGPASSWORD"}
        environment |= {names[key]: str(value) for key, value in facts.items() if key in names}
    done = subprocess.run(
        [str(program(name, major)), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env=environment,
        **servers.account().arguments(),  # pyright: ignore[reportCallIssue, reportArgumentType]
    )
    if done.returncode != 0:
        raise ProgramFailed(f"{name} {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout
