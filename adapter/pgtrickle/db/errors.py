"""Driver errors become errors of this package here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pgtrickle.errors import (
    CatalogError,
    ConnectionFailed,
    LockTimeout,
    PermissionDenied,
    PgTrickleError,
    StatementFailed,
    TransactionConflict,
)

_BY_STATE: dict[str, type[PgTrickleError]] = {
    "42501": PermissionDenied,
    "55P03": LockTimeout,
    "40001": TransactionConflict,
    "40P01": TransactionConflict,
    # Raised by pgtrickle.require_version.
    "PT003": CatalogError,
    # The server has ended the session for a transaction that was idle, or took too long.
    "25P03": ConnectionFailed,
    "25P04": ConnectionFailed,
}
_HINTS: dict[str, str] = {
    "25006": "The server is a standby, or default_transaction_read_only is on: see ALTER ROLE .. SET.",
    "57014": "If it was a statement_timeout: behind a pooler that of the role counts, see ALTER ROLE .. SET.",
}
_BY_CLASS: dict[str, type[PgTrickleError]] = {"08": ConnectionFailed, "57P": ConnectionFailed}


#: SQLSTATE classes of what says nothing about a statement: no memory, locks, disk or connections, an operator or a
#: time-out that ends it, the server's disks.
_PASSING = ("53", "57", "58")


def passes(error: PgTrickleError) -> bool:
    """Whether an error says nothing about what was asked: the same may be answered a moment later."""
    lost = isinstance(error, (ConnectionFailed, LockTimeout, TransactionConflict))
    return lost or (error.sqlstate or "").startswith(_PASSING)


def _class_of(error: psycopg.Error) -> type[PgTrickleError]:
    state = error.sqlstate
    if state is None:
        # libpq's own failures (no route, connection closed) carry no SQLSTATE.
        return ConnectionFailed if isinstance(error, psycopg.OperationalError) else StatementFailed
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or _BY_CLASS.get(state[:3]) or StatementFailed


def translate(error: psycopg.Error, object_name: str | None = None) -> PgTrickleError:
    """The error of this package for a driver error; ``sqlstate`` is kept, the caller chains the cause.

    Args:
        error: what psycopg raised.
        object_name: the stream table, source or option that was worked on.
    """
    diag = error.diag
    message = diag.message_primary or str(error).strip() or type(error).__name__
    detail = "; ".join(part for part in (diag.message_detail, diag.context) if part) or None
    hint = diag.message_hint or _HINTS.get(error.sqlstate or "")
    translated = _class_of(error)(message, object_name=object_name, detail=detail, hint=hint)
    translated.sqlstate = error.sqlstate
    return translated


@contextmanager
def wrapped(object_name: str | None = None) -> Iterator[None]:
    """Raise driver errors of the block as errors of this package.

    42501 -> PermissionDenied, 55P03 -> LockTimeout, 40001 and 40P01 -> TransactionConflict, 08xxx, 57Pxx and lost
    connections -> ConnectionFailed, all others -> StatementFailed. ``error.sqlstate`` has the code.
    """
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, object_name) from error
