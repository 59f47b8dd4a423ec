"""Where a generator takes its decisions from: hypothesis, or a random sequence that can be recorded and reduced."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
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


class Recorded:
    """Decisions from a list, then from ``source``, then always the lowest; everything is recorded."""

    def __init__(self, prefix: Sequence[int] = (), source: random.Random | None = None) -> None:
        self.prefix = prefix
        self.source = source
        self.record: list[int] = []

    def integer(self, low: int, high: int) -> int:
        """See `Choices`; a listed decision that is out of range is cut to the range."""
        position = len(self.record)
        if position < len(self.prefix):
            value = min(high, low + self.prefix[position])
        elif self.source is not None:
            value = self.source.randint(low, high)
        else:
            value = low
        self.record.append(value - low)
        return value


def reduce_record(record: Sequence[int], fails: Callable[[Sequence[int]], bool], attempts: int) -> list[int]:
    """The shortest and lowest sequence found that still fails, with at most so many attempts.

    Args:
        record: a sequence that fails.
        fails: tries a sequence.
        attempts: how often ``fails`` may be called.
    """
    best = list(record)
    left = attempts

    def attempt(candidate: list[int]) -> bool:
        nonlocal best, left
        if left <= 0 or candidate == best:
            return False
        left -= 1
        if fails(candidate):
            best = candidate
            return True
        return False

    progress = True
    while progress and left > 0:
        progress = False
        size = max(1, len(best) // 2)
        while size >= 1 and left > 0:
            start = 0
            while start < len(best) and left > 0:
                shorter = best[:start] + best[start + size :]
                zeroed = best[:start] + [0] * len(best[start : start + size]) + best[start + size :]
                if attempt(shorter):
                    progress = True
                elif attempt(zeroed):
                    progress = True
                    start += size
                else:
                    start += size
            size //= 2
    return best
