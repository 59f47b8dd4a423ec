"""How applications group what they write: the kinds of transaction, and the threads that run them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.sql import SQL

from tests.storm.blame import Blame
from tests.storm.log import Dice, Gate, Log
from tests.storm.writers import Session, Writer, drawn

#: What writers do to each other: serialisation, deadlocks, locks, keys, partitions that are not there (any more).
NATURAL = frozenset({"40001", "40P01", "55P03", "23503", "23505", "23514", "42P01", "21000", "55006"})
ISOLATION = ("READ COMMITTED",) * 3 + ("REPEATABLE READ", "SERIALIZABLE")
MOST_PREPARED = 5


@dataclass
class Application:
    """One writing thread: its session, its chances, its prepared transactions."""

    session: Session
    dice: Dice
    log: Log
    gate: Gate
    blame: Blame
    major: int
    #: Longest time that a transaction of it stays open, seconds.
    patience: float = 0.0
    #: Names of prepared transactions, and when they are to end.
    prepared: dict[str, float] = field(default_factory=dict)
    _number: int = 0

    def write(self, count: int) -> None:
        """So many writes; an error that one of them is entitled to ends the transaction unless it has a savepoint."""
        for _ in range(count):
            self.one(drawn(self.dice, self.major, patient=self.patience > 0))

    def one(self, kind: Writer) -> None:
        """One write."""
        self.log.note(kind.name)
        kind.work(self.session, self.dice)
        self.log.count("writes", kind.name)

    def begin(self) -> None:
        """Open a transaction."""
        level = self.dice.choice(ISOLATION)
        self.log.count("isolation", level.lower())
        self.session.execute(f"BEGIN ISOLATION LEVEL {level}")

    def end(self, statement: str = "COMMIT") -> None:
        """Commit, or something else that makes changes visible."""
        with self.gate:
            self.session.execute(statement)
        self.log.note(statement)

    def rest(self, most: float) -> None:
        """Do nothing for a while, or until all is over."""
        self.log.over.wait(self.dice.random() * most)


def single(app: Application) -> None:
    """One write."""
    app.write(1)
    app.end()


def several(app: Application) -> None:
    """A few writes."""
    app.write(app.dice.randint(2, 5))
    app.end()


def rolled_back(app: Application) -> None:
    """Nothing of it remains."""
    app.write(app.dice.randint(1, 4))
    app.session.execute("ROLLBACK")


def savepoints(app: Application) -> None:
    """Every write in a savepoint, some of them undone, some nested."""
    for depth in range(app.dice.randint(1, 5)):
        try:
            with app.session.transaction():
                app.write(1)
                if app.dice.happens(0.3):
                    with app.session.transaction():
                        app.write(1)
                if app.dice.happens(0.3):
                    raise psycopg.Rollback
        except psycopg.Error as error:
            # Serialisation failures and deadlocks end the whole transaction; the rest is undone.
            if depth == 0 or (error.sqlstate or "").startswith("40"):
                raise
            app.blame.judge(app.session, error)
    app.end()


def prepared(app: Application) -> None:
    """Two-phase: the second phase comes some time later."""
    if len(app.prepared) >= MOST_PREPARED:
        return several(app)
    app.write(app.dice.randint(1, 3))
    app._number += 1
    name = f"storm {app.dice.low} {id(app)} {app._number}"
    app.session.execute(SQL("PREPARE TRANSACTION {}").format(name))
    app.prepared[name] = time.monotonic() + app.dice.random() * max(app.patience, 0.3)
    return None


def long(app: Application) -> None:
    """Open over many refreshes, now and then with another write."""
    end = time.monotonic() + app.dice.random() * app.patience
    app.write(1)
    while time.monotonic() < end and not app.log.over.is_set():
        app.rest(app.patience / 4)
        app.write(1)
    app.end(app.dice.choice(("COMMIT", "COMMIT", "ROLLBACK")))


KINDS: dict[str, tuple[Callable[[Application], None], int, int]] = {
    # kind: (how, weight for ordinary writers, weight for patient ones)
    "single": (single, 5, 0),
    "several": (several, 4, 1),
    "savepoints": (savepoints, 3, 1),
    "rolled back": (rolled_back, 2, 1),
    "prepared": (prepared, 1, 4),
    "long": (long, 0, 4),
}


def work(app: Application, pause: float) -> None:
    """Transactions until the storm is over; then what is prepared ends too."""
    while not app.log.over.is_set():
        kind = app.dice.choices(list(KINDS), [weights[2 if app.patience else 1] for weights in KINDS.values()])[0]
        try:
            app.begin()
            KINDS[kind][0](app)
            app.log.count("transactions", kind)
        except psycopg.Error as error:
            app.blame.judge(app.session, error)
            app.session.execute("ROLLBACK")
        settle(app, everything=False)
        app.rest(pause)
    settle(app, everything=True)


def settle(app: Application, *, everything: bool) -> None:
    """The second phase of prepared transactions."""
    for name, due in list(app.prepared.items()):
        if everything or time.monotonic() > due:
            how: Any = app.dice.choice(("COMMIT", "COMMIT", "ROLLBACK"))
            del app.prepared[name]
            with app.gate:
                app.session.execute(SQL("{} PREPARED {}").format(SQL(how), name))
            app.log.note(f"{how} PREPARED {name}")
            app.log.count("second phases", how.lower())
