"""FULL or DIFFERENTIAL is learned from history."""

from __future__ import annotations

from dataclasses import replace

from pgtrickle.refresh.cost import (
    COUNT_CAP,
    ENOUGH,
    EXPLORE_EVERY,
    SMALL_WINDOW,
    TRY_EVERY,
    CostHistory,
    crossover,
    learn_differential,
    learn_full,
)


def test_without_any_history_differential_is_never_left():
    assert crossover(CostHistory(), source_rows=10) == COUNT_CAP


def test_a_cold_start_prefers_full_for_about_a_third_of_the_rows():
    limit = crossover(CostHistory(full_ms=100.0), source_rows=1_000_000)
    assert 200_000 < limit < 500_000


def test_small_windows_are_differential_however_small_the_sources_are():
    assert crossover(CostHistory(full_ms=1.0), source_rows=5) >= SMALL_WINDOW // 4


def test_a_dear_change_lowers_the_limit_and_a_cheap_one_raises_it():
    cheap = crossover(CostHistory(full_ms=1000.0, change_ms=0.01, changes_seen=ENOUGH), 1_000_000)
    dear = crossover(CostHistory(full_ms=1000.0, change_ms=0.5, changes_seen=ENOUGH), 1_000_000)
    assert dear < cheap


def test_slow_small_windows_lead_to_full_until_it_is_time_to_try_again():
    slow = CostHistory(full_ms=10.0, small_ms=500.0, smalls_seen=ENOUGH)
    assert crossover(slow, 1000) == 1
    assert crossover(replace(slow, full_streak=EXPLORE_EVERY), 1000) == COUNT_CAP


def test_slow_large_windows_are_put_to_the_test_again_too():
    slow = CostHistory(full_ms=10.0, change_ms=1.0, changes_seen=ENOUGH)
    assert crossover(slow, 1_000_000) == SMALL_WINDOW
    assert crossover(replace(slow, full_streak=EXPLORE_EVERY), 1_000_000) == COUNT_CAP


def test_one_slow_refresh_is_an_accident():
    loaded = learn_full(CostHistory(), 10.0, by_decision=False, load=True)
    small = learn_differential(loaded, changes=1, duration_ms=900.0)
    assert crossover(small, 1_000_000) == crossover(loaded, 1_000_000)
    assert crossover(learn_differential(small, changes=1, duration_ms=900.0), 1_000_000) == 1
    assert learn_differential(small, changes=1, duration_ms=7.0).small_ms == 7.0
    large = learn_differential(loaded, changes=10_000, duration_ms=9_000.0)
    assert crossover(large, 1_000_000) == crossover(loaded, 1_000_000)
    assert crossover(learn_differential(large, changes=10_000, duration_ms=9_000.0), 1_000_000) == SMALL_WINDOW
    assert learn_differential(large, changes=10_000, duration_ms=20.0).change_ms == 0.002


def test_what_a_recompute_takes_replaces_what_the_load_took():
    loaded = learn_full(CostHistory(), 100.0, by_decision=False, load=True)
    again = learn_full(loaded, 300.0, by_decision=True)
    assert (loaded.full_ms, again.full_ms) == (100.0, 300.0)
    assert learn_full(again, 400.0, by_decision=True).full_ms == 325.0
    assert learn_full(again, 200.0, by_decision=True).full_ms == 250.0


def test_a_recompute_is_tried_once_where_deltas_take_a_good_part_of_the_load():
    history = learn_full(CostHistory(), 1_000.0, by_decision=False, load=True)
    for _ in range(2):
        history = learn_differential(history, changes=10_000, duration_ms=500.0)
    assert crossover(history, 1_000_000) < 10_000
    assert crossover(learn_full(history, 1_000.0, by_decision=True), 1_000_000) > 10_000
    assert crossover(learn_full(history, 200.0, by_decision=True), 1_000_000) < 10_000


def test_what_was_a_little_slower_is_tried_again_soon_and_a_shorter_time_counts_for_more():
    history = CostHistory(full_ms=100.0, change_ms=0.015, changes_seen=ENOUGH, full_streak=TRY_EVERY - 1)
    assert crossover(history, 1_000_000) < 10_000
    history = replace(history, full_streak=TRY_EVERY)
    assert crossover(history, 1_000_000) > 10_000
    assert learn_differential(history, changes=10_000, duration_ms=50.0).change_ms == 0.01


def test_averages_follow_what_is_measured():
    history = learn_full(CostHistory(), 100.0, by_decision=False)
    assert history.full_ms == 100.0
    assert 100.0 < learn_full(history, 200.0, by_decision=True).full_ms < 200.0
    assert learn_full(history, 200.0, by_decision=True).full_streak == 1


def test_small_and_large_windows_are_learned_apart():
    small = learn_differential(CostHistory(full_streak=7), changes=3, duration_ms=5.0)
    assert (small.small_ms, small.change_ms, small.full_streak) == (5.0, None, 0)
    large = learn_differential(CostHistory(), changes=2_000, duration_ms=10.0)
    assert (large.small_ms, large.change_ms) == (None, 0.005)
