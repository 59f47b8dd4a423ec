"""Gates are pure: facts in, a decision with its reason out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from pgtrickle import gates
from pgtrickle.gates import GateFacts, Hold, Pass, Refuse

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FACTS = GateFacts(name="public.s", now=NOW, manual=False, pulled=False, status="ACTIVE", populated=True)


def decision(**changes):
    return gates.verdict(gates.decide(replace(FACTS, **changes)))


def test_nothing_stands_against_an_active_stream_table():
    assert decision() == Pass()
    assert [one.gate for one in gates.decide(FACTS)] == [name for name, _ in gates.GATES]


def test_a_suspended_stream_table_is_refused_even_by_hand():
    refused = decision(status="SUSPENDED", manual=True, last_error="division by zero")
    assert isinstance(refused, Refuse)
    assert "division by zero" in refused.reason
    assert "resume" in refused.hint


def test_an_erroring_stream_table_may_be_tried_again():
    assert decision(status="ERROR") == Pass()


@pytest.mark.parametrize("manual", [False, True])
def test_the_first_load_belongs_to_the_creator(manual):
    held = decision(status="INITIALIZING", populated=False, manual=manual)
    assert isinstance(held, Hold)
    assert "create_or_replace" in held.reason


def test_a_stream_table_that_was_never_loaded_may_be():
    assert decision(populated=False) == Pass()


def test_a_failed_one_is_held_until_its_retry_time_unless_asked_for_by_hand():
    later = NOW + timedelta(seconds=5)
    held = decision(retry_at=later, last_error="boom")
    assert isinstance(held, Hold)
    assert held.until == later
    assert decision(retry_at=later, manual=True) == Pass()
    assert decision(retry_at=NOW) == Pass()


def test_the_schedule_holds_only_what_is_scheduled():
    later = NOW + timedelta(seconds=5)
    assert decision(due_at=later) == Hold("public.s is not due yet", until=later)
    assert decision(due_at=later, manual=True) == Pass()
    assert decision(due_at=later, pulled=True) == Pass()
    assert decision(due_at=NOW) == Pass()


def test_the_trail_ends_at_the_gate_that_decides():
    trail = gates.decide(replace(FACTS, status="SUSPENDED"))
    assert [one.gate for one in trail] == ["status"]
    assert trail[0].as_dict()["decision"] == "refuse"
