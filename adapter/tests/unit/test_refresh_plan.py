"""What a refresh does follows from facts alone."""

from __future__ import annotations

import pytest

from pgtrickle.plan import InputKey, Plan, SourceNeed
from pgtrickle.refresh.plan import WHOLE, Action, MemberFacts, Window, plan_member

TABLE = SourceNeed(relid=1, kind="table", columns={1: "a"})
DIFFERENTIAL = Plan(stages=(), sources=(TABLE,), mode="DIFFERENTIAL", canonical="")
FULL = Plan(stages=(), sources=(TABLE,), mode="FULL", canonical="", full_reason="because")


def decide(plan=DIFFERENTIAL, **facts):
    return plan_member(MemberFacts(**{"plan": plan, "adaptive": True, "populated": True, **facts}))


def test_nothing_changed_means_no_data():
    assert decide(windows={1: Window()}).action is Action.NO_DATA


def test_changed_rows_are_applied_differentially():
    found = decide(windows={1: Window(rows=3)})
    assert (found.action, found.changes, found.changed) == (Action.DIFFERENTIAL, 3, {InputKey("table", 1)})


def test_a_changed_stream_table_is_a_change():
    assert decide(stream_tables=frozenset({9})).changed == {InputKey("stream_table", 9)}


def test_a_mark_recomputes_because_rows_are_missing():
    found = decide(windows={1: Window(rows=1, marked=True)})
    assert found.action is Action.RECOMPUTE
    assert found.reason


def test_the_first_load_comes_before_everything_else():
    assert decide(populated=False, recompute_reason="x", forced=True).action is Action.INITIAL


@pytest.mark.parametrize("facts", [{"forced": True}, {"recompute_reason": "restored"}])
def test_a_recompute_happens_without_changes_too(facts):
    assert decide(**facts).action is Action.RECOMPUTE


def test_stages_that_hold_nothing_are_computed_when_something_changed():
    reason = f"{WHOLE}: division by zero"
    assert decide(incomplete=reason, windows={1: Window()}).action is Action.NO_DATA
    found = decide(incomplete=reason, windows={1: Window(rows=1)})
    assert found.action is Action.RECOMPUTE
    assert reason in (found.reason or "")


def test_many_changes_prefer_full_only_where_auto_was_asked_for():
    many = {1: Window(rows=5_000)}
    preferred = decide(windows=many, limit=1_000)
    assert (preferred.action, preferred.by_cost) == (Action.FULL, True)
    assert preferred.reason
    assert decide(windows=many, limit=1_000, adaptive=False).action is Action.DIFFERENTIAL


def test_a_full_plan_runs_when_something_changed_and_says_why():
    assert decide(FULL, windows={1: Window(rows=1)}).reason == "because"
    assert decide(FULL, windows={1: Window(marked=True)}).action is Action.FULL
    assert decide(FULL, windows={1: Window()}).action is Action.NO_DATA


def test_what_nobody_can_watch_is_looked_at_every_time():
    foreign = SourceNeed(relid=2, kind="table", columns={}, capturable=False)
    for plan in (
        Plan(stages=(), sources=(foreign,), mode="FULL", canonical=""),
        Plan(stages=(), sources=(), mode="FULL", canonical="", unwatched=True),
    ):
        assert decide(plan).action is Action.FULL
