"""The battery notices a fault in every delta rule, strategy and family of aggregates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pgtrickle.delta import RULES
from tests.mutation.picked import PICKED, mutant_of

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.newest_only, pytest.mark.timeout(300)]


def test_a_fault_is_picked_for_every_delta_rule() -> None:
    rules = {rule.__name__ for rule in RULES.values()}
    modules = {rule.__module__.replace(".", "/") + ".py" for rule in RULES.values()}
    assert modules <= {each.path for each in PICKED}
    linear = {rule.__name__ for rule in RULES.values() if rule.__module__.endswith(".linear")}
    broken = {mutant_of(each).function.rpartition(".")[2] for each in PICKED}
    assert linear <= {each.function for each in PICKED} <= broken
    assert rules - linear == {"delta_join", "delta_outer", "delta_anti", "delta_project"}


@pytest.mark.usefixtures("server")
def test_every_picked_fault_is_noticed() -> None:
    command = [sys.executable, str(ROOT / "tools" / "mutate.py"), "--picked"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(PICKED)} faults, 0 not noticed" in done.stdout
