"""Why a connection was refused: libpq tells it in words only, without the SQLSTATE that the server sent.

The words are the server's; one that speaks another language than English is not understood, and what is not understood
is taken for something that passes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgtrickle.errors import ConnectionFailed


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What servers, poolers and libpq say for one reason. ``passes``: it may be over without anybody doing anything."""

    sqlstate: str
    words: re.Pattern[str]
    passes: bool
    hint: str


def _refusal(sqlstate: str, *words: str, passes: bool, hint: str) -> _Refusal:
    return _Refusal(sqlstate, re.compile("|".join(words)), passes, hint)


#: What passes comes first: of several hosts one may be starting while another one has no such database.
_REFUSALS = (
    _refusal(
        "57P03",
        "the database system is (starting up|shutting down|in recovery mode|not (yet )?accepting connections)",
        "not currently accepting connections",
        passes=True,
        hint="It passes by itself; `pgtrickle run` waits for it.",
    ),
    _refusal(
        "53300",
        "too many (clients|connections)",
        "remaining connection slots are reserved",
        r"no more connections allowed \(max_client_conn\)",
        passes=True,
        hint="Others hold all connections: see max_connections, and the CONNECTION LIMIT of the role and the database.",
    ),
    _refusal(
        "25006",
        "session is read-only",
        "server is in hot standby mode",
        passes=True,
        hint="No host of the connection string can be written to (yet).",
    ),
    _refusal(
        "28P01",
        "password authentication failed",
        "no password supplied",
        "SASL authentication failed",
        passes=False,
        hint="Set PGPASSWORD, or use a .pgpass file or a service.",
    ),
    _refusal(
        "28000",
        'role ".*" does not exist',
        'role ".*" is not permitted to log in',
        r"no pg_hba\.conf entry for",
        r"pg_hba\.conf rejects connection",
        "no such user",
        "[a-zA-Z]+ authentication failed for user",
        passes=False,
        hint="The server does not let this user in from here: see CREATE ROLE .. LOGIN and pg_hba.conf.",
    ),
    _refusal(
        "3D000",
        'database ".*" does not exist',
        "no such database",
        passes=False,
        hint="Create the database, or name another one in the connection string.",
    ),
    _refusal(
        "42501",
        'permission denied for database ".*"',
        passes=False,
        hint="GRANT CONNECT ON DATABASE .. TO ..",
    ),
    _refusal(
        "08P01",
        "unsupported startup parameter",
        passes=False,
        hint="PgBouncer: name the parameter in ignore_startup_parameters.",
    ),
    _refusal(
        "08001",
        "server does not support SSL",
        "certificate verify failed",
        "root certificate file .* does not exist",
        "does not match host name",
        passes=False,
        hint="See sslmode and sslrootcert in the documentation of libpq.",
    ),
)


def explain(error: ConnectionFailed) -> ConnectionFailed:
    """Give an error of connecting the SQLSTATE and the hint that its words stand for, if they are known."""
    for refusal in _REFUSALS:
        if refusal.words.search(error.message):
            error.sqlstate = error.sqlstate or refusal.sqlstate
            error.hint = error.hint or refusal.hint
            break
    return error


def is_lasting(error: ConnectionFailed) -> bool:
    """Whether somebody has to do something before connecting can work: a wrong password, no such database."""
    known = next((refusal for refusal in _REFUSALS if refusal.words.search(error.message)), None)
    return known is not None and not known.passes
