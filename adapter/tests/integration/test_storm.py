"""Everything at once, of every kind: nothing is lost, nothing is doubled, no writer fails because of us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.storm.storm import Storm, Weather
from tests.support.servers import Server

pytestmark = pytest.mark.edges_only

SEED = int(os.environ.get("STORM_SEED", "1"))


def blow(server: Server, dsn: str, seed: int, weather: Weather, home: Path) -> None:
    """A storm; its report is printed, a failure shows seed and history."""
    log = Storm(server, dsn, seed, weather, home).run()
    print(log.report())
    assert not log.violations, f"seed {seed}\n" + "\n".join(log.violations) + f"\n\n{log.tail()}"


def test_every_stream_table_is_its_query_in_the_storm_and_after_it(server: Server, db: str, tmp_path: Path) -> None:
    blow(server, db, SEED, Weather(), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_every_stream_table_is_its_query_in_a_long_storm(server: Server, db: str, tmp_path: Path, seed: int) -> None:
    limit = 400_000 if seed == 2 else 1 << 30
    weather = Weather(
        seconds=60, writers=8, patient=4, runners=2, refreshers=3, whole=True, patience=20, calms=4, limit=limit
    )
    blow(server, db, SEED + seed, weather, tmp_path)
