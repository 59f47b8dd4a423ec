"""The benchmark suite works: one scenario on the smallest data, its report, its JSON, its pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest

from tests.benchmarks import check, compare, databases, goals, harness, pictures, report
from tests.benchmarks.cases import ALONE
from tests.benchmarks.cases.tpch import NAMES
from tests.benchmarks.model import METHODS, Reading, Run, change
from tests.support import servers

pytestmark = pytest.mark.newest_only


@pytest.fixture(scope="module")
def run(server: servers.Server) -> Run:
    """One scenario at two change rates, every method, each result checked against the query."""
    measured = Run(about={"processors": 1})
    scenario = next(found for found in ALONE if found.name == "recursion")
    harness.measure(measured, [scenario], 0.001, [change("1"), change("10%")], harness.Options(server.dsn(), repeats=2))
    return measured


def test_every_method_is_measured_at_every_change_rate(run: Run) -> None:
    found = {(measured.change, measured.method) for measured in run.measurements if len(measured.ms) == 2}
    assert found == {(rate, method) for rate in ("1 row", "10%") for method in METHODS}
    rows = {measured.change: measured.rows for measured in run.measurements}
    assert rows["1 row"] == 1
    # A random sample, cut off at 100.
    assert 70 <= rows["10%"] <= 100


def test_a_run_survives_being_written_and_read(run: Run, tmp_path: Path) -> None:
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json").medians() == run.medians()
    assert json.loads((tmp_path / "run.json").read_text())["about"]["processors"] == 1


def test_runs_are_joined_into_one_report(run: Run) -> None:
    other = Run(about={"processors": 2}, readings=[Reading(8, "capture", 1.2, "x", 1.5)])
    both = Run.joined([run, other])
    assert both.medians() == run.medians()
    assert "goal 8: 1 of 1 met" in report.text(both)


def test_the_report_shows_every_method_and_judges_the_compiler(run: Run) -> None:
    text = report.text(run)
    assert "recursion" in text
    assert "differential - hand" in text
    assert re.search(r"goal 7: [01] of 1 met", text)


def test_a_run_compared_with_itself_has_not_changed(run: Run, tmp_path: Path) -> None:
    run.write(tmp_path / "run.json")
    text = compare.compared(tmp_path / "run.json", tmp_path / "run.json")
    assert text.count("1.00x") == 6
    assert "slower" not in text


def test_a_sweep_is_drawn(run: Run, tmp_path: Path) -> None:
    assert pictures.draw(run, tmp_path) == [], "two points make no curve"
    series = {"differential": [(1.0, 2.0), (100.0, 3.0)], "refresh": [(1.0, 50.0), (100.0, 51.0)]}
    assert pictures.chart("a <b>", "rows", series).count("<polyline") == 2


def test_a_wrong_result_is_not_accepted(server: servers.Server) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        check.assert_equal(conn, "VALUES (1), (2), (2)", "VALUES (2), (1), (2)", what="same")
        with pytest.raises(check.WrongResult, match="differs"):
            check.assert_equal(conn, "SELECT 1 AS a", "SELECT 1 AS a UNION ALL SELECT 1", what="other")


def test_every_goal_names_a_scenario_that_exists() -> None:
    names = {scenario.name for scenario in ALONE}
    assert {goal.scenario for goal in goals.FASTER} <= names
    assert len(names) == len(ALONE)
    assert not names & set(NAMES)


@pytest.mark.parametrize(("value", "at_most", "met"), [(1.0, True, True), (3.0, True, False), (3.0, False, True)])
def test_a_reading_meets_its_target_or_not(value: float, at_most: bool, met: bool) -> None:
    assert Reading(1, "a", value, "x", 2.0, at_most).met is met


def test_databases_of_dead_runs_are_swept(server: servers.Server) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE bench_999999999_1 TEMPLATE template0")
        databases.sweep(server.dsn())
        assert conn.execute("SELECT FROM pg_database WHERE datname = 'bench_999999999_1'").rowcount == 0
