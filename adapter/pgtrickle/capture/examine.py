"""What is wrong with the capture of a source, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.capture import relations
from pgtrickle.capture.gap import Gap, look
from pgtrickle.catalog.model import Source


@dataclass(frozen=True, slots=True)
class Examination:
    """How the capture of a source differs from what its consumers need.

    Attributes:
        missed: why changes may have gone by uncaptured, or None.
        differences: what would be changed.
    """

    missed: str | None = None
    differences: tuple[str, ...] = ()


def examine(conn: db.Connection, source: Source) -> Examination:
    """What `converge` would do; changes nothing and takes no lock.

    Raises:
        PermissionDenied: the engine's role may not capture.
    """
    with db.transaction(conn):
        db.execute(conn, SQL("SET LOCAL search_path = pg_catalog, pg_temp"))
        target, _, gap = look(conn, source)
        if target.family.root is None:
            return Examination()
        relations.require_privileges(conn, target.family)
    return Examination(None if gap.overflowed else gap.missed, tuple(_differences(gap)))


def _differences(gap: Gap) -> Iterator[str]:
    if gap.create_buffer:
        yield "there is no change buffer"
    elif gap.alter_buffer:
        yield "the change buffer has other columns"
    if gap.index_buffer:
        yield "the index of the change buffer is missing, or not needed"
    for name in gap.functions:
        yield f"the function {name} is missing or another one"
    for trigger in gap.create:
        yield f"the trigger {trigger.name} on {trigger.table.name} is missing or was changed"
    for found in gap.drop:
        yield f"the trigger {found.name} on {found.schema_name}.{found.table_name} is not needed"
