"""What to do now: due stream tables in groups, and what holds the others back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pgtrickle.schedule.due import Due, decide
from pgtrickle.schedule.situation import Situation

_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Group:
    """Due stream tables that move together, with the ancestors that they may take along; by catalog id.

    Attributes:
        members: the due ones, in dependency order.
        closure: members and all their ancestors.
    """

    members: tuple[int, ...]
    closure: frozenset[int]


@dataclass(frozen=True, slots=True)
class Agenda:
    """The decisions about all stream tables at one moment.

    Attributes:
        dues: every stream table by catalog id, in dependency order.
        groups: what is due now, the one that has waited longest first.
    """

    dues: Mapping[int, Due]
    groups: tuple[Group, ...]


def make_agenda(situation: Situation) -> Agenda:
    """Decide about every stream table."""
    dues = {
        key: decide(situation.tables[key], situation.periods[key], situation.now) for key in situation.dag.ordered()
    }
    members = situation.dag.groups(key for key, due in dues.items() if due.now)
    # Under overload everything is late by the same time: by any fixed order the last ones would never be refreshed.
    members = sorted(members, key=lambda group: min(_since(dues[key]) for key in group))
    groups = tuple(Group(group, situation.dag.ancestors(group) | frozenset(group)) for group in members)
    return Agenda(dues, groups)


def _since(due: Due) -> datetime:
    """Since when it waits; what was never loaded has waited longest."""
    if due.at is None or due.state.last_refresh is None:
        return _LONG_AGO
    return due.at


def startable(group: Group, *, busy: Set[int], cooling: Set[int], leased: Set[int]) -> bool:
    """Whether a group can be started now.

    Args:
        group: it is due.
        busy: in work in this process, with ancestors.
        cooling: tried a moment ago without success.
        leased: in work in other runners.
    """
    return not group.closure & (busy | leased) and not set(group.members) <= cooling


def foreign_leases(situation: Situation, runner_id: str) -> dict[int, datetime]:
    """What other runners are working on, and until when they have leased it."""
    return {
        key: until for key, (holder, until) in situation.leases.items() if holder != runner_id and until > situation.now
    }


def wake_after(
    agenda: Agenda, now: datetime, *, blocked: Set[int], leased: Mapping[int, datetime], longest: timedelta
) -> timedelta:
    """How long there is nothing to do: until the next due time or the end of another's lease, at most ``longest``.

    Args:
        agenda: the decisions.
        now: the server's clock.
        blocked: what cannot be started anyway (in work here, or tried a moment ago).
        leased: what other runners have leased, and until when.
        longest: upper bound.
    """
    moments = [
        max(due.wake, leased[key]) if key in leased else due.wake
        for key, due in agenda.dues.items()
        if due.wake is not None and key not in blocked
    ]
    return max(timedelta(0), min([*(moment - now for moment in moments), longest]))
