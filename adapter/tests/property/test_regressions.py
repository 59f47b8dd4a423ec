"""Cases that were wrong once, reduced; replayed on the oldest and the newest version, with --run-slow on every one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.property.case import read
from tests.property.replay import Replay

pytestmark = pytest.mark.edges_only
FOUND = sorted((Path(__file__).resolve().parent.parent / "fixtures" / "regressions").glob("*.sql"))


@pytest.fixture(scope="module")
def replay(module_db):
    player = Replay(module_db)
    yield player
    player.close()


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_what_was_wrong_once_stays_right(replay, path):
    case = read(path.read_text())
    assert case.stream_tables
    outcome = replay.run(case)
    assert not outcome.failures, f"{outcome.failures}\n{path.read_text()}"
