"""More work than one worker can do: everything is late by the same time, and nothing is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from pgtrickle.schedule import parse
from pgtrickle.schedule.agenda import make_agenda
from pgtrickle.schedule.due import TableState, effective_periods
from pgtrickle.schedule.order import Dag
from pgtrickle.schedule.situation import Situation

NOW = datetime(2024, 6, 1, 12, 0, tzinfo=timezone.utc)


def situation(schedules: Mapping[int, str], edges: list[tuple[int, int]] | None = None) -> Situation:
    """Stream tables that have just been refreshed."""
    parsed = {key: parse(text) for key, text in schedules.items()}
    tables = {key: TableState(1000 + key, f"public.t{key}", one, last_refresh=NOW) for key, one in parsed.items()}
    dag = Dag(tables, edges or [])
    periods = effective_periods(parsed, dag)
    return Situation(
        now=NOW, tables=tables, dag=dag, periods=periods, sources={key: (key,) for key in tables}, leases={}
    )


def refreshes(before: Situation, *, each_s: float, seconds: float) -> Counter[int]:
    """How often each one is refreshed by one worker that needs ``each_s`` for a group; sources change all the time."""
    now, end, done = before, NOW + timedelta(seconds=seconds), Counter[int]()
    while now.now < end:
        now = now.with_changes(now.tables)
        groups = make_agenda(now).groups
        now = now.later(timedelta(seconds=each_s if groups else 0.01))
        if groups:
            now = now.refreshed(groups[0].members)
            done.update(groups[0].members)
    return done


@pytest.mark.parametrize("schedule", ["1s", "continuous", "* * * * * *"])
def test_under_overload_all_are_refreshed_equally_often(schedule: str) -> None:
    done = refreshes(situation(dict.fromkeys(range(1, 21), schedule)), each_s=0.2, seconds=24)
    assert set(done) == set(range(1, 21))
    assert max(done.values()) - min(done.values()) <= 1


def test_one_that_is_never_quiet_leaves_room_for_the_others() -> None:
    done = refreshes(situation({1: "continuous", 2: "continuous", 3: "1s", 4: "10s"}), each_s=0.5, seconds=60)
    assert done[4] >= 5
    assert done[3] >= 20


def test_a_rare_one_is_not_put_off_by_many_frequent_ones() -> None:
    done = refreshes(situation({**dict.fromkeys(range(1, 16), "1s"), 31: "30s"}), each_s=0.2, seconds=95)
    assert done[31] >= 2


def test_a_group_is_as_urgent_as_its_most_urgent_member() -> None:
    before = situation({1: "1s", 2: "1s", 3: "1s"}, [(2, 3)])
    late = replace(before.tables[3], last_refresh=NOW - timedelta(seconds=9))
    later = replace(before, tables={**before.tables, 3: late}).later(timedelta(seconds=2))
    assert [group.members for group in make_agenda(later).groups] == [(2, 3), (1,)]


def test_what_was_never_loaded_comes_first() -> None:
    before = situation({1: "1s", 2: "1s"})
    new = replace(before.tables[2], last_refresh=None, populated=False)
    later = replace(before, tables={**before.tables, 2: new}).later(timedelta(seconds=100))
    assert [group.members for group in make_agenda(later).groups] == [(2,), (1,)]
