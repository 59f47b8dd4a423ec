"""Compiled plans, kept as long as the definition of their stream table stays as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL, Literal

from pgtrickle import __version__, analyze, db, emit
from pgtrickle.catalog.groups import GroupRow
from pgtrickle.db import Query
from pgtrickle.errors import InternalError
from pgtrickle.ir.operators import Opaque
from pgtrickle.plan import Bindings, InputKey, Plan, Stage, Strategy
from pgtrickle.recursion import deep
from pgtrickle.refresh.cost import SMALL_WINDOW
from pgtrickle.rewrite.conditions import conditional_columns
from pgtrickle.rewrite.stages import scans_of

if TYPE_CHECKING:
    from typing_extensions import LiteralString

#: Part of a plan's shape: to be raised when the meaning of state tables changes between versions of the engine.
FORMAT = 3


@dataclass(slots=True)
class Compiled:
    """A plan with the text of its statements, printed once.

    Attributes:
        version: of the definition it was compiled from.
        plan: the maintenance plan.
        bindings: where its inputs and outputs are; other bindings make the texts void.
        texts: printed statements.
        used: what `is_usual` was asked about.
        small: inputs that have changed together in small windows: they may do so again.
        foreseeable: the server has not refused to prepare its statements.
        last_was_small: the last window was; so may be the next.
        last_written: rows that the last large window changed; 0 before the first.
    """

    version: int | None
    plan: Plan
    bindings: Bindings | None = None
    texts: dict[tuple[object, ...], tuple[SQL, ...]] = field(default_factory=dict)
    used: set[tuple[int, frozenset[InputKey]]] = field(default_factory=set)
    small: set[frozenset[InputKey]] = field(default_factory=set)
    foreseeable: bool = True
    last_was_small: bool = False
    last_written: int = 0
    _compared: Mapping[int, frozenset[int]] | None = None
    _shape: str | None = None

    @property
    def shape(self) -> str:
        """What the plan's tables look like, see `shape`."""
        if self._shape is None:
            self._shape = shape(self.plan)
        return self._shape

    @property
    def joins(self) -> bool:
        """Whether it matters how many rows meet: some stage reads more than one relation, or the last large window has
        changed so many rows that the tables of the stages are better read than searched for each."""
        return self.last_written >= SMALL_WINDOW or any(len(scans_of(stage.operator)) > 1 for stage in self.plan.stages)

    @property
    def compared(self) -> Mapping[int, frozenset[int]]:
        """OID of a table -> numbers of its columns that conditions of joins and filters read."""
        if self._compared is None:
            self._compared = _compared(self.plan)
        return self._compared

    @property
    def is_bound(self) -> bool:
        """It has been told where its inputs and outputs are."""
        return self.bindings is not None

    def bind(self, bindings: Bindings) -> None:
        """Use these bindings from now on."""
        if bindings != self.bindings:
            self.bindings = bindings
            self.texts.clear()
            self.used.clear()
            self.small.clear()

    @deep()
    def refresh(self, conn: db.Connection, stage: Stage, changed: frozenset[InputKey], *, few: bool) -> tuple[SQL, ...]:
        """The statement that applies the changes (``few``: a small number) of these inputs to a stage; empty if they
        cannot change it."""
        key = ("refresh", stage.number, changed, few)
        if key not in self.texts:
            statement = emit.stage_refresh(self.plan, stage, self._bound, changed, few=few)
            self.texts[key] = _printed(conn, [] if statement is None else [statement])
        return self.texts[key]

    @deep()
    def recompute(self, conn: db.Connection, stage: Stage, *, staged: bool, computed: bool = False) -> tuple[SQL, ...]:
        """The statements that recompute a stage by difference; ``staged``: by temporary tables, all in one message;
        ``computed``: those that are left after those of `compute`."""
        key = ("recompute", stage.number, staged, computed)
        if key not in self.texts:
            if staged:
                statements = _staged(emit.stage_staged(self.plan, stage, self._bound, computed=computed))
            else:
                statements = [*emit.stage_recompute(self.plan, stage, self._bound)]
            self.texts[key] = _printed(conn, statements)
        return self.texts[key]

    @deep()
    def compute(self, conn: db.Connection, stage: Stage) -> tuple[SQL, ...]:
        """The statements that compute a stage into temporary tables and do not look at its output table."""
        return _printed(conn, _staged(emit.stage_computed(stage, self._bound)))

    @deep()
    def load(self, conn: db.Connection, stage: Stage) -> tuple[SQL, ...]:
        """The statements that fill an empty stage."""
        return _printed(conn, emit.stage_load(self.plan, stage, self._bound))

    @deep()
    def verify(self, conn: db.Connection) -> SQL:
        """The statement that compares the stream table with its query."""
        return _printed(conn, [emit.verify_query(self.plan, self._bound)])[0]

    @property
    def whole(self) -> Compiled:
        """The same stream table from its query alone: its stages are not read, and hold anything afterwards."""
        root = self.plan.root
        query = replace(root, strategy=Strategy.ALL, operator=Opaque(self.plan.reference, root.columns), group=None)
        return Compiled(self.version, replace(self.plan, stages=(query,)), self.bindings)

    def is_usual(self, stage: Stage, changed: frozenset[InputKey]) -> bool:
        """Whether these changes of a stage come up again and again, so that it is worth to keep the plan for them."""
        key = (stage.number, changed)
        if key in self.used:
            return True
        self.used.add(key)
        return False

    @property
    def _bound(self) -> Bindings:
        if self.bindings is None:
            raise InternalError("a plan is printed before it is bound to tables")
        return self.bindings


