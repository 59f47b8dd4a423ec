"""Differences of what queries use besides relations: functions, types, operators, collations, text search, casts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pgtrickle.capture.differences import Difference, Facts, Severity

#: Where the facts of a function have what; the rest is how it computes, which the plan does not depend on.
_NAME, _VOLATILITY, _NAMESAKES, _NEW_NAME = 0, 3, -3, -2


def objects_changed(recorded: Facts, present: Facts) -> Iterator[Difference]:
    """The differences of two fingerprints of one stream table."""
    yield from _functions(recorded, present)
    for part, what, compare in _PARTS:
        before = recorded.get(part, {})
        for key, new in present[part].items():
            old = before.get(key)
            if old is None or new == old:
                continue
            if new is None:
                yield Difference(what, _name(old), f"the {what} does not exist any more", Severity.REANALYSE)
            elif new["name"] != old["name"]:
                text = f"the {what} is called {_name(new)} now"
                yield Difference(what, _name(old), text, Severity.REANALYSE)
            else:
                yield compare(old, new)
    if recorded.get("casts") != present["casts"]:
        yield Difference("cast", "", "casts between types of PostgreSQL came or went", Severity.REANALYSE)
    if recorded.get("collation_version") != present["collation_version"]:
        yield Difference("collation", "", "the collation version of the database was refreshed", Severity.RECOMPUTE)


def _name(facts: Facts) -> str:
    return ".".join(facts["name"])


def _functions(recorded: Facts, present: Facts) -> Iterator[Difference]:
    for oid, new in present["functions"].items():
        old = recorded["functions"].get(oid)
        if not new[-1]:
            yield Difference("function", new[_NAME], "the function does not exist any more", Severity.REANALYSE)
        elif old is None:
            yield Difference("function", new[_NAME], "it was not used before", Severity.RECOMPUTE)
        elif old[_NEW_NAME] != new[_NEW_NAME]:
            text = f"the function is called {'.'.join(new[_NEW_NAME])} now"
            yield Difference("function", new[_NAME], text, Severity.REANALYSE)
        elif old[_VOLATILITY] != new[_VOLATILITY]:
            yield Difference("function", new[_NAME], "the function has another volatility", Severity.REANALYSE)
        elif old[_NAMESAKES] != new[_NAMESAKES]:
            text = "functions with this name and other arguments came or went"
            yield Difference("function", new[_NAME], text, Severity.REANALYSE)
        elif old != new:
            text = "the function has another body, other defaults or other parts"
            yield Difference("function", new[_NAME], text, Severity.RECOMPUTE)


def _type(old: Facts, new: Facts) -> Difference:
    if old["attributes"] != new["attributes"]:
        text = "attributes of the type were added, dropped, renamed or altered"
        return Difference("type", _name(new), text, Severity.REANALYSE)
    if old["casts"] != new["casts"]:
        return Difference("type", _name(new), "casts from or to the type came or went", Severity.REANALYSE)
    before = old["labels"] or []
    kept = [label for label in new["labels"] or [] if label in before]
    if kept == before:
        return Difference("type", _name(new), "labels were added to an enum", Severity.HARMLESS)
    return Difference("type", _name(new), "labels of an enum were renamed", Severity.REANALYSE)


def _operator(old: Facts, new: Facts) -> Difference:
    text = "the operator has another function"
    if (old["operands"], old["function"]) == (new["operands"], new["function"]):
        text = "operators with this name and other operands came or went"
    return Difference("operator", _name(new), text, Severity.REANALYSE)


def _collation(old: Facts, new: Facts) -> Difference:
    return Difference("collation", _name(new), "the version of the collation was refreshed", Severity.RECOMPUTE)


def _text_search(old: Facts, new: Facts) -> Difference:
    text = "the text search configuration or one of its dictionaries was altered"
    return Difference("text search object", _name(new), text, Severity.RECOMPUTE)


_PARTS: tuple[tuple[str, str, Callable[[Facts, Facts], Difference]], ...] = (
    ("types", "type", _type),
    ("operators", "operator", _operator),
    ("collations", "collation", _collation),
    ("text_search", "text search object", _text_search),
)
