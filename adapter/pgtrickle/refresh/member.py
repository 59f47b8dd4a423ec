"""One stream table on its way through a refresh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgtrickle.catalog.groups import GroupRow, LockedRow
from pgtrickle.errors import InternalError, PgTrickleError
from pgtrickle.gates import Verdict
from pgtrickle.refresh.compiled import Compiled
from pgtrickle.refresh.plan import Action, MemberPlan

#: How long somebody who asks by hand is kept waiting for locks, seconds.
PATIENCE_S = 30.0
#: And a worker of a runner, which has other things to do and comes back.
RUNNER_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Switch:
    """What is done to the stream table itself when it is given a new definition; both keep its readers out.

    Attributes:
        before: called when its rows have been computed and before any is written; None: not needed.
        after: called when they have been written; None: not needed.
    """

    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a refresh is asked to do.

    Attributes:
        relids: OIDs of the stream tables wanted; their stale ancestors come along.
        manual: somebody asked for exactly these: neither schedule nor back-off counts.
        full: recompute them by difference whatever changed.
        prove: maintain differentially or not at all; for ``verify``.
        patience_s: how long to try again while others hold locks, seconds.
        prelude: run inside the transaction when everything is locked and before anything is read: a new definition
            that has to appear together with its content. If those asked for cannot be moved then, nothing is
            committed and the error is raised. What readers must not see half done it leaves to the switch it returns.
        override: gates do not count; the definition is being replaced.
        recompute: stream table id -> why its changes could not be applied in an attempt before this one.
        whole: name of a stream table -> why it could not be computed stage by stage in an attempt before this one.
        broken: stream table id -> why it cannot take part.
        careful: every member of a group gets a savepoint.
        mended: ids of stream tables whose definitions were compiled again for this refresh.
        sure: these OIDs are of now. Otherwise the session remembers them, and they are asked for again if it cannot.
    """

    relids: tuple[int, ...]
    manual: bool = True
    full: bool = False
    prove: bool = False
    patience_s: float = PATIENCE_S
    prelude: Callable[[], Switch | None] | None = None
    override: bool = False
    recompute: Mapping[int, str] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[int, PgTrickleError] = field(default_factory=dict)
    careful: bool = False
    mended: frozenset[int] = frozenset()
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """One stream table as the last refresh of this session left it.

    Attributes:
        row: what the catalog said.
        left: what its frontier is now: the fields of ``row`` that are other ones by now.
        versions: of everything that it was read from (``LockedRow.versions``).
        trail: what its gates said.
        read_at: when the catalog was asked, by the monotonic clock.
    """

    row: GroupRow
    left: Mapping[str, Any]
    versions: str
    trail: tuple[Verdict, ...]
    read_at: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows written."""

    deleted: int = 0
    updated: int = 0
    inserted: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.deleted + self.updated + self.inserted

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(self.deleted + other.deleted, self.updated + other.updated, self.inserted + other.inserted)


@dataclass(slots=True)
class Member:
    """A stream table and what has become of it so far.

    Attributes:
        row: what the catalog said before the transaction.
        requested: asked for, not pulled in as an ancestor.
        trail: what the gates said.
        compiled: its plan; None if it cannot be compiled (``error`` says why) or a gate is closed.
        locked: what the catalog says now that the frontier is locked.
        present: its fingerprint in this snapshot; None where nothing has to be known but that it is the recorded one.
        outdated: the recorded fingerprint has to be replaced by ``present``.
        recompute_reason: why its content or state cannot be built upon.
        incomplete: why only its content is what its frontier says, and its stages are not.
        whole: why it is computed from its query alone.
        plan: what is to be done.
        counts: rows written.
        refresh_no: its refresh number after this refresh.
        consumed: OID of a stream table that it reads -> number up to which it has read.
        duration_ms: time its statements took, milliseconds.
        error: why it dropped out.
        skipped: why it was left alone without being at fault.
        is_small: it reads few changes, whose number is known: a plan made for other few changes serves as well.
        dragged: it was left alone because of a source of its own.
        known: ``row`` was not read, but is what this says; None: it was read.
        switch: what is still to be done to the table itself.
    """

    row: GroupRow
    requested: bool
    trail: tuple[Verdict, ...] = ()
    compiled: Compiled | None = None
    locked: LockedRow | None = None
    present: Mapping[str, Any] | None = None
    outdated: bool = False
    recompute_reason: str | None = None
    incomplete: str | None = None
    whole: str | None = None
    plan: MemberPlan | None = None
    counts: Counts = field(default_factory=Counts)
    refresh_no: int = 0
    consumed: dict[int, int] = field(default_factory=dict)
    duration_ms: float = 0.0
    error: PgTrickleError | None = None
    skipped: str | None = None
    is_small: bool = False
    dragged: bool = False
    known: Known | None = None
    switch: Switch | None = None

    @property
    def running(self) -> bool:
        """It takes part."""
        return self.error is None and self.skipped is None

    @property
    def moved(self) -> bool:
        """It reached this snapshot by doing something."""
        return self.running and self.plan is not None and self.plan.action is not Action.NO_DATA

    @property
    def restored(self) -> bool:
        """It was compiled in another database; see ``pgtrickle.rebind``."""
        return "shape" not in self.row.definition

    @property
    def misshapen(self) -> bool:
        """Its tables were made by another version of the engine, which keeps other state. A FULL plan keeps none."""
        if self.restored:
            return self.compiled is not None
        kept = self.row.effective_mode != "FULL" and self.compiled is not None
        return kept and self.need_compiled().shape != self.row.definition.get("shape")

    @property
    def forgets(self) -> bool:
        """It reads what the catalog does not list among its sources, so that nothing is captured for it."""
        known = {source.relid for source in self.row.sources}
        return self.compiled is not None and any(need.relid not in known for need in self.compiled.plan.sources)

    @property
    def left_incomplete(self) -> str | None:
        """Why the stages are not what its frontier says when this refresh is over; None if they are."""
        return self.whole if self.moved else self.incomplete

    def need_compiled(self) -> Compiled:
        """Its plan."""
        if self.compiled is None:
            raise InternalError("a member without a plan takes part in a refresh", object_name=self.row.name)
        return self.compiled

    def need_locked(self) -> LockedRow:
        """Its locked frontier."""
        if self.locked is None:
            raise InternalError("a member was refreshed without its frontier locked", object_name=self.row.name)
        return self.locked

    def need_plan(self) -> MemberPlan:
        """What is to be done."""
        if self.plan is None:
            raise InternalError("a member was refreshed without a plan of action", object_name=self.row.name)
        return self.plan
