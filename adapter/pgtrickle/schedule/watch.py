"""What a runner knows to be unchanged, so that it need not ask again: by the cluster's snapshot and by facts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from pgtrickle import db
from pgtrickle.catalog import runners
from pgtrickle.catalog.model import Snapshot
from pgtrickle.errors import LockTimeout
from pgtrickle.schedule import housekeeping
from pgtrickle.schedule.due import CLOCK_TOLERANCE
from pgtrickle.schedule.housekeeping import Identity
from pgtrickle.schedule.situation import Situation

#: Facts that leave no change row (a trigger was disabled, a column altered) are looked for this often, seconds ...
PROOF_SECONDS = 10.0
#: ... in this many stream tables at a time, so that thousands of them take turns.
PROOFS_AT_ONCE = 10
#: A message may be on its way for so long.
_SLOW = timedelta(seconds=1)


class Watch:
    """The snapshot up to which this runner knows everything, and whose facts it has looked at since.

    Nothing was committed anywhere in the cluster as long as the snapshot stays the same: neither a change, nor a
    definition, nor another runner's work. What this runner writes itself moves it in a way that can be told.
    """

    def __init__(self, me: Identity) -> None:
        self._me = me
        self._known: str | None = None
        self._polled: str | None = None
        self._moved_at = 0.0
        self._proven: dict[int, float] = {}
        self._suspects: set[int] = set()

    def beat(self, conn: db.Connection, expected: datetime | None = None) -> bool:
        """Say that the runner is alive; whether nothing has happened since the last time.

        Args:
            conn: the runner's own connection.
            expected: what the server's clock should show by now; if it was set, something has happened.
        """
        found = housekeeping.beat(conn, self._me, self._known)
        was_set = expected is not None and abs(found.now - expected) > _SLOW + CLOCK_TOLERANCE
        same = found.snapshot == self._known and not was_set
        if not same:
            self._moved_at = time.monotonic()
        self._known = self._polled = after(found.snapshot, found.xid)
        return same

    def moved(self, conn: db.Connection) -> bool:
        """Whether anything was committed since this was asked the last time."""
        snapshot = runners.current_snapshot(conn)
        same = snapshot == self._polled
        self._polled = snapshot
        return not same

    def forget(self) -> None:
        """Know nothing."""
        self._known = self._polled = None

    def tell(self, conn: db.Connection, situation: Situation) -> None:
        """Write down what is known to be quiet as of the situation, for everybody who asks how fresh it is."""
        quiet = situation.quiet
        wrote = runners.checked(
            conn, self._me.runner_id, situation.now, sorted(key for key in situation.tables if key not in quiet)
        )
        if wrote is not None and wrote[0] == self._known:
            self._known = self._polled = after(*wrote)

    # --- facts ------------------------------------------------------------------------------------------------------

    @property
    def suspects(self) -> frozenset[int]:
        """Those whose facts have drifted: only a refresh can tell what that means."""
        return frozenset(self._suspects)

    def prove(self, conn: db.Connection, keys: Iterable[int]) -> bool:
        """Look at the facts of those of them whose turn it is; whether one has drifted."""
        now = time.monotonic()
        due = [
            key
            for key in keys
            if (proven := self._proven.setdefault(key, now)) <= self._moved_at and proven <= now - PROOF_SECONDS
        ]
        batch = sorted(due, key=self._proven.__getitem__)[:PROOFS_AT_ONCE]
        if not batch:
            return False
        self._proven.update(dict.fromkeys(batch, now))
        try:
            found = runners.drifted(conn, batch)
        except LockTimeout:
            # Somebody is about to change something: they have another turn.
            return False
        self._suspects |= found
        return bool(found)

    def proven(self, keys: Iterable[int]) -> None:
        """These were refreshed, which looks at the facts too."""
        keys = set(keys)
        self._suspects -= keys
        self._proven.update(dict.fromkeys(keys, time.monotonic()))


def after(snapshot: str, xid: str) -> str:
    """The snapshot that follows if nothing but this transaction commits."""
    before = Snapshot.parse(snapshot)
    if before.xmax != xid:
        # Somebody was faster: no snapshot is like this one, so that everything is asked anew.
        return ""
    xmax = str(int(xid) + 1)
    return f"{before.xmin if before.xip else xmax}:{xmax}:{','.join(before.xip)}"
