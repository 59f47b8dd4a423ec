"""What a query uses besides relations: whatever of it changes, changes what the same rows give.

It is read from the stored rules, where everything is an OID, and followed through the catalogs to what it is made of:
composite types to the types of their attributes, operators and aggregates to their functions, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pgtrickle import db
from pgtrickle.analyze.functions import Function, RuleFacts
from pgtrickle.analyze.shown_names import types_mentioned
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")

#: Operators of expressions, and those that rows are grouped and sorted by.
_OPERATORS = re.compile(r":(?:opno|eqop|sortop) (\d+)")
_ANY_COLLATION = re.compile(r":\w*(?:[cC]ollid|collOid|collation) (\d+)")

_CONFIG, _DICTIONARY = 3734, 3769
_SEARCH_CONSTANT = re.compile(
    rf"\{{CONST :consttype ({_CONFIG}|{_DICTIONARY}) [^[\]}}]*:constvalue 4 \[ ((?:-?\d+ )+)\]\}}"
)
_SEARCH_VALUE = re.compile(rf":(?!consttype)\w*type(?:Id)? {_CONFIG}\b")
#: Functions of PostgreSQL that cut texts into words, by what their names begin or end with.
_SEARCH = re.compile(
    r"\w*to_tsvector|\w*to_tsquery|ts_headline\w*|ts_match_t[tq]|ts_lexize|ts_debug|get_current_ts_config"
)

#: Stands for all text search configurations: which one is taken is in the rows.
ALL_CONFIGURATIONS = 0


def used_objects(
    conn: db.Connection, rules: Iterable[RuleFacts], functions: Sequence[Function], settings: Mapping[str, str]
) -> tuple[tuple[str, int], ...]:
    """Kinds and OIDs of what a query uses, as ``pgtrickle.dependencies`` has them; what cannot change is left out.

    Args:
        conn: in the transaction in which the query was probed.
        rules: of the query, of the views that it reads, and of virtual columns.
        functions: what these call.
        settings: those that belong to the query.
    """
    texts = tuple(rule.text for rule in rules)
    params = {
        "types": sorted(frozenset[int]().union(*map(types_mentioned, texts))),
        "functions": sorted(function.oid for function in functions),
        "operators": _found(_OPERATORS, texts),
        "collations": _found(_ANY_COLLATION, texts),
        # Under this path PostgreSQL's own operators have no rivals.
        "rivals": settings.get("search_path") != "pg_catalog",
    }
    found = [(row["kind"], row["oid"]) for row in db.fetch_all(conn, _QUERIES["used_objects"], dict, params)]
    return (*found, *_text_search(conn, texts, functions, settings))


def _found(pattern: re.Pattern[str], texts: Sequence[str]) -> list[int]:
    return sorted({int(oid) for text in texts for oid in pattern.findall(text)} - {0})


def _text_search(
    conn: db.Connection, texts: Sequence[str], functions: Sequence[Function], settings: Mapping[str, str]
) -> tuple[tuple[str, int], ...]:
    if not any(function.is_builtin and _SEARCH.fullmatch(function.name) for function in functions):
        return ()
    if any(_SEARCH_VALUE.search(text) for text in texts):
        return (("ts_config", ALL_CONFIGURATIONS),)
    constants = {(int(kind), _oid(value)) for text in texts for kind, value in _SEARCH_CONSTANT.findall(text)}
    default = db.fetch_value(
        conn, _QUERIES["text_search_config"], {"name": settings.get("default_text_search_config", "")}
    )
    kinds = {_CONFIG: "ts_config", _DICTIONARY: "ts_dict"}
    named = {(kinds[kind], oid) for kind, oid in constants}
    return tuple(sorted(named | ({("ts_config", default)} if default is not None else set())))


def _oid(octets: str) -> int:
    """The OID of a constant, whose bytes are printed one by one with their signs."""
    return int.from_bytes(bytes(int(octet) % 256 for octet in octets.split()[:4]), "little")
