"""What the runner does now: groups, what is in the way, and how long it sleeps."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta, timezone

import pytest

from pgtrickle.catalog.groups import GroupRow, GroupSource
from pgtrickle.refresh.plan import Window
from pgtrickle.schedule import parse
from pgtrickle.schedule.agenda import foreign_leases, make_agenda, startable, wake_after
from pgtrickle.schedule.cooling import FIRST_SECONDS, LONGEST_SECONDS, Cooling
from pgtrickle.schedule.due import TableState, effective_periods
from pgtrickle.schedule.expectation import expect
from pgtrickle.schedule.order import Dag
from pgtrickle.schedule.preview import make_preview
from pgtrickle.schedule.situation import Situation
from pgtrickle.schedule.state import changes_query, pollable

NOW = datetime(2024, 6, 1, 12, 0, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)


def situation(edges: list[tuple[int, int]], **schedules: str) -> Situation:
    """Stream tables ``t1``, ``t2`` ..., refreshed ten seconds ago."""
    parsed = {int(name[1:]): parse(text) for name, text in schedules.items()}
    tables = {
        key: TableState(1000 + key, f"public.t{key}", schedule, last_refresh=NOW - 10 * SECOND)
        for key, schedule in parsed.items()
    }
    dag = Dag(tables, edges)
    return Situation(
        now=NOW,
        tables=tables,
        dag=dag,
        periods=effective_periods(parsed, dag),
        sources={key: (key * 10,) for key in tables},
        leases={},
    )


def changed(before: Situation, key: int, **facts: object) -> Situation:
    return replace(before, tables={**before.tables, key: replace(before.tables[key], **facts)})  # type: ignore[arg-type]


def test_a_due_chain_is_one_group_with_its_ancestors() -> None:
    agenda = make_agenda(situation([(1, 2), (2, 3)], t1="1h", t2="5s", t3="5s"))
    assert [(group.members, group.closure) for group in agenda.groups] == [((2, 3), {1, 2, 3})]


def test_a_group_waits_for_what_is_in_work_here_or_elsewhere() -> None:
    group = make_agenda(situation([(1, 2)], t1="1h", t2="5s")).groups[0]
    nothing: frozenset[int] = frozenset()
    assert startable(group, busy=nothing, cooling=nothing, leased=nothing)
    assert not startable(group, busy={1}, cooling=nothing, leased=nothing)
    assert not startable(group, busy=nothing, cooling=nothing, leased={1})
    assert not startable(group, busy=nothing, cooling={2}, leased=nothing)


def test_a_group_with_one_resting_member_goes_on_for_the_others() -> None:
    group = make_agenda(situation([(1, 2), (1, 3)], t1="1h", t2="5s", t3="5s")).groups[0]
    assert startable(group, busy=frozenset(), cooling={2}, leased=frozenset())


def test_only_valid_leases_of_others_count() -> None:
    before = replace(
        situation([], t1="5s", t2="5s", t3="5s"),
        leases={1: ("me", NOW + SECOND), 2: ("other", NOW + SECOND), 3: ("other", NOW - SECOND)},
    )
    assert foreign_leases(before, "me") == {2: NOW + SECOND}


def test_the_runner_sleeps_until_the_first_that_becomes_due() -> None:
    now = situation([], t1="15s", t2="30s", t3="@yearly")
    agenda = make_agenda(now)
    nothing: frozenset[int] = frozenset()

    def wake(**more: object) -> timedelta:
        arguments = {"blocked": nothing, "leased": {}, "longest": 60 * SECOND, **more}
        return wake_after(agenda, NOW, **arguments)  # type: ignore[arg-type]

    assert wake() == 5 * SECOND
    assert wake(longest=2 * SECOND) == 2 * SECOND
    assert wake(blocked={1}) == 20 * SECOND
    assert wake(leased={1: NOW + 9 * SECOND}) == 9 * SECOND
    assert wake_after(make_agenda(situation([])), NOW, blocked=nothing, leased={}, longest=SECOND) == SECOND


def test_overdue_means_no_sleep_at_all() -> None:
    agenda = make_agenda(situation([], t1="1s"))
    assert wake_after(agenda, NOW, blocked=frozenset(), leased={}, longest=SECOND) == timedelta(0)


def test_a_change_of_an_ancestor_makes_a_continuous_dependent_due() -> None:
    before = situation([(1, 2), (2, 3)], t1="1h", t2="1h", t3="continuous")
    assert not make_agenda(replace(before, now=NOW - 5 * SECOND)).groups
    after = replace(before, now=NOW - 5 * SECOND).with_changes({1})
    assert [group.members for group in make_agenda(after).groups] == [(3,)]
    assert after.continuous_with_changes() == {3}
    assert after.with_changes(()).continuous_with_changes() == frozenset()


def test_a_change_below_does_not_make_the_ancestor_due() -> None:
    after = situation([(1, 2)], t1="1h", t2="1h").with_changes({2})
    assert not after.tables[1].changed


def test_only_continuous_stream_tables_and_their_ancestors_are_polled() -> None:
    now = situation([(1, 2)], t1="1h", t2="continuous", t3="5s", t4="continuous", t5="continuous")
    now = changed(changed(now, 4, status="SUSPENDED"), 5, watched=False)
    assert pollable(now) == {1: (10,), 2: (20,)}


def test_nothing_to_poll_needs_no_statement() -> None:
    assert changes_query({}) is None
    assert changes_query({1: ()}) is None


def test_the_poll_asks_each_buffer_of_each_stream_table() -> None:
    query = changes_query({1: (7, 8), 2: (7,)})
    assert query is not None
    text = query.as_string(None)
    assert text.count('"pgtrickle_changes"."b_7"') == 2
    assert text.count('"pgtrickle_changes"."b_8"') == 1


def test_cooling_doubles_up_to_a_bound_and_is_forgotten_after_success() -> None:
    cooling = Cooling()
    cooling.fail([1], now=0.0)
    assert cooling.resting(0.0) == {1}
    assert cooling.next_end(0.0) == FIRST_SECONDS
    assert cooling.resting(FIRST_SECONDS) == frozenset()
    for _ in range(30):
        cooling.fail([1], now=0.0)
    assert cooling.next_end(0.0) == LONGEST_SECONDS
    cooling.succeed([1])
    assert cooling.resting(0.0) == frozenset()
    assert cooling.next_end(0.0) is None


def row(key: int, *sources: GroupSource, **facts: object) -> GroupRow:
    """A stream table as a refresh reads it."""
    known = {field.name: None for field in fields(GroupRow)}
    known |= {
        "id": key,
        "relid": 1000 + key,
        "is_populated": True,
        "requested_mode": "AUTO",
        "effective_mode": "DIFFERENTIAL",
        "refresh_no": 5,
        **{name: {} for name in ("consumed", "cost", "definition", "options")},
        "sources": [asdict(source) for source in sources],
        "stages": (),
        **facts,
    }
    return GroupRow(**known)  # type: ignore[arg-type]


BASE = GroupSource("table", 7, 70, None, "public", "base", "r", 100.0)
ABOVE = GroupSource("stream_table", 1001, None, 1, "public", "t1", "r", 100.0)


@pytest.mark.parametrize(
    ("facts", "window", "mode", "word"),
    [
        ({}, Window(0), "NO_DATA", None),
        ({}, Window(3), "DIFFERENTIAL", None),
        ({}, Window(3, marked=True), "RECOMPUTE", "truncated"),
        ({"is_populated": False}, Window(3), "INITIAL", "first"),
        ({"recompute_reason": "boom"}, Window(0), "RECOMPUTE", "boom"),
        ({"effective_mode": "FULL", "mode_reason": "random()"}, Window(0), "NO_DATA", None),
        ({"effective_mode": "FULL", "mode_reason": "random()"}, Window(1), "FULL", "random()"),
        ({"effective_mode": "FULL", "definition": {"unwatched": True}}, Window(0), "FULL", None),
        ({"options": {"max_delta_fraction": 0.1}}, Window(10), "FULL", "10 or more"),
        ({"options": {"max_delta_fraction": 0.1}, "requested_mode": "DIFFERENTIAL"}, Window(10), "DIFFERENTIAL", None),
        ({"cost": {"full_ms": 1.0, "change_ms": 100.0, "changes_seen": 2}}, Window(2000), "FULL", "cheaper"),
    ],
)
def test_what_a_refresh_would_be(facts: dict[str, object], window: Window, mode: str, word: str | None) -> None:
    found = expect(row(1, BASE, **facts), {7: window}, sources_move=False)
    assert found.mode == mode
    assert found.reason is None if word is None else word in (found.reason or "")


def test_the_preview_shows_stale_ancestors_in_order_with_mode_and_group() -> None:
    now = situation([(1, 2)], t1="1h", t2="5s", t3="5s", t4="1h")
    agenda = make_agenda(now)
    rows = (row(1, BASE), row(2, ABOVE, consumed={"1001": 5}), row(3, BASE, effective_mode="FULL"))
    preview = make_preview(now, agenda, rows, {1: {7: Window(4)}, 3: {7: Window(4)}})
    assert [(entry.group, entry.name, entry.mode, entry.changes) for entry in preview.due] == [
        (1, "public.t1", "DIFFERENTIAL", 4),
        (1, "public.t2", "DIFFERENTIAL", 0),
        (2, "public.t3", "FULL", 4),
    ]
    assert "ancestor" in preview.due[0].why
    assert [entry.name for entry in preview.held] == ["public.t4"]
    assert preview.held[0].until == NOW + timedelta(hours=1) - 10 * SECOND


def test_a_fresh_ancestor_is_not_refreshed_and_its_unread_changes_are() -> None:
    now = situation([(1, 2)], t1="1h", t2="5s")
    rows = (row(1, BASE), row(2, ABOVE, consumed={"1001": 4}))
    preview = make_preview(now, make_agenda(now), rows, {1: {7: Window(0)}})
    assert [(entry.name, entry.mode) for entry in preview.due] == [("public.t2", "DIFFERENTIAL")]


def test_the_preview_says_what_holds_a_stream_table_back() -> None:
    now = situation([], t1="5s", t2="5s", t3="1h")
    now = changed(now, 1, status="SUSPENDED", last_error="division by zero")
    now = changed(now, 2, retry_at=NOW + SECOND, last_error="lock")
    held = {entry.name: entry for entry in make_preview(now, make_agenda(now), (), {}).held}
    assert (held["public.t1"].gate, held["public.t1"].final) == ("status", True)
    assert "division by zero" in held["public.t1"].why
    assert (held["public.t2"].gate, held["public.t2"].until) == ("backoff", NOW + SECOND)
    assert (held["public.t3"].gate, held["public.t3"].decision) == ("due", "hold")
