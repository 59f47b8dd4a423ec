"""Which stream tables are due, and what happens after failures."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from pgtrickle.gates.retry import FIRST_DELAY, LONGEST_DELAY, is_retryable
from pgtrickle.gates.retry import decide as decide_retry
from pgtrickle.schedule import parse
from pgtrickle.schedule.due import (
    DEFAULT_PERIOD,
    UNWATCHED_PERIOD,
    TableState,
    decide,
    effective_periods,
)
from pgtrickle.schedule.kinds.continuous import PROOF_PERIOD
from pgtrickle.schedule.order import Dag

NOW = datetime(2024, 6, 1, 12, 0, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)


def state(schedule: str, age: timedelta = timedelta(0), **facts: object) -> TableState:
    return replace(TableState(1, "public.t", parse(schedule), last_refresh=NOW - age), **facts)  # type: ignore[arg-type]


def periods(edges: list[tuple[int, int]], **schedules: str) -> dict[int, timedelta | None]:
    parsed = {int(key[1:]): parse(text) for key, text in schedules.items()}
    return effective_periods(parsed, Dag(parsed, edges))


def test_calculated_takes_the_shortest_period_of_its_dependents() -> None:
    found = periods([(1, 2), (1, 3)], t1="calculated", t2="5m", t3="30s")
    assert found[1] == timedelta(seconds=30)


def test_calculated_looks_through_calculated_dependents() -> None:
    found = periods([(1, 2), (2, 3)], t1="calculated", t2="calculated", t3="continuous")
    assert found[1] == found[2] == timedelta(0)


def test_calculated_without_dependents_has_the_default_period() -> None:
    assert periods([], t1="calculated")[1] == DEFAULT_PERIOD


def test_cron_dependents_do_not_count_for_calculated() -> None:
    assert periods([(1, 2), (1, 3)], t1="calculated", t2="@daily", t3="1h")[1] == timedelta(hours=1)
    assert periods([(1, 2)], t1="calculated", t2="@daily")[1] is None


def test_a_duration_is_due_when_its_period_is_over() -> None:
    period = timedelta(seconds=30)
    assert decide(state("30s", 31 * SECOND), period, NOW).now
    early = decide(state("30s", 29 * SECOND), period, NOW)
    assert not early.now
    assert early.wake == NOW + SECOND


def test_what_was_never_loaded_is_due_whatever_its_schedule_says() -> None:
    assert decide(state("@yearly", last_refresh=None), None, NOW).now
    assert decide(state("@yearly", populated=False), None, NOW).now


def test_continuous_is_due_when_a_source_has_changed() -> None:
    zero = timedelta(0)
    assert decide(state("continuous", changed=True), zero, NOW).now
    assert not decide(state("continuous"), zero, NOW).now


def test_continuous_without_changes_proves_its_freshness_now_and_then() -> None:
    assert decide(state("continuous", PROOF_PERIOD), timedelta(0), NOW).now


def test_continuous_over_a_source_that_cannot_be_watched_is_not_recomputed_without_pause() -> None:
    assert not decide(state("continuous", watched=False, changed=True), timedelta(0), NOW).now
    assert decide(state("continuous", UNWATCHED_PERIOD, watched=False), timedelta(0), NOW).now


def test_suspended_is_never_due() -> None:
    due = decide(state("1s", timedelta(days=1), status="SUSPENDED"), SECOND, NOW)
    assert not due.now
    assert due.wake is None


def test_after_a_failure_the_runner_waits_and_wakes_up_in_time() -> None:
    due = decide(state("1s", timedelta(days=1), retry_at=NOW + 7 * SECOND, last_error="boom"), SECOND, NOW)
    assert not due.now
    assert due.wake == NOW + 7 * SECOND
    assert "boom" in due.trail[-1].decision.reason


def test_what_is_being_created_belongs_to_its_creator() -> None:
    assert not decide(state("1s", status="INITIALIZING", last_refresh=None), SECOND, NOW).now


def test_calculated_with_cron_dependents_only_is_not_due_by_itself() -> None:
    due = decide(state("calculated", timedelta(days=1)), None, NOW)
    assert not due.now
    assert due.wake is None
    assert "cron" in due.reason


@pytest.mark.parametrize(
    "sqlstate", ["40001", "40P01", "08006", "55P03", "57014", "57P01", "53300", "53100", "58030", "25P03"]
)
def test_failures_that_pass_by_themselves_never_suspend(sqlstate: str) -> None:
    assert is_retryable(sqlstate)
    assert not decide_retry(sqlstate, 1000).suspend


@pytest.mark.parametrize("sqlstate", ["42P01", "42501", "22012", "23505", "28000", "55000", "P0001", None])
def test_permanent_failures_suspend_after_some_in_a_row(sqlstate: str | None) -> None:
    assert [decide_retry(sqlstate, failures).suspend for failures in (1, 2, 3, 4)] == [False, False, True, True]


def test_the_delay_doubles_up_to_a_bound() -> None:
    delays = [decide_retry("40001", failures).delay for failures in range(1, 50)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
