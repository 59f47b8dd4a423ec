"""The last weeks of 2013, replayed as the changes an airport's database would see.

A flight enters as scheduled (INSERT), departs with a first estimate of its arrival delay (UPDATE), lands and gets
the true one (UPDATE, a correction), or is cancelled (DELETE). All numbers are the data set's own; only the first
estimate is ours: the delay at departure.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg

from demo import dataset
from demo.dataset import Flight
from demo.load import FLIGHT_COLUMNS, copy_rows, flight_row, is_history

_DEPART = """
UPDATE nyc.flights AS f
SET dep_time = d.dep_time, dep_delay = d.dep_delay, arr_delay = d.dep_delay
FROM unnest(%s::int[], %s::int[], %s::int[]) AS d (flight_id, dep_time, dep_delay)
WHERE f.flight_id = d.flight_id
"""

_LAND = """
UPDATE nyc.flights AS f
SET arr_time = a.arr_time, arr_delay = a.arr_delay, air_time = a.air_time
FROM unnest(%s::int[], %s::int[], %s::int[], %s::int[]) AS a (flight_id, arr_time, arr_delay, air_time)
WHERE f.flight_id = a.flight_id
"""

_CANCEL = "DELETE FROM nyc.flights WHERE flight_id = ANY (%s::int[])"

_NEW_AIRPORT = "INSERT INTO nyc.airports VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"

_REFIT = "UPDATE nyc.planes SET seats = seats + 2 WHERE manufacturer = 'EMBRAER' AND year = 2002"


#: Between the transactions of a day, so that refreshes happen in the middle of it.
PAUSE_SECONDS = 0.15

#: How often a day is written and rolled back to find out what writing it costs.
TRIALS = 9


@dataclass(frozen=True, slots=True)
class Day:
    """What happens on one day."""

    day: date
    flights: tuple[Flight, ...]
    weather: tuple[dataset.Row, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows that one day inserted, updated and deleted in the application's tables."""

    inserted: int
    updated: int
    deleted: int
    remark: str = ""

    @property
    def total(self) -> int:
        """All of them."""
        return self.inserted + self.updated + self.deleted


def live_days(flights: list[Flight]) -> list[Day]:
    """The days to be streamed, in order."""
    by_day: dict[date, list[Flight]] = defaultdict(list)
    for flight in flights:
        if flight.flight_date >= dataset.FIRST_LIVE_DAY:
            by_day[flight.flight_date].append(flight)
    weather: dict[date, list[dataset.Row]] = defaultdict(list)
    for row in dataset.read_table("weather", dataset.WEATHER_COLUMNS):
        if not is_history(row):
            weather[date.fromisoformat(str(row[1])[:10])].append(row)
    return [Day(day, tuple(by_day[day]), tuple(weather[day])) for day in sorted(by_day)]


def play(connection: psycopg.Connection[Any], day: Day, *, number: int, pause: float = PAUSE_SECONDS) -> Changes:
    """Write one day in the transactions an application would use: schedule, departures, landings, cancellations.

    Args:
        connection: in autocommit mode.
        day: what happened.
        number: counts the days from 1; on some of them master data changes too.
        pause: seconds between the transactions.
    """
    flown = [flight for flight in day.flights if not flight.cancelled]
    inserted = _schedule(connection, day)
    time.sleep(pause)
    updated = _depart(connection, flown)
    time.sleep(pause)
    updated += _land(connection, flown)
    time.sleep(pause)
    cancelled = [flight.flight_id for flight in day.flights if flight.cancelled]
    deleted = connection.execute(_CANCEL, [cancelled]).rowcount
    remark = ""
    if number == 3:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(_NEW_AIRPORT, dataset.MISSING_AIRPORTS)
        inserted += len(dataset.MISSING_AIRPORTS)
        remark = "4 airports that were missing are added"
    if number == 6:
        refitted = connection.execute(_REFIT).rowcount
        updated += refitted
        remark = f"{refitted} planes get two more seats"
    return Changes(inserted, updated, deleted, remark)


def seconds_to_write(connection: psycopg.Connection[Any], day: Day) -> tuple[float, float]:
    """What writing a day costs the application, without and with capture.

    The best of several trials, in turns, all rolled back; commits are not in it.
    """
    trials = [(_trial(connection, day, captured=False), _trial(connection, day, captured=True)) for _ in range(TRIALS)]
    return min(without for without, _ in trials), min(captured for _, captured in trials)


def _trial(connection: psycopg.Connection[Any], day: Day, *, captured: bool) -> float:
    with connection.transaction(force_rollback=True):
        if not captured:
            connection.execute("ALTER TABLE nyc.flights DISABLE TRIGGER USER")
            connection.execute("ALTER TABLE nyc.weather DISABLE TRIGGER USER")
        started = time.perf_counter()
        play(connection, day, number=0, pause=0)
        return time.perf_counter() - started


def _schedule(connection: psycopg.Connection[Any], day: Day) -> int:
    unknown_yet = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    columns = tuple(column for column in FLIGHT_COLUMNS if column not in unknown_yet)
    keep = [FLIGHT_COLUMNS.index(column) for column in columns]
    rows = (tuple(flight_row(flight)[i] for i in keep) for flight in day.flights)
    with connection.transaction():
        inserted = copy_rows(connection, "flights", columns, rows)
        inserted += copy_rows(connection, "weather", dataset.WEATHER_COLUMNS, day.weather)
    return inserted


def _depart(connection: psycopg.Connection[Any], flown: list[Flight]) -> int:
    columns = [[f.flight_id for f in flown], [f.dep_time for f in flown], [f.dep_delay for f in flown]]
    return connection.execute(_DEPART, columns).rowcount


def _land(connection: psycopg.Connection[Any], flown: list[Flight]) -> int:
    columns = [
        [f.flight_id for f in flown],
        [f.arr_time for f in flown],
        [f.arr_delay for f in flown],
        [f.air_time for f in flown],
    ]
    return connection.execute(_LAND, columns).rowcount
