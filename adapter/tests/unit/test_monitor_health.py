"""Health, freshness and pictures."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pgtrickle.monitor.freshness import complaint
from pgtrickle.monitor.health import BufferFacts, TableFacts, judge
from pgtrickle.monitor.picture import Lineage, Node, to_dot, to_mermaid, to_text
from pgtrickle.results import StatusRow

GOOD = TableFacts("public.t", "ACTIVE", None, True, 0, None, False, False)
ROW = StatusRow(
    name="public.t",
    schema="public",
    table="t",
    relid=1,
    status="ACTIVE",
    refresh_mode="AUTO",
    effective_mode="DIFFERENTIAL",
    mode_reason=None,
    schedule="30s",
    is_populated=True,
    stale=False,
    staleness_seconds=20.0,
    last_refresh_at=None,
    data_timestamp=None,
    consecutive_errors=0,
    last_error=None,
    retry_at=None,
)


def test_nothing_at_all_is_well() -> None:
    health = judge((), (), 0)
    assert (health.status, health.well, health.problems) == ("EMPTY", True, ())


def test_a_good_stream_table_with_a_runner_is_well() -> None:
    assert judge((GOOD,), (BufferFacts("public.s", 10, 100),), 1).status == "OK"


@pytest.mark.parametrize(
    ("facts", "status", "word"),
    [
        ({"status": "SUSPENDED", "last_error": "boom"}, "CRITICAL", "boom"),
        ({"status": "ERROR", "consecutive_errors": 2, "last_error": "boom"}, "CRITICAL", "2 failed"),
        ({"consecutive_errors": 1, "last_error": "lock"}, "WARNING", "1 failed"),
        ({"is_populated": False}, "WARNING", "never loaded"),
        ({"stale": True}, "WARNING", "older"),
        ({"demoted": True}, "WARNING", "recomputes"),
    ],
)
def test_what_is_wrong_with_a_stream_table_is_named_with_a_hint(
    facts: dict[str, object], status: str, word: str
) -> None:
    health = judge((replace(GOOD, **facts),), (), 1)  # type: ignore[arg-type]
    assert (health.status, health.well) == (status, False)
    assert word in health.problems[0].text
    assert "pgtrickle" in health.problems[0].hint


def test_stream_tables_without_a_runner_are_a_warning() -> None:
    health = judge((GOOD,), (), 0)
    assert [problem.object_name for problem in health.problems] == ["runner"]


def test_a_change_buffer_near_its_limit_is_a_warning() -> None:
    health = judge((GOOD,), (BufferFacts("public.s", 90, 100), BufferFacts("public.u", 10, 100)), 1)
    assert [problem.object_name for problem in health.problems] == ["public.s"]


def test_the_worst_problem_comes_first() -> None:
    health = judge((replace(GOOD, stale=True), replace(GOOD, name="public.u", status="SUSPENDED")), (), 1)
    assert [problem.severity for problem in health.problems] == ["ERROR", "WARNING"]


@pytest.mark.parametrize(
    ("facts", "max_age", "word"),
    [
        ({}, None, None),
        ({}, 30, None),
        ({}, 10, "older than 10 s"),
        ({"staleness_seconds": None}, 10, "older"),
        ({"stale": True}, None, "its schedule"),
        ({"stale": True}, 30, None),
        ({"status": "SUSPENDED"}, 30, "suspended"),
        ({"is_populated": False}, 30, "never loaded"),
        ({"consecutive_errors": 4, "last_error": "boom"}, 30, "boom"),
    ],
)
def test_freshness_complains_about_age_and_state(
    facts: dict[str, object], max_age: int | None, word: str | None
) -> None:
    limit = None if max_age is None else timedelta(seconds=max_age)
    found = complaint(replace(ROW, **facts), limit)  # type: ignore[arg-type]
    assert found is None if word is None else word in (found or "")


LINEAGE = Lineage(
    (
        Node("public.orders", "table"),
        Node('public."a ""b"', "stream_table", "30s", "DIFFERENTIAL", "ACTIVE"),
        Node("public.c", "stream_table", "1h", "FULL", "SUSPENDED"),
    ),
    (("public.orders", 'public."a ""b"'), ("public.orders", "public.c"), ('public."a ""b"', "public.c")),
)


def test_mermaid_shows_tables_as_cylinders_and_escapes_quotes() -> None:
    assert to_mermaid(LINEAGE).splitlines() == [
        "flowchart LR",
        '    n0[("public.orders")]',
        '    n1["public.#quot;a #quot;#quot;b#quot;<br/>30s, DIFFERENTIAL"]',
        '    n2["public.c<br/>1h, FULL, SUSPENDED"]',
        "    n0 --> n1",
        "    n0 --> n2",
        "    n1 --> n2",
    ]


def test_dot_escapes_quotes() -> None:
    text = to_dot(LINEAGE)
    assert '"public.\\"a \\"\\"b\\"" -> "public.c";' in text
    assert text.startswith("digraph")
    assert text.endswith("}")


def test_text_is_a_tree_that_repeats_nothing() -> None:
    assert to_text(LINEAGE).splitlines() == [
        "public.orders",
        '  public."a ""b" (30s, DIFFERENTIAL)',
        "    public.c (1h, FULL, SUSPENDED)",
        "  public.c (1h, FULL, SUSPENDED)",
    ]
    assert to_text(Lineage((), ())) == "there are no stream tables"
