"""The triggers that a source's family needs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg.sql import SQL, Composed, Identifier

from pgtrickle.capture import functions
from pgtrickle.capture.relations import Family, Level, Table
from pgtrickle.names import CHANGES_SCHEMA
from pgtrickle.sql import comma_separated, qualified

_TRANSITION = {
    "insert": SQL("AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"),
    "update": SQL("AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT"),
    "delete": SQL("AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT"),
    "moving": SQL("BEFORE UPDATE {columns} ON {table} FOR EACH STATEMENT"),
    "truncate": SQL("BEFORE TRUNCATE ON {table} FOR EACH STATEMENT"),
    "row": SQL("AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW"),
    "old_row": SQL("AFTER UPDATE OR DELETE ON {table} FOR EACH ROW"),
}


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that has to exist. ``event`` is a key of the table of clauses above."""

    table: Table
    event: str
    source_id: int
    function: str

    @property
    def name(self) -> str:
        """Late in the alphabet: rows that a user's BEFORE TRUNCATE trigger changes are captured before ours looks.

        A trigger for certain columns is another one than that for others.
        """
        which = zlib.crc32(repr(self._columns).encode()) if self._columns else ""
        return f"zz_pgtrickle_{self.source_id}_{self.event}{which}"

    @property
    def _columns(self) -> list[str]:
        """The columns that a statement has to set for the trigger to fire; none: it may set any."""
        return sorted(self.table.moved_by or []) if self.event == "moving" else []

    def create(self) -> tuple[Composed, ...]:
        """The statements; ENABLE ALWAYS only where we may."""
        columns = SQL("OF {}").format(comma_separated(map(Identifier, self._columns))) if self._columns else SQL("")
        statement = SQL("CREATE OR REPLACE TRIGGER {name} {clause} EXECUTE FUNCTION {function}()").format(
            name=Identifier(self.name),
            clause=_TRANSITION[self.event].format(table=self.table.identifier, columns=columns),
            function=qualified(CHANGES_SCHEMA, self.function),
        )
        if not self.table.is_owned:
            return (statement,)
        always = SQL("ALTER TABLE ONLY {} ENABLE ALWAYS TRIGGER {}").format(
            self.table.identifier, Identifier(self.name)
        )
        return (statement, always)


def wanted(source_id: int, found: Family, level: Level) -> tuple[Trigger, ...]:
    """All triggers that a source needs, by table and event."""
    return tuple(_wanted(source_id, found, level))


def _wanted(source_id: int, found: Family, level: Level) -> Iterator[Trigger]:
    changes, rows = functions.changes_function(source_id), functions.row_function(source_id)
    for table in found.tables:
        is_leaf = table.kind != "p"
        if table.moved_by is not None and level == "statement":
            yield Trigger(table, "moving", source_id, functions.moving_function(source_id))
        if table.place == "own":
            for event in _events(found, level) if is_leaf or level == "statement" else ():
                yield Trigger(table, event, source_id, rows if event in ("row", "old_row") else changes)
            # TRUNCATE of a partitioned table fires on its partitions as well: recorded there, where the rows are.
            if is_leaf:
                yield Trigger(table, "truncate", source_id, functions.truncate_function(source_id))
        elif level == "statement":
            # INSERT into an inheritance parent never reaches a child.
            for event in ("update", "delete") if is_leaf else ("insert", "update", "delete"):
                yield Trigger(table, event, source_id, functions.ancestor_function(source_id))


def _events(found: Family, level: Level) -> tuple[str, ...]:
    """What a table that holds rows needs, beside TRUNCATE."""
    if level == "statement":
        return ("insert", "update", "delete")
    # What is inserted into an inheritance parent stays there, so that bulk loads need not be taken row by row.
    return ("row",) if level == "row" or found.is_partitioned else ("insert", "old_row")
