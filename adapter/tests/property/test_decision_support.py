"""Queries as analysts write them, on eight tables that change: all differential, each equal to its query every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.property.case import read
from tests.property.replay import Replay

pytestmark = pytest.mark.newest_only
CASE = read((Path(__file__).resolve().parent.parent / "fixtures" / "decision_support.sql").read_text())


@pytest.fixture(scope="module")
def replay(module_db):
    player = Replay(module_db)
    yield player
    player.close()


@pytest.mark.parametrize("name", [each.name for each in CASE.stream_tables])
def test_query_stays_exact_while_its_tables_change(replay, name):
    outcome = replay.run(CASE.only({name}))
    assert not outcome.failures
    assert not outcome.invalid
    assert outcome.created == {name: "DIFFERENTIAL"}
    assert sum(outcome.actions.values()) == len(CASE.windows)
