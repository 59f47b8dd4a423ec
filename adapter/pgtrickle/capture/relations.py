"""What PostgreSQL says about a source: its family of tables, its columns, what can be captured of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg.sql import SQL, Identifier

from pgtrickle import db
from pgtrickle.errors import PermissionDenied
from pgtrickle.sql import load_queries, qualified

QUERIES = load_queries("pgtrickle.capture")

#: What the triggers of a source fire for: ``statement`` throughout; ``row`` throughout, because logical replication
#: writes here and fires no other triggers; ``mixed`` where one statement changes rows of several tables that have to
#: be told apart: by row what can reach more than the table that it names, by statement the rest.
Level = Literal["statement", "mixed", "row"]

_UNWATCHABLE = {
    "m": "a materialized view has no triggers",
    "v": "a view has no rows of its own",
    "f": "a foreign table changes on another server",
    "t": "a TOAST table is not a source",
    "S": "a sequence has no triggers",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a source's family.

    ``place``: ``own`` for the source and all below it, ``ancestor`` for what is above. ``has_first_file``: it was
    never truncated nor rewritten. ``attached``: what it hangs below, and since which transaction. ``links``: how
    many tables hang directly below it. ``moved_by``: of a partitioned table the columns that a MERGE has to set to
    move a row from one partition below it to another; empty if that may be any, None where there is no MERGE.
    """

    relid: int
    schema_name: str
    table_name: str
    kind: str
    persistence: str
    is_partition: bool
    place: str
    is_owned: bool
    may_select: bool
    may_trigger: bool
    may_lock: bool
    is_system: bool
    is_subscribed: bool
    has_first_file: bool
    attached: str
    links: int
    moved_by: list[str] | None

    @property
    def name(self) -> str:
        """``schema.table``, for messages."""
        return f"{self.schema_name}.{self.table_name}"

    @property
    def identifier(self) -> Identifier:
        """The quoted, qualified name."""
        return qualified(self.schema_name, self.table_name)


@dataclass(frozen=True, slots=True)
class Column:
    """A source column; ``type_schema.type_name`` is the type under all domains."""

    number: int
    name: str
    type_oid: int
    base_type_oid: int
    type_schema: str
    type_name: str
    collation_schema: str | None
    collation_name: str | None
    collation_oid: int


@dataclass(frozen=True, slots=True)
class BufferColumn:
    """A data column that a change buffer has."""

    name: str
    type_oid: int
    collation_oid: int


@dataclass(frozen=True, slots=True)
class InstalledTrigger:
    """A trigger that runs one of our functions."""

    relid: int
    table_name: str
    schema_name: str
    name: str
    function: str
    enabled: str
    xmin: str
    is_owned: bool

    @property
    def is_whole(self) -> bool:
        """It fires for everybody, as far as we may say so."""
        return self.enabled == ("A" if self.is_owned else "O")


@dataclass(frozen=True, slots=True)
class Family:
    """A source with the tables below and above it. Empty if the table does not exist (any more)."""

    relid: int
    tables: tuple[Table, ...]

    @property
    def root(self) -> Table | None:
        """The source itself."""
        return next((table for table in self.tables if table.relid == self.relid), None)

    @property
    def own(self) -> tuple[Table, ...]:
        """The source and all tables below it, by OID."""
        return tuple(table for table in self.tables if table.place == "own")

    @property
    def ancestors(self) -> tuple[Table, ...]:
        """The tables above, by OID."""
        return tuple(table for table in self.tables if table.place == "ancestor")

    @property
    def is_partitioned(self) -> bool:
        """Whether rows are routed to the tables below; then all tables are partitions."""
        return any(table.kind == "p" for table in self.own)

    def level(self, *, rows: bool, tableoid: bool) -> Level:
        """What the triggers have to fire for.

        Args:
            rows: rows are captured, not only marks.
            tableoid: with each row the table that holds it.
        """
        if any(table.is_subscribed for table in self.own):
            return "row"
        # A statement on an inheritance parent shows its triggers the rows of children, cut to its own columns.
        above = any(table.kind != "p" for table in self.ancestors)
        return "mixed" if rows and (above or (tableoid and len(self.own) > 1)) else "statement"

    def unwatchable(self) -> str | None:
        """Why no trigger can watch this source, or None."""
        root = self.root
        if root is None:
            return "the table does not exist"
        if root.persistence == "t":
            return "a temporary table is invisible to other sessions"
        if root.is_system:
            return "a system catalog has no triggers"
        for table in self.own:
            if table.kind in _UNWATCHABLE:
                where = "" if table.relid == self.relid else f"{table.name} belongs to it, and "
                return where + _UNWATCHABLE[table.kind]
        return None


def family(conn: db.Connection, relid: int) -> Family:
    """Read the family of a table."""
    return Family(relid, db.fetch_all(conn, QUERIES["family"], Table, {"relid": relid}))


def never_filled(conn: db.Connection, table: Table) -> bool:
    """Whether a table has never held a row, so that nothing that happened to it can have been missed."""
    if table.kind == "p":
        return True
    return table.has_first_file and db.fetch_value(conn, QUERIES["file_size"], {"relid": table.relid}) == 0


def columns(conn: db.Connection, relid: int, numbers: Sequence[int]) -> tuple[Column, ...]:
    """Read columns by attribute number; dropped ones are left out, and virtual ones, of which nothing is stored."""
    return db.fetch_all(conn, QUERIES["source_columns"], Column, {"relid": relid, "columns": list(numbers)})


def key_columns(conn: db.Connection, relid: int) -> tuple[str, ...]:
    """Names of the columns of a unique key without NULLs; empty if there is none that rows can be paired by."""
    return tuple(row["name"] for row in db.fetch_all(conn, QUERIES["key_columns"], dict, {"relid": relid}))


def require_privileges(conn: db.Connection, found: Family) -> None:
    """Raise unless the engine's role may read and put triggers on all tables of a family.

    Raises:
        PermissionDenied: the hint has the GRANTs.
    """
    lacking = [
        table for table in found.tables if not (table.may_trigger and (table.may_select or table.place != "own"))
    ]
    if not lacking:
        return
    role = db.fetch_value(conn, SQL("SELECT current_user::text"))
    grants = SQL("; ").join(
        SQL("GRANT SELECT, TRIGGER ON {} TO {}").format(table.identifier, Identifier(role)) for table in lacking
    )
    raise PermissionDenied(
        f"the role {role} may not capture changes",
        object_name=lacking[0].name,
        detail="SELECT and TRIGGER are needed on the table, its partitions and the tables above it. SELECT on single"
        " columns is not enough: PostgreSQL locks a table only for a role that may read all of it.",
        hint=grants.as_string(conn),
    )


def restrictions(conn: db.Connection, relid: int) -> str | None:
    """Why rows of a source cannot be captured, in a half sentence; None if they can.

    Such a source is only good for FULL: of some it can be captured *that* they changed, of others nothing.

    Args:
        conn: any connection.
        relid: OID of the source.
    """
    found = family(conn, relid)
    return found.unwatchable()
