"""Files of SQL statements under ``-- name: x`` headers, as procrastinate keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL

if TYPE_CHECKING:
    from typing_extensions import LiteralString

_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


class Queries(Mapping[str, SQL]):
    """Named statements of one file, by name."""

    def __init__(self, statements: Mapping[str, SQL]) -> None:
        self._statements = dict(statements)

    def __getitem__(self, name: str) -> SQL:
        return self._statements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def parse_queries(text: str) -> Queries:
    """Split the text of a query file.

    Raises:
        ValueError: two statements have the same name, or one is empty.
    """
    headers = list(_HEADER.finditer(text))
    statements: dict[str, SQL] = {}
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name = header["name"]
        body = text[header.end() : following.start() if following else len(text)].strip()
        if name in statements or not body:
            raise ValueError(f"query {name!r} is empty or defined twice")
        # The text is package data, so it is as constant as a literal.
        statements[name] = SQL(cast("LiteralString", body))
    return Queries(statements)


def load_queries(package: str, resource: str = "queries.sql") -> Queries:
    """The named statements of a file that lies in ``package``."""
    return parse_queries(files(package).joinpath(resource).read_text(encoding="utf-8"))
