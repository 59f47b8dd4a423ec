"""Nobody waits longer for the engine than is promised, whatever it does. ``tools/stalls.py`` prints how long."""

from __future__ import annotations

import pytest

from tests.faults import stalls
from tests.faults.stalling import OPERATIONS

pytestmark = [pytest.mark.slow, pytest.mark.edges_only]

ROWS = 20_000


@pytest.mark.parametrize("held", [False, True], ids=["nothing in the way", "behind an old transaction"])
def test_no_operation_keeps_writers_or_readers_waiting_longer_than_promised(held: bool, db: str) -> None:
    measured = stalls.run(db, held=held, rows=ROWS)
    assert [one.operation for one in measured] == list(OPERATIONS)
    assert [f"{one.operation.name}: {one.error}" for one in measured if one.error is not None] == []
    assert [line for one in measured for line in one.broken()] == []
    # Whoever looks sees those waits that there have to be.
    assert any(one.waits for one in measured)


@pytest.mark.newest_only
@pytest.mark.parametrize("version", [1, 4])
def test_a_migration_keeps_nobody_waiting_longer_than_promised(version: int, db: str) -> None:
    (measured,) = stalls.migrate(db, version)
    assert (measured.error, measured.broken()) == (None, [])
