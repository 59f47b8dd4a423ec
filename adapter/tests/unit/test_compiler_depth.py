"""Deep queries: how deep they are is known before anything recurses, and the caller's stack does not count."""

from __future__ import annotations

import sys
import threading

import pytest

from pgtrickle.errors import InvalidQuery
from pgtrickle.parse.depth import MAX_DEPTH, too_deep
from pgtrickle.parse.select import parse_query
from pgtrickle.recursion import LEVELS, deep

MANY = 20_000

DEEP = {
    "a sum": "SELECT " + "+".join(["v"] * MANY) + " FROM t",
    "parentheses": "SELECT " + "(" * MANY + "v" + ")" * MANY + " FROM t",
    "calls": "SELECT " + "abs(" * MANY + "v" + ")" * MANY + " FROM t",
    "negations": "SELECT " + "NOT " * MANY + "v FROM t",
    "cases": "SELECT " + "CASE WHEN v THEN 1 ELSE " * MANY + "2" + " END" * MANY + " FROM t",
    "casts": "SELECT v" + "::int" * 2 * MANY + " FROM t",
    "collations": "SELECT v" + ' COLLATE "C"' * MANY + " FROM t",
    "a union": " UNION ALL ".join(["SELECT 1, 2 FROM t WHERE v = 1 AND w = 2"] * MANY),
    "joins": "SELECT 1 FROM t" + " JOIN t ON a = b AND c = d" * MANY,
    "subqueries": "SELECT * FROM (" * MANY + "SELECT 1" + ") s" * MANY,
    "sums in sums": "SELECT " + "+".join(["v"] * (MAX_DEPTH - 9)) + "+(" + "+".join(["v"] * 99) + ") FROM t",
}

FLAT = {
    "a list": "SELECT v IN (" + ",".join(map(str, range(MANY))) + ") FROM t",
    "values": "VALUES " + ",".join(["(-1, 2 + 3, (4))"] * MANY),
    "conditions": "SELECT 1 FROM t WHERE " + " AND ".join(["(v + 1) <> -2"] * MANY),
    "columns": "SELECT " + ", ".join(["v + 1"] * MANY) + " FROM t",
    "no SQL": "'" + "+" * MANY,
    "a long name": 'SELECT "' + "+" * MANY + '"',
}


@pytest.mark.parametrize("what", DEEP)
def test_a_query_that_would_overflow_the_stack_is_refused_before_it_is_parsed(what: str) -> None:
    with pytest.raises(InvalidQuery, match=f"more than {MAX_DEPTH} levels"):
        parse_query(DEEP[what])


@pytest.mark.parametrize("what", FLAT)
def test_a_long_query_is_not_a_deep_one(what: str) -> None:
    assert not too_deep(FLAT[what])


def levels(left: int) -> int:
    return 0 if left == 0 else 1 + levels(left - 1)


@pytest.mark.parametrize("above", [0, 300, 900])
def test_the_callers_stack_does_not_count(above: int) -> None:
    def work(left: int) -> int:
        if left:
            return work(left - 1)
        with deep():
            return levels(LEVELS - 50)

    # A thread's stack begins empty, whatever pytest has on its own.
    found: list[int] = []
    limit = sys.getrecursionlimit()
    thread = threading.Thread(target=lambda: found.append(work(above)))
    thread.start()
    thread.join()
    assert found == [LEVELS - 50]
    assert sys.getrecursionlimit() == limit


def test_depth_has_an_end_and_the_limit_is_restored() -> None:
    limit = sys.getrecursionlimit()
    with pytest.raises(RecursionError), deep():
        levels(LEVELS + 50)
    assert sys.getrecursionlimit() == limit


def test_the_last_thread_to_leave_restores_the_limit() -> None:
    limit = sys.getrecursionlimit()
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with deep():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(10)
    with deep():
        assert levels(LEVELS - 50) == LEVELS - 50
    assert sys.getrecursionlimit() > limit
    leave.set()
    thread.join()
    assert sys.getrecursionlimit() == limit
