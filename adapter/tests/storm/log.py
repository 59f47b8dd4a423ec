"""What happens in a storm: counted, remembered for a while, and stopped at the first thing that must not happen."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

TAIL = 60
REMEMBERED = 400


class Dice(random.Random):
    """The chances of one participant. What it writes to is in a band of keys: only those who share one get in each
    other's way for long.
    """

    def __init__(self, seed: str, band: int = 0) -> None:
        super().__init__(seed)
        self.low = band * 100_000

    def key(self, most: int) -> int:
        """A key between 1 and ``most`` in its band."""
        return self.low + self.randint(1, most)

    def fresh(self) -> int:
        """A key that nobody has drawn yet, as good as certainly; beyond all bands."""
        return self.randrange(10_000_000, 2_000_000_000)

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return self.random() < probability


@dataclass
class Log:
    """Shared by all threads.

    Attributes:
        seed: of the storm.
        counts: (what, which) -> how often.
        violations: what must not happen; the first one ends the storm.
        over: set when everybody is to stop.
    """

    seed: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, which: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counts[what, which] += number

    def most(self, what: str, which: str, number: int) -> None:
        """Keep the largest."""
        with self._lock:
            self.counts[what, which] = max(self.counts[what, which], number)

    def note(self, text: str) -> None:
        """Remember for the history."""
        who, said = threading.current_thread().name, " ".join(text.split())[:240]
        self._tail.append(f"{time.monotonic() - self.started:8.3f} {who:12} {said}")

    def violation(self, text: str) -> None:
        """Something that must not happen."""
        self.note(f"VIOLATION {text}")
        with self._lock:
            self.violations.append(text)
        self.over.set()

    def tail(self) -> str:
        """The end of the history."""
        return "\n".join(list(self._tail)[-TAIL:])

    def group(self, what: str) -> dict[str, int]:
        """The counters of one kind, largest first."""
        found = [(which, number) for (kind, which), number in self.counts.items() if kind == what]
        return dict(sorted(found, key=lambda pair: (-pair[1], pair[0])))

    def report(self) -> str:
        """All counters, a line for each kind."""
        kinds = sorted({what for what, _ in self.counts})
        lines = [f"{what}: " + ", ".join(f"{n:,} {w}" for w, n in self.group(what).items()) for what in kinds]
        return "\n".join([f"storm of seed {self.seed}, {time.monotonic() - self.started:.0f} s", *lines])


class Gate:
    """Commits go through it together; who closes it waits until none is under way, and until it opens there is none.

    Transactions stay open behind it, so that a moment without commits is no moment without transactions.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._closed = False

    def __enter__(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: not self._closed)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()

    def close(self) -> None:
        """Wait for those inside, let nobody in."""
        with self._condition:
            self._condition.wait_for(lambda: not self._closed)
            self._closed = True
            self._condition.wait_for(lambda: not self._inside)

    def open(self) -> None:
        """Let everybody in."""
        with self._condition:
            self._closed = False
            self._condition.notify_all()