class Plans:
    """Plans of committed definitions, shared by the sessions of one process on one database: compiled by the first.

    A plan is a value, and one version of a definition has one plan; so threads need no lock.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[int | None, Plan]] = {}

    def get(self, stream_table_id: int, version: int | None) -> Plan | None:
        """The plan of this version of a definition; None if nobody has compiled it yet."""
        found = self._known.get(stream_table_id)
        return found[1] if found is not None and found[0] == version else None

    def put(self, stream_table_id: int, version: int | None, plan: Plan) -> None:
        """Keep the plan of a version that is committed."""
        self._known[stream_table_id] = (version, plan)


def _compared(plan: Plan) -> Mapping[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    for stage in plan.stages:
        read = conditional_columns(stage.operator)
        for scan in scans_of(stage.operator):
            if scan.input.kind == "table":
                pairs = zip(scan.attributes, scan.columns, strict=True)
                numbers = {number for (number, _), column in pairs if column.name in read}
                found.setdefault(scan.input.ident, set()).update(numbers)
    return {relid: frozenset(numbers) for relid, numbers in found.items()}


def _staged(steps: Iterable[emit.Step]) -> list[Query]:
    # Few rows differ, whatever the planner takes them for: that they have to be handed over must not keep it from
    # computing them in parallel.
    statements: list[Query] = []
    for step in steps:
        statements += [_HANDED_OVER, step.statement, _AS_USUAL] if step.few else [step.statement]
    return statements


_HANDED_OVER = SQL("SET LOCAL parallel_tuple_cost = 0")
_AS_USUAL = SQL("SET LOCAL parallel_tuple_cost TO DEFAULT")


def _printed(conn: db.Connection, statements: Iterable[Query]) -> tuple[SQL, ...]:
    # Printing a long statement costs milliseconds; its placeholders survive in the text.
    return tuple(SQL(cast("LiteralString", one.as_string(conn))) for one in statements)


_PARSER = version("pglast")

#: Analysing a query locks its relations as reading them would: a source that is being rewritten must not hold a worker.
#: Milliseconds.
COMPILE_LOCK_TIMEOUT_MS = 3_000


def compile_member(conn: db.Connection, row: GroupRow) -> Compiled:
    """Compile a registered stream table from its canonical query, under its recorded settings.

    Raises:
        InvalidQuery: the query no longer works (a source or column is gone).
        UnsupportedQuery: it can no longer be maintained differentially, and that was demanded.
    """
    with db.transaction(conn, object_name=row.name):
        wait = db.shorter_than_deadlocks(conn, COMPILE_LOCK_TIMEOUT_MS)
        pin(conn, {**row.settings, "lock_timeout": str(wait)})
        # What this very package has proven with this server before needs no second proof. FULL stays FULL, also where
        # the reason was not the query but what can be captured of its sources.
        full = row.effective_mode == "FULL"
        analysis = analyze.compile_query(
            conn,
            row.canonical_query,
            mode="FULL" if full else row.requested_mode,
            proven=not full and row.definition.get("checked") == checker(conn),
        )
    plan = replace(analysis.plan, full_reason=row.mode_reason) if full else analysis.plan
    return Compiled(row.definition.get("version"), plan)


def checker(conn: db.Connection) -> str:
    """Who checks the statements of a plan: this package and its parser with this server, by their versions."""
    return f"{__version__} {_PARSER} {conn.info.server_version}"


def pin(conn: db.Connection, settings: Mapping[str, str]) -> None:
    """Make these settings the transaction's."""
    if settings:
        with db.wrapped():
            conn.execute(pinned(settings))
        path = settings.get("search_path", "pg_catalog")
        conn.behind = None if path == "pg_catalog" else path


@contextmanager
def under(conn: db.Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """For statements with text of a query: its settings; the search_path is ours again afterwards."""
    pin(conn, settings)
    conn.behind = None
    yield
    db.execute(conn, db.use_path(db.SAFE_PATH))


def own_path(settings: Mapping[str, str]) -> Mapping[str, str]:
    """The same settings, but for statements of ours: none of the user's schemas is searched."""
    return settings if settings.get("search_path") == "pg_catalog" else {**settings, "search_path": db.SAFE_PATH}


def pinned(settings: Mapping[str, str]) -> Query:
    """One statement that makes these settings the transaction's."""
    return _pinned(tuple(sorted(settings.items())))


@lru_cache(maxsize=256)
def _pinned(settings: tuple[tuple[str, str], ...]) -> SQL:
    calls = [
        SQL("pg_catalog.set_config({}, {}, true)").format(Literal(name), Literal(value)) for name, value in settings
    ]
    # The same few settings come with every refresh, and printing them takes longer than the server takes to set them.
    return SQL(cast("LiteralString", SQL("SELECT {}").format(SQL(", ").join(calls)).as_string(None)))


def shape(plan: Plan) -> str:
    """A digest of what the plan's tables look like; another shape means that state has to be built again."""
    parts: list[str] = [str(FORMAT), plan.mode]
    for stage in plan.stages:
        columns = ",".join(f"{column.name} {column.type.oid} {column.type.typmod}" for column in stage.columns)
        inputs = ",".join(sorted(f"{key.kind} {key.ident}" for key in stage.inputs))
        parts.append(f"{stage.number}|{stage.strategy.value}|{stage.key}|{columns}|{inputs}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
