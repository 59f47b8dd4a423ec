"""Values as text for people and as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from pgtrickle.errors import PgTrickleError


def to_json(value: Any) -> str:
    """JSON of dataclasses, mappings, sequences; times as ISO 8601, durations as seconds."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns: text to the left, numbers to the right; the last column is not padded.

    >>> print(table(["name", "rows"], [["a", 5], ["bcd", 12]]))
    NAME  ROWS
    a        5
    bcd     12
    """
    cells = [[cell(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        for i in range(len(headers))
    ]
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    lines = [[header.upper() for header in headers], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def cell(value: Any) -> str:
    """One value for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return " ".join(str(value).split())


def age(seconds: float | None) -> str:
    """A length of time for people.

    >>> age(0.25), age(75), age(7300), age(200000), age(None)
    ('0.2s', '1m15s', '2h1m', '2d7h', '')
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f}s"
    whole = int(seconds)
    for unit, size, lower, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{lower}"
    return f"{whole}s"


def error_text(error: PgTrickleError) -> str:
    """An error for people: code and message, then object, clause, detail and hint, one per line."""
    return f"error {error}"


def error_json(error: PgTrickleError) -> str:
    """An error for machines."""
    return to_json({"error": error.as_dict()})
