"""The oracle of every test: a stream table holds exactly the rows of its query, as multisets."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import psycopg
from psycopg.sql import SQL, Composed, Identifier
from typing_extensions import LiteralString

EXACT = "exact"
"""Both NULL or the same text output: 1.0 is not 1.00."""
EQUAL = "equal"
"""The same by ``=`` where ``=`` is coarser than the output: numbers without scale, -0.0, bpchar, jsonb numbers."""
FOLDED = "folded"
"""Equal but for upper and lower case: citext, non-deterministic collations."""
APPROXIMATE = "approximate"
"""Numbers within 1e-9 of their size: aggregates over floats."""
TOLERANCE = 1e-9
SHOWN = 12


def assert_same_rows(
    conn: psycopg.Connection[Any],
    table: str,
    query: str | SQL | Composed,
    *,
    classes: Mapping[int, str] | None = None,
) -> None:
    """Fail with the differing rows unless ``table`` holds exactly the rows of ``query``.

    Both are read in one statement, so in one snapshot.

    Args:
        conn: any connection.
        table: name of the stream table, qualified if need be, quoted as in SQL.
        query: the defining query.
        classes: position of a column (from 0) -> `EXACT` (default), `EQUAL` or `APPROXIMATE`.
    """
    difference = compare(conn, table, query, classes=classes)
    assert difference is None, difference


def compare(
    conn: psycopg.Connection[Any],
    table: str,
    query: str | SQL | Composed,
    *,
    classes: Mapping[int, str] | None = None,
) -> str | None:
    """Like `assert_same_rows`, but return the difference as text, or None."""
    defining = query if not isinstance(query, str) else SQL(cast(LiteralString, query.rstrip().rstrip(";")))
    names, stored_names = _columns(conn, defining), _columns(conn, SQL(cast(LiteralString, f"SELECT * FROM {table}")))
    if names != stored_names:
        return f"columns of {table}: {stored_names}, of its query: {names}"
    rows = conn.execute(_both(defining, table, len(names)), prepare=False).fetchall()
    kinds = [(classes or {}).get(position, EXACT) for position in range(len(names))]
    stored = [_normalise(row[1:], kinds) for row in rows if row[0] == "s"]
    expected = [_normalise(row[1:], kinds) for row in rows if row[0] == "q"]
    missing, extra = _difference(expected, stored, kinds)
    if not missing and not extra:
        return None
    return _describe(table, names, missing, extra)


def _columns(conn: psycopg.Connection[Any], query: SQL | Composed) -> list[str]:
    cursor = conn.execute(SQL("SELECT * FROM ({}) AS q LIMIT 0").format(query), prepare=False)
    return [column.name for column in cursor.description or ()]


def _both(defining: SQL | Composed, table: str, width: int) -> Composed:
    columns = [Identifier(f"c{number}") for number in range(width)]
    aliases = SQL("({})").format(SQL(", ").join(columns)) if columns else SQL("")
    texts = SQL("").join(SQL(", {}::text").format(column) for column in columns)
    stored = SQL(cast(LiteralString, f"SELECT * FROM {table}"))
    return SQL(
        "SELECT 's'{texts} FROM ({stored}) AS t{aliases} UNION ALL SELECT 'q'{texts} FROM ({query}) AS t{aliases}"
    ).format(texts=texts, stored=stored, query=defining, aliases=aliases)


def _normalise(row: Sequence[str | None], kinds: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(
        value if value is None else _canonical(value) if kind == EQUAL else value.lower() if kind == FOLDED else value
        for value, kind in zip(row, kinds, strict=True)
    )


def _canonical(value: str) -> str:
    """One spelling for values that are equal by ``=``: 1.0 and 1.00, 0 and -0, 1 mon and 30 days, trailing blanks."""
    try:
        return _number(value)
    except InvalidOperation:
        pass
    if (span := _INTERVAL.fullmatch(value)) and value:
        return f"{_microseconds(span)} microseconds"
    if value[:1] in ("{", "[", "("):
        try:
            return json.dumps(json.loads(value, parse_float=_number, parse_int=_number), sort_keys=True)
        except ValueError:
            parts = value[1:-1].split(",")
            return value[0] + ",".join(_canonical(part) if part else part for part in parts) + value[-1]
    return value.rstrip(" ")


def _number(text: str) -> str:
    number = Decimal(text)
    return "0" if number == 0 else format(number.normalize(), "f") if number.is_finite() else text


_INTERVAL = re.compile(
    r"(?:(?P<years>-?\d+) years? ?)?(?:(?P<months>-?\d+) mons? ?)?(?:(?P<days>-?\d+) days? ?)?"
    r"(?:(?P<sign>-?)(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?))?"
)


def _microseconds(span: re.Match[str]) -> int:
    """The length by which PostgreSQL compares intervals: a month is 30 days, a day 24 hours."""
    parts = {name: Decimal(text or 0) for name, text in span.groupdict().items() if name != "sign"}
    days = (parts["years"] * 12 + parts["months"]) * 30 + parts["days"]
    clock = (parts["hours"] * 60 + parts["minutes"]) * 60 + parts["seconds"]
    return int((days * 86400 + (-clock if span["sign"] else clock)) * 1_000_000)


Rows = list[tuple["str | None", ...]]


def _difference(expected: Rows, stored: Rows, kinds: Sequence[str]) -> tuple[Rows, Rows]:
    want, have = Counter(expected), Counter(stored)
    missing, extra = list((want - have).elements()), list((have - want).elements())
    if APPROXIMATE not in kinds:
        return missing, extra
    unmatched = []
    for row in missing:
        twin = next((other for other in extra if _close(row, other, kinds)), None)
        if twin is None:
            unmatched.append(row)
        else:
            extra.remove(twin)
    return unmatched, extra


def _close(left: Sequence[str | None], right: Sequence[str | None], kinds: Sequence[str]) -> bool:
    return all(
        a == b or (kind == APPROXIMATE and a is not None and b is not None and _near(a, b))
        for a, b, kind in zip(left, right, kinds, strict=True)
    )


def _near(left: str, right: str) -> bool:
    try:
        a, b = float(left), float(right)
    except ValueError:
        return left == right
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or math.isinf(b):
        return left == right
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))


def _describe(table: str, names: list[str], missing: Rows, extra: Rows) -> str:
    lines = [f"{table} differs from its query: {len(missing)} rows missing, {len(extra)} rows too many", f"  ({names})"]
    for title, rows in (("missing", missing), ("too many", extra)):
        ordered = sorted(rows, key=repr)
        lines += [f"  {title}: {row}" for row in ordered[:SHOWN]]
        if len(rows) > SHOWN:
            lines.append(f"  {title}: and {len(rows) - SHOWN} more")
    return "\n".join(lines)
