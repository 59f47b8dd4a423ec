"""All stream tables at one moment, as a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pgtrickle.errors import InvalidOption
from pgtrickle.schedule.due import TableState
from pgtrickle.schedule.order import Dag


@dataclass(frozen=True, slots=True)
class Situation:
    """All stream tables at one moment.

    Attributes:
        now: the server's clock.
        tables: by catalog id; those with an unreadable schedule are left out.
        dag: which reads which, by catalog id.
        periods: effective period by catalog id; None for cron.
        sources: the captured base tables that each one reads directly, by ``pgtrickle.sources.id``.
        leases: catalog id -> (runner, until), still valid ones only.
        unreadable: name and error of the stream tables that were left out.
    """

    now: datetime
    tables: Mapping[int, TableState]
    dag: Dag
    periods: Mapping[int, timedelta | None]
    sources: Mapping[int, tuple[int, ...]]
    leases: Mapping[int, tuple[str, datetime]]
    unreadable: tuple[tuple[str, InvalidOption], ...] = ()

    def with_changes(self, changed: Iterable[int], now: datetime) -> Situation:
        """The same a moment later, knowing which stream tables have a source with changes.

        A change of an ancestor is a change: due stream tables refresh together with their stale ancestors.
        """
        direct = set(changed)
        reached = direct | self.dag.descendants(direct)
        tables = {
            key: state if state.changed == (key in reached) else replace(state, changed=key in reached)
            for key, state in self.tables.items()
        }
        return replace(self, now=now, tables=tables)
