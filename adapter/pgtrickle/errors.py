"""Every error this package raises: one class for each thing a caller can act on.

The taxonomy (unsupported, not yet, yours, ours) follows feldera's SQL compiler.
"""

from __future__ import annotations


class PgTrickleError(Exception):
    """Root of all errors of this package.

    Args:
        message: what happened, in one sentence.
        object_name: the stream table, source or option it happened to.
        clause: the clause of the defining query, if one is to blame.
        detail: further facts.
        hint: what to do next.
    """

    code = "PGT000"

    def __init__(
        self,
        message: str,
        *,
        object_name: str | None = None,
        clause: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.object_name = object_name
        self.clause = clause
        self.detail = detail
        self.hint = hint
        self.sqlstate: str | None = None
        """SQLSTATE of the driver's error, where there was one (set by `pgtrickle.db`)."""

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.message}"]
        for label, value in (
            ("object", self.object_name),
            ("clause", self.clause),
            ("detail", self.detail),
            ("hint", self.hint),
        ):
            if value:
                lines.append(f"  {label}: {value}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str | None]:
        """The error as a flat mapping, for ``--json`` and the history."""
        return {
            "code": self.code,
            "message": self.message,
            "object": self.object_name,
            "clause": self.clause,
            "detail": self.detail,
            "hint": self.hint,
        }


class UnsupportedQuery(PgTrickleError):
    """The query is valid SQL, but it cannot be maintained incrementally.

    ``clause`` names the construct, the message says why, ``hint`` what to do.
    """

    code = "PGT101"


class InvalidQuery(PgTrickleError):
    """PostgreSQL itself refuses the defining query."""

    code = "PGT102"


class InvalidOption(PgTrickleError):
    """An option has a value that is not accepted."""

    code = "PGT103"


class NotYetSupported(PgTrickleError):
    """A feature of pg_trickle that this version does not have."""

    code = "PGT104"


class StreamTableNotFound(PgTrickleError):
    """No stream table of this name is registered."""

    code = "PGT201"


class StreamTableExists(PgTrickleError):
    """The name is taken already."""

    code = "PGT202"


class DependentsExist(PgTrickleError):
    """Other objects depend on it, and nothing is dropped behind their back."""

    code = "PGT203"


class DependencyCycle(PgTrickleError):
    """The stream tables would depend on each other in a circle."""

    code = "PGT204"


class CatalogError(PgTrickleError):
    """The schema ``pgtrickle`` is missing, too old, too new or damaged."""

    code = "PGT301"


class PermissionDenied(PgTrickleError):
    """A privilege is missing; the hint lists the exact GRANTs."""

    code = "PGT302"


class LockTimeout(PgTrickleError):
    """A lock was not obtained in time; the detail names who holds it."""

    code = "PGT303"


class ConnectionFailed(PgTrickleError):
    """The server could not be reached."""

    code = "PGT304"


class StatementFailed(PgTrickleError):
    """PostgreSQL refused a statement for a reason that no other class covers; ``sqlstate`` has the code."""

    code = "PGT305"


class TransactionConflict(PgTrickleError):
    """A concurrent transaction won (serialization failure or deadlock); the same thing done again succeeds."""

    code = "PGT306"


class RefreshError(PgTrickleError):
    """A refresh failed; the stream table keeps its old content."""

    code = "PGT401"


class RefreshBusy(RefreshError):
    """Another session is refreshing the same stream table."""

    code = "PGT402"


class SelfWrite(RefreshError):
    """The refresh itself wrote to one of its sources (a user's trigger, foreign key or function)."""

    code = "PGT403"


class NotProven(PgTrickleError):
    """``verify`` could not compare; the message says why."""

    code = "PGT501"


class InternalError(PgTrickleError):
    """Our bug: an invariant of the engine does not hold."""

    code = "PGT900"
