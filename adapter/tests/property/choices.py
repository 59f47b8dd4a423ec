"""Where a generator takes its decisions from: hypothesis, or a random sequence."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Choices(Protocol):
    """Decisions. The first option and the lowest number are always the simplest: reduction goes there."""

    def integer(self, low: int, high: int) -> int:
        """A number between ``low`` and ``high``, both included."""
        ...


def pick(choices: Choices, options: Sequence[T]) -> T:
    """One of the options."""
    return options[choices.integer(0, len(options) - 1)]


def weighted(choices: Choices, options: Sequence[tuple[int, T]]) -> T:
    """One of the options, as often as its weight says."""
    ticket = choices.integer(0, sum(weight for weight, _ in options) - 1)
    for weight, option in options:
        if ticket < weight:
            return option
        ticket -= weight
    raise AssertionError("unreachable")


def chance(choices: Choices, percent: int) -> bool:
    """True in so many of a hundred cases; the simplest outcome is False."""
    return choices.integer(0, 99) >= 100 - percent


class Seeded:
    """Decisions from a random sequence that a seed determines."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        """See `Choices`."""
        return self.source.randint(low, high)
