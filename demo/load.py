"""The first load: everything up to the first live day, by COPY."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from demo import dataset
from demo.dataset import Flight

HERE = Path(__file__).parent

FLIGHT_COLUMNS = tuple(field.name for field in fields(Flight))


def flight_row(flight: Flight) -> tuple[Any, ...]:
    """The flight in the order of ``FLIGHT_COLUMNS``."""
    return tuple(getattr(flight, column) for column in FLIGHT_COLUMNS)


def copy_rows(
    connection: psycopg.Connection[Any], table: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]
) -> int:
    """COPY rows into a table of schema nyc and return how many there were."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier("nyc", table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    number = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
            number += 1
    return number


def run_script(connection: psycopg.Connection[Any], name: str) -> None:
    """Execute one of the .sql files next to this module."""
    connection.execute((HERE / name).read_bytes())


def load(connection: psycopg.Connection[Any], flights: list[Flight]) -> dict[str, int]:
    """Create the application's tables, load what happened before the first live day; return rows per table."""
    first_live = dataset.FIRST_LIVE_DAY
    with connection.transaction():
        run_script(connection, "schema.sql")
        loaded = {
            "airlines": _copy_file(connection, "airlines", dataset.AIRLINE_COLUMNS),
            "airports": _copy_file(connection, "airports", dataset.AIRPORT_COLUMNS),
            "planes": _copy_file(connection, "planes", dataset.PLANE_COLUMNS),
            "weather": copy_rows(
                connection,
                "weather",
                dataset.WEATHER_COLUMNS,
                (row for row in dataset.read_table("weather", dataset.WEATHER_COLUMNS) if is_history(row)),
            ),
            "flights": copy_rows(
                connection,
                "flights",
                FLIGHT_COLUMNS,
                (flight_row(flight) for flight in flights if flight.flight_date < first_live),
            ),
        }
    connection.autocommit = True
    run_script(connection, "indexes.sql")
    return loaded


def is_history(weather: dataset.Row) -> bool:
    """True for a measurement (row of ``WEATHER_COLUMNS``) taken before the first live day (UTC)."""
    return str(weather[1]) < dataset.FIRST_LIVE_DAY.isoformat()


def _copy_file(connection: psycopg.Connection[Any], name: str, columns: tuple[str, ...]) -> int:
    return copy_rows(connection, name, columns, dataset.read_table(name, columns))
