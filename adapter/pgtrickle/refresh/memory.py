"""What a session knows from its last refresh of the same stream tables, so that it need not ask again.

It is taken for true until the next refresh has locked the frontiers: then the server says whether every row of the
catalogs that it was read from still is the same version (``pgtrickle.versions``). If not, that attempt ends before it
has read anything, and the next one asks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgtrickle.refresh.member import Known, Member, Request

#: What has no versions, the planner's estimates, is not remembered for longer.
SECONDS = 60.0
#: Each is a few kilobytes.
_MOST = 2_000


@dataclass(slots=True)
class Memory:
    """Groups by what was asked for. ``usable`` is False where each transaction may come to another backend."""

    usable: bool = True
    _groups: dict[tuple[int, ...], tuple[Known, ...]] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    def recall(self, request: Request) -> tuple[Known, ...] | None:
        """The members of a group in dependency order; None if it has to be read."""
        found = self._groups.get(request.relids) if self.serves(request) else None
        if found is not None and any(time.monotonic() - known.read_at > SECONDS for known in found):
            self.forget(request.relids)
            return None
        return found

    def relid(self, quoted_name: str) -> int | None:
        """The OID of a stream table with this qualified name, if it is remembered; to be asked for as not ``sure``."""
        return self._names.get(quoted_name)

    def serves(self, request: Request) -> bool:
        """Whether what is known can be of use: nothing but a refresh is wanted."""
        special = request.full or request.prove or request.override or request.careful or request.prelude is not None
        return self.usable and not (special or request.recompute or request.whole or request.broken or request.mended)

    def keep(self, request: Request, members: Sequence[Member], frontiers: Sequence[Mapping[str, Any]]) -> None:
        """Remember a group that has just been committed.

        Args:
            request: what was asked for.
            members: all of them, in dependency order.
            frontiers: what was written of those that took part; keys as for `groups.finish`.
        """
        written = {frontier["id"]: frontier for frontier in frontiers}
        known = [_known(member, written.get(member.row.id, {})) for member in members]
        complete = tuple(one for one in known if one is not None)
        if len(complete) < len(known) or not self.serves(request):
            self.forget(request.relids)
            return
        if len(self._groups) >= _MOST:
            self._groups.clear()
            self._names.clear()
        self._groups[request.relids] = complete
        for one in complete:
            if request.relids == (one.row.relid,):
                self._names[one.row.quoted_name] = one.row.relid

    def forget(self, relids: tuple[int, ...]) -> None:
        """Read this group again the next time."""
        for known in self._groups.pop(relids, ()):
            self._names.pop(known.row.quoted_name, None)


def _known(member: Member, frontier: Mapping[str, Any]) -> Known | None:
    locked, row = member.locked, member.row
    if locked is None or locked.versions is None or not locked.same or member.outdated or not member.running:
        return None
    settled = row.status == "ACTIVE" and row.is_populated and not row.consecutive_errors and row.retry_at is None
    clean = row.status_reason is None and row.recompute_reason is None and row.last_error is None
    if not settled or not clean or locked.recompute_reason is not None or member.left_incomplete is not None:
        return None
    left = {
        "snapshot": locked.now_snapshot if frontier.get("moved") else locked.snapshot,
        "refresh_no": frontier.get("refresh_no", locked.refresh_no),
        "consumed": frontier.get("consumed", locked.consumed),
        "cost": frontier.get("cost", locked.cost),
    }
    if member.known is None:
        return Known(row, left, locked.versions, member.trail, time.monotonic())
    return Known(member.known.row, left, locked.versions, member.trail, member.known.read_at)
