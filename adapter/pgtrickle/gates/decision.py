"""What a gate can say, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing here stands against a refresh."""

    word = "pass"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now; asking again later may help.

    Attributes:
        reason: one sentence for people.
        until: the earliest moment at which the answer can change, if it is known.
    """

    word = "hold"
    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not until somebody acts.

    Attributes:
        reason: one sentence for people.
        hint: what to do.
    """

    word = "refuse"
    reason: str
    hint: str = ""


Decision = Pass | Hold | Refuse


@dataclass(frozen=True, slots=True)
class GateFacts:
    """All that gates may look at. Read in one statement before a refresh; gates themselves ask nobody.

    Attributes:
        name: qualified name of the stream table.
        now: the server's time.
        manual: somebody asked for this very stream table; schedule and back-off do not count then.
        pulled: it is not due itself, but an ancestor of one that is; the schedule does not count then.
        status: ``INITIALIZING``, ``ACTIVE``, ``SUSPENDED`` or ``ERROR``.
        populated: it was loaded at least once.
        due_at: when its schedule wants the next refresh; None: now.
        retry_at: after a failure, not before this time.
        last_error: text of the last failure since the last success.
    """

    name: str
    now: datetime
    manual: bool
    pulled: bool
    status: str
    populated: bool
    due_at: datetime | None = None
    retry_at: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's decision, as it is stored in the trail."""

    gate: str
    decision: Decision

    def as_dict(self) -> dict[str, str | None]:
        """The verdict as JSON for the trail."""
        until = self.decision.until if isinstance(self.decision, Hold) else None
        return {
            "gate": self.gate,
            "decision": self.decision.word,
            "reason": self.decision.reason or None,
            "until": until.isoformat() if until else None,
        }
