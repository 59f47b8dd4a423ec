"""All stream tables at one moment, as a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
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

    def later(self, passed: timedelta) -> Situation:
        """The same, a moment later."""
        return replace(self, now=self.now + passed)

    def continuous_with_changes(self) -> frozenset[int]:
        """The ``continuous`` ones (also by calculation) that have changes."""
        return frozenset(
            key for key, state in self.tables.items() if state.changed and self.periods[key] == timedelta(0)
        )

    def with_changes(self, changed: Iterable[int], asked: Set[int] = frozenset()) -> Situation:
        """The same, knowing which stream tables have a base table with changes.

        A change of an ancestor is a change: due stream tables refresh together with their stale ancestors.

        Args:
            changed: catalog ids of those that have.
            asked: catalog ids of all that it was asked of: where nothing has changed, and nothing else is to be done,
                neither in a stream table nor in what it reads, it is quiet.
        """
        direct = set(changed) & set(self.tables)
        reached = direct | self.dag.descendants(direct)
        tables = {
            key: state if state.changed == (key in reached) else replace(state, changed=key in reached)
            for key, state in self.tables.items()
        }
        loud = {key for key, state in tables.items() if key not in asked or not state.calm}
        if asked:
            loud |= self.dag.descendants(loud)
        return replace(
            self,
            tables={
                key: state if state.quiet == (key not in loud) else replace(state, quiet=key not in loud)
                for key, state in tables.items()
            },
        )

    def refreshed(self, keys: Iterable[int]) -> Situation:
        """The same after these were refreshed, until the state is read again."""
        done = {
            key: replace(self.tables[key], changed=False, pending=False, quiet=False, last_refresh=self.now)
            for key in keys
            if key in self.tables
        }
        return replace(self, tables={**self.tables, **done})

    @property
    def quiet(self) -> frozenset[int]:
        """Those that are known to be as their queries say."""
        return frozenset(key for key, state in self.tables.items() if state.quiet)
