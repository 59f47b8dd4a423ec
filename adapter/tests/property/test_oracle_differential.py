"""Random queries of the incremental grammar: none is refused, each equals its query after every refresh."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.property.case import write
from tests.property.replay import Replay
from tests.property.strategies import budget, cases

pytestmark = [pytest.mark.newest_only, pytest.mark.timeout(1200)]
EXAMPLES = 90


@pytest.fixture(scope="module")
def replay(module_db):
    player = Replay(module_db)
    yield player
    player.close()


@budget(EXAMPLES)
@given(case=cases(extras=0))
def test_the_incremental_grammar_is_maintained_exactly_and_never_refused(replay, case):
    outcome = replay.run(case)
    assert not outcome.failures, f"{outcome.failures}\n{write(case, '')}"
    assert not outcome.refused, f"{outcome.refused}\n{write(case, '')}"
    assert set(outcome.created.values()) <= {"DIFFERENTIAL"}, f"{outcome.created}\n{write(case, '')}"
