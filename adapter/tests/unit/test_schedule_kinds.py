"""Schedules as text: what is accepted, what is refused, and when they are due."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgtrickle.errors import InvalidOption
from pgtrickle.schedule import KINDS, DueFacts, next_due, parse
from pgtrickle.schedule.kinds.cron import next_match
from pgtrickle.schedule.kinds.duration import LONGEST, UNITS

NOW = datetime(2024, 6, 1, 12, 0, tzinfo=timezone.utc)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "canonical", "seconds"),
    [
        ("30s", "30s", 30),
        ("1h30m", "1h30m", 5400),
        ("90m", "1h30m", 5400),
        ("  2D ", "2d", 172_800),
        ("1w", "1w", 604_800),
        ("7d", "1w", 604_800),
        ("001s", "1s", 1),
    ],
)
def test_a_duration_is_read_as_its_canonical_text_and_seconds(text: str, canonical: str, seconds: int) -> None:
    schedule = parse(text)
    assert (schedule.kind, schedule.text, schedule.period) == ("duration", canonical, timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("-5s", "negative"),
        ("30", "units"),
        ("1.5h", "units"),
        ("5x", "units"),
        ("0s", "too short"),
        ("0h0m", "too short"),
        ("99999999999999999999999s", "too long"),
        ("9" * 5000 + "s", "too long"),
        ("40000d", "too long"),
        ("sometimes", "not valid"),
        ("5 minutes", "2 fields"),
        ("* * * *", "4 fields"),
        ("0 0 0 * * * *", "7 fields"),
        ("61 * * * *", "out of range"),
        ("*/0 * * * *", "not acceptable"),
        ("0 0 30 2 *", "next date"),
        ("0 0 * * XYZ", "not acceptable"),
        ("R * * * *", "'R' is not a field"),
        ("H * * * *", "'H' is not a field"),
        ("@often", "@often"),
        ("0 6 * * * Mars/Base", "Mars/Base"),
        ("0 6 * * * ../etc/passwd", "not a field"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_with_reason_and_hint(text: str, word: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse(text)
    assert word in caught.value.message
    assert caught.value.hint


def test_words_are_read_in_any_letter_case() -> None:
    assert parse("Continuous").kind == "continuous"
    assert parse("CALCULATED").kind == "calculated"


@given(st.integers(min_value=1, max_value=int(LONGEST.total_seconds())))
def test_every_duration_survives_being_written_and_read(seconds: int) -> None:
    schedule = parse(f"{seconds}s")
    assert schedule.period == timedelta(seconds=seconds)
    assert parse(schedule.text) == schedule


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5))
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    seconds = sum(number * UNITS[unit] for number, unit in parts)
    if 1 <= seconds <= LONGEST.total_seconds():
        assert parse(text).period == timedelta(seconds=seconds)
    else:
        with pytest.raises(InvalidOption):
            parse(text)


@pytest.mark.parametrize(
    "text",
    ["30s", "continuous", "calculated", "@hourly", "@daily Asia/Tokyo", "0 6 * * 1-5 Europe/Berlin", "*/10 * * * * *",
     "0 0 * * FRI", "0 0 0 * * FRI", "0 0 * * 1 UTC", "15,45 8-18/2 1 JAN * CET"],
)  # fmt: skip
def test_every_kind_survives_being_written_and_read(text: str) -> None:
    schedule = parse(text)
    assert schedule.kind in KINDS
    assert parse(schedule.text) == schedule


def test_every_kind_is_due_at_once_if_it_was_never_loaded() -> None:
    for text in ("30s", "continuous", "calculated", "@yearly"):
        assert next_due(parse(text), DueFacts(now=NOW, last_refresh=None)) == NOW


def test_a_duration_is_due_one_period_after_the_last_refresh() -> None:
    assert next_due(parse("90s"), DueFacts(NOW, utc("2024-06-01T11:00"))) == utc("2024-06-01T11:01:30")


def test_calculated_is_due_after_its_effective_period_and_never_without_one() -> None:
    facts = DueFacts(NOW, utc("2024-06-01T11:00"), timedelta(seconds=5))
    assert next_due(parse("calculated"), facts) == utc("2024-06-01T11:00:05")
    assert next_due(parse("calculated"), DueFacts(NOW, utc("2024-06-01T11:00"))) is None


def test_cron_without_a_zone_is_utc() -> None:
    assert next_match(parse("0 6 * * *"), NOW) == utc("2024-06-02T06:00")


def test_cron_follows_its_time_zone_through_the_seasons() -> None:
    schedule = parse("0 6 * * * Europe/Berlin")
    assert next_match(schedule, utc("2024-01-15T00:00")) == utc("2024-01-15T05:00")
    assert next_match(schedule, utc("2024-07-15T00:00")) == utc("2024-07-15T04:00")


def test_six_fields_have_seconds_first() -> None:
    assert next_match(parse("30 * * * * *"), NOW) == NOW + timedelta(seconds=30)


def test_a_fixed_hour_that_the_clock_skips_runs_once_behind_the_gap() -> None:
    schedule = parse("30 2 * * * Europe/Berlin")
    first = next_match(schedule, utc("2024-03-30T12:00"))
    assert first == utc("2024-03-31T01:30")
    assert next_match(schedule, first) == utc("2024-04-01T00:30")


def test_a_fixed_hour_that_comes_twice_runs_once() -> None:
    schedule = parse("30 2 * * * Europe/Berlin")
    first = next_match(schedule, utc("2024-10-26T12:00"))
    assert first == utc("2024-10-27T00:30")
    assert next_match(schedule, first) == utc("2024-10-28T01:30")


@pytest.mark.parametrize("day", ["2024-03-30T22:00", "2024-10-26T22:00"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_every_ten_minutes_stays_every_ten_minutes_when_the_clock_changes(day: str, zone: str) -> None:
    schedule = parse(f"*/10 * * * * {zone}")
    moment = utc(day)
    for _ in range(60):
        following = next_match(schedule, moment)
        assert following - moment == timedelta(minutes=10)
        moment = following


CRONS = st.builds(
    "{} {} {} {} {} {}".format,
    st.sampled_from(["0", "*/7", "59", "10-20/5", "0,30"]),
    st.sampled_from(["*", "*/3", "2", "0", "23", "1-3"]),
    st.sampled_from(["*", "1", "31", "10-12", "L"]),
    st.sampled_from(["*", "3", "10", "1-6"]),
    st.sampled_from(["*", "1-5", "0", "sun"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/St_Johns"]),
)


@given(CRONS, st.integers(min_value=1_600_000_000, max_value=1_900_000_000))
def test_the_next_match_is_later_and_nothing_matches_in_between(text: str, second: int) -> None:
    try:
        schedule = parse(text)
    except InvalidOption:
        return
    after = datetime.fromtimestamp(second, timezone.utc)
    found = next_match(schedule, after)
    assert found > after
    # Asking again from just before must find the same moment: no match was jumped over, none is invented.
    assert next_match(schedule, found - timedelta(microseconds=1)) == found
    assert next_match(schedule, after + (found - after) / 2) == found
    local = found.astimezone(ZoneInfo(text.rsplit(" ", 1)[1]))
    assert local.second == 0


def test_a_schedule_promises_an_age_only_where_it_knows_one() -> None:
    promises = {text: parse(text).promise for text in ("90s", "continuous", "calculated", "@daily")}
    assert promises == {
        "90s": timedelta(seconds=90),
        "continuous": timedelta(seconds=10),
        "calculated": None,
        "@daily": None,
    }
