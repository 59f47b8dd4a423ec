"""A password on the command line is taken off it: everybody on the machine can read the arguments of a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_OPTION = "--dsn"


def hide_password(argv: Sequence[str]) -> None:
    """Start this process again with the password of ``--dsn`` in its environment; returns if there is none.

    The process stays the same one, so that signals and whoever waits for it find it. For the moment until then the
    password can be seen, which is why the documentation shows the other ways.

    Args:
        argv: the arguments, without the program's name.
    """
    shown, password = without_password(argv)
    if password is None:
        return
    environment = {**os.environ, "PGPASSWORD": password}
    os.execve(sys.executable, [sys.executable, "-m", "pgtrickle", *shown], environment)


def without_password(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without the password of ``--dsn``, and the password; None if there is none."""
    shown, password = list(argv), None
    for number, word in enumerate(argv):
        if word == _OPTION and number + 1 < len(argv):
            where, before, dsn = number + 1, "", argv[number + 1]
        elif word.startswith(f"{_OPTION}="):
            where, before, dsn = number, f"{_OPTION}=", word.removeprefix(f"{_OPTION}=")
        else:
            continue
        try:
            known = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            continue  # it is refused later, in words that do not quote it
        found = known.pop("password", None)
        if found is not None:
            shown[where], password = before + make_conninfo("", **known), str(found)
    return shown, password
