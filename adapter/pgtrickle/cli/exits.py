"""Exit codes, in one place; docs/reference/cli.md shows this table."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the process tells its caller; ``MEANINGS`` says it in words."""

    OK = 0
    ERROR = 1
    USAGE = 2
    DIFFERENT = 3
    NOT_PROVEN = 4
    UNHEALTHY = 5
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done; nothing to complain about",
    Exit.ERROR: "something failed; the message has code, object, clause, detail and hint",
    Exit.USAGE: "the command line is wrong; nothing was done",
    Exit.DIFFERENT: "`verify` found a stream table that differs from its query",
    Exit.NOT_PROVEN: "`verify` found no difference, but could not prove every stream table equal",
    Exit.UNHEALTHY: "`health`, `status --check` or `doctor` found something broken, suspended, failing or stale",
    Exit.INTERRUPTED: "ended by Ctrl-C; `run`: aborted by a second signal",
}
