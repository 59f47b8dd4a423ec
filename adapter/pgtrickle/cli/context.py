"""What every verb gets: arguments, settings, connections, and the way to print."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgtrickle import db
from pgtrickle.api import PgTrickle
from pgtrickle.catalog import installation
from pgtrickle.cli import render
from pgtrickle.config import Settings
from pgtrickle.errors import ConnectionFailed, InvalidOption, PgTrickleError
from pgtrickle.refresh import Plans
from pgtrickle.schedule.situation import Situation
from pgtrickle.schedule.state import fetch_situation

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Context:
    """One call of the command.

    Attributes:
        args: the parsed command line.
        settings: where the database is, and how the runner behaves.
    """

    args: argparse.Namespace
    settings: Settings

    # --- connecting -------------------------------------------------------------------------------------------------

    def engine(self, initiated_by: str = "manual", plans: Plans | None = None) -> PgTrickle:
        """The engine on a new connection; with the plans that others have compiled."""
        for _ in range(self.settings.retries - 1):
            try:
                return self._engine(initiated_by, plans)
            except ConnectionFailed:
                time.sleep(_RETRY_SECONDS)
        return self._engine(initiated_by, plans)

    def _engine(self, initiated_by: str, plans: Plans | None) -> PgTrickle:
        return PgTrickle.connect(self._conninfo(), role=self.settings.role, initiated_by=initiated_by, plans=plans)

    def connection(self, application_name: str) -> db.Connection:
        """A bare connection of the engine's kind."""
        return db.connect(self._conninfo(), role=self.settings.role, application_name=application_name)

    @contextmanager
    def catalog(self, application_name: str) -> Iterator[db.Connection]:
        """A bare connection to a database whose catalog this engine can read."""
        conn = self.connection(application_name)
        try:
            installation.check(conn)
            yield conn
        finally:
            conn.close()

    def situation(self) -> Situation:
        """The state of all stream tables, on a connection of its own."""
        with self.catalog("pgtrickle status") as conn:
            return fetch_situation(conn)

    def _conninfo(self) -> str:
        try:
            return make_conninfo(self.settings.dsn, **self.settings.params)
        except psycopg.ProgrammingError:
            # libpq's message quotes what it could not read, and that may be the password.
            raise InvalidOption(
                "The connection string is not valid.",
                object_name=self.settings.origin,
                hint="Write key=value pairs or postgresql://user@host/database; quote values with blanks.",
            ) from None

    def secrets(self) -> tuple[str, ...]:
        """Words that must never be shown."""
        known = conninfo_to_dict(self._conninfo())
        found = (known.get("password"), known.get("sslpassword"), os.environ.get("PGPASSWORD"))
        return tuple(str(word) for word in found if word)

    # --- names ------------------------------------------------------------------------------------------------------

    def name(self, engine: PgTrickle, text: str) -> str:
        """An existing stream table's name; an unqualified one is looked for in the profile's schema first."""
        qualified = self.new_name(text)
        return qualified if qualified == text or engine.is_stream_table(qualified) else text

    def new_name(self, text: str) -> str:
        """The name of what is to be created: in the profile's schema unless it says where."""
        unquoted = text.split('"')[::2]
        if self.settings.schema is None or any("." in part for part in unquoted):
            return text
        schema = self.settings.schema.replace('"', '""')
        return f'"{schema}".{text}'

    # --- printing ---------------------------------------------------------------------------------------------------

    @property
    def json(self) -> bool:
        """Whether a machine reads along."""
        return bool(self.args.json)

    def print_json(self, value: Any) -> None:
        """Print one JSON document."""
        print(render.to_json(value))

    def print(self, text: str) -> None:
        """Print for people."""
        print(text)

    def print_table(self, headers: Sequence[str], rows: Sequence[Sequence[Any]], empty: str = "nothing") -> None:
        """Print aligned columns, or ``empty`` if there is no row."""
        print(render.table(headers, rows) if rows else empty)

    def say(self, text: str) -> None:
        """Tell people something beside the result, on stderr; machines are not disturbed."""
        if not self.json:
            print(text, file=sys.stderr)

    def notices(self, notices: Sequence[Any]) -> None:
        """Implicit acts, each told once."""
        for notice in notices:
            self.say(f"notice {notice.code}: {notice.text}")


def read_query(args: argparse.Namespace) -> str | None:
    """The query of ``--query`` or of ``--file`` (``-`` is stdin); None if neither was given.

    Raises:
        InvalidOption: the file cannot be read.
    """
    if args.file is None:
        return args.query
    try:
        if args.file == "-":
            return sys.stdin.read()
        with open(args.file, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"The file '{args.file}' cannot be read: {error}.", object_name=args.file) from error


def read_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Further options ``key=value``; a value is JSON where it can be read as such, else text."""
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not separator or not key.isidentifier():
            raise InvalidOption(f"'{pair}' is not key=value.", object_name=pair)
        options[key] = _value(value)
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def print_error(error: PgTrickleError, *, as_json: bool) -> None:
    """An error on stderr."""
    print(render.error_json(error) if as_json else render.error_text(error), file=sys.stderr)
