"""Which moments of an operation are interrupted: a draw by default, a bigger one with `--run-slow`, or all of them."""

from __future__ import annotations

import os
import random

import pytest


def draw(name: str, messages: int, config: pytest.Config, *, few: int, many: int) -> list[tuple[int, bool]]:
    """Moments before and after the messages of an operation, in their order.

    Args:
        name: of the operation; always the same draw for the same name and number of messages.
        messages: how many it sends.
        config: pytest's.
        few: so many by default.
        many: so many with `--run-slow`. `INTERRUPTIONS=40`, or `=all`, in the environment counts instead of both.

    Returns:
        Numbers of messages, from 1, and whether the cut comes after the answer.
    """
    moments = [(at, answered) for at in range(1, messages + 1) for answered in (False, True)]
    asked = os.environ.get("INTERRUPTIONS")
    if asked == "all":
        return moments
    wanted = int(asked) if asked else many if config.getoption("--run-slow") else few
    return sorted(random.Random(name).sample(moments, min(wanted, len(moments))))
