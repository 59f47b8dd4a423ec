"""Random queries of all of SQL, differential where that is possible, else AUTO: each equals its query."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.property.case import write
from tests.property.replay import Replay
from tests.property.strategies import budget, cases

pytestmark = [pytest.mark.newest_only, pytest.mark.timeout(1200)]
EXAMPLES = 120


@pytest.fixture(scope="module")
def replay(module_db):
    player = Replay(module_db)
    yield player
    player.close()


@budget(EXAMPLES)
@given(case=cases(extras=70))
def test_any_query_is_right_however_it_is_refreshed(replay, case):
    outcome = replay.run(case)
    assert not outcome.failures, f"{outcome.failures}\n{write(case, '')}"
