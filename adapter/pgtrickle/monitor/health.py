"""Is everything well? One verdict, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.catalog import access, installation

#: A change buffer past this part of its limit is worth a word.
BUFFER_ALERT = 0.8


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not well.

    Attributes:
        severity: ``ERROR`` or ``WARNING``.
        object_name: stream table, source or runner.
        text: what is wrong.
        hint: what to do.
    """

    severity: str
    object_name: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict.

    Attributes:
        status: ``EMPTY``, ``OK``, ``WARNING`` or ``CRITICAL``.
        stream_tables: how many there are.
        runners: how many were heard of in the last minute.
        problems: what is wrong, the worst first.
    """

    status: str
    stream_tables: int
    runners: int
    problems: tuple[Problem, ...]

    @property
    def well(self) -> bool:
        """Whether there is nothing to complain about."""
        return self.status in ("EMPTY", "OK")

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.stream_tables} stream tables, {self.runners} live runners, {len(self.problems)} problems"


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What is known about one stream table; ``restored``: it was not recomputed since the database was restored."""

    name: str
    status: str
    status_reason: str | None
    is_populated: bool
    consecutive_errors: int
    last_error: str | None
    stale: bool
    demoted: bool
    restored: bool = False
    recompute_reason: str | None = None


@dataclass(frozen=True, slots=True)
class BufferFacts:
    """Size of one change buffer, and the size past which capture keeps marks instead of rows."""

    source: str
    bytes: int
    limit_bytes: int


def fetch_health(conn: db.Connection) -> Health:
    """Look at stream tables, runners and change buffers."""
    tables = access.rows(conn, "fetch_health_tables", TableFacts)
    buffers = access.rows(conn, "fetch_health_buffers", BufferFacts)
    runners = access.value(conn, "count_live_runners")
    return judge(tables, buffers, runners, elsewhere=installation.is_elsewhere(conn))


def judge(
    tables: tuple[TableFacts, ...], buffers: tuple[BufferFacts, ...], runners: int, *, elsewhere: bool = False
) -> Health:
    """The verdict on these facts; pure."""
    problems = [problem for table in tables for problem in _of_table(table)]
    if elsewhere:
        text = "the database was restored or copied: stream tables show what they showed then"
        problems.append(Problem("ERROR", "pgtrickle", text, "Start a runner, or run: pgtrickle refresh"))
    problems += [problem for buffer in buffers for problem in _of_buffer(buffer)]
    if tables and not runners:
        problems.append(
            Problem("WARNING", "runner", "no runner was heard of for a minute", "Start one with: pgtrickle run")
        )
    problems.sort(key=lambda problem: problem.severity)
    status = "CRITICAL" if any(problem.severity == "ERROR" for problem in problems) else "WARNING"
    if not problems:
        status = "OK" if tables else "EMPTY"
    return Health(status, len(tables), runners, tuple(problems))


def _of_table(table: TableFacts) -> list[Problem]:
    found: list[Problem] = []
    if table.status == "SUSPENDED":
        reason = table.last_error or table.status_reason or "on request"
        found.append(Problem("ERROR", table.name, f"suspended: {reason}", f"pgtrickle resume {table.name}"))
    elif table.consecutive_errors:
        text = f"{table.consecutive_errors} failed refreshes in a row: {table.last_error}"
        found.append(Problem("ERROR" if table.status == "ERROR" else "WARNING", table.name, text, _history(table)))
    elif not table.is_populated:
        found.append(Problem("WARNING", table.name, "never loaded", f"pgtrickle refresh {table.name}"))
    elif table.restored:
        text = f"{table.recompute_reason}; the next refresh recomputes it"
        found.append(Problem("WARNING", table.name, text, f"pgtrickle refresh {table.name}"))
    elif table.stale:
        found.append(Problem("WARNING", table.name, "older than its schedule allows", "Look at: pgtrickle plan"))
    if table.demoted:
        text = "was too far behind, so its changes are not kept: the next refresh recomputes"
        found.append(Problem("WARNING", table.name, text, f"pgtrickle refresh {table.name}"))
    return found


def _history(table: TableFacts) -> str:
    return f"pgtrickle history {table.name}"


def _of_buffer(buffer: BufferFacts) -> list[Problem]:
    if buffer.bytes < BUFFER_ALERT * buffer.limit_bytes:
        return []
    text = f"its change buffer has {buffer.bytes / 2**20:.0f} of {buffer.limit_bytes / 2**20:.0f} MiB"
    hint = "Refresh its dependents, or drop those that nobody needs."
    return [Problem("WARNING", buffer.source, text, hint)]
