"""Statistics of large windows, so that the planner does not take them for a row or two.

A change buffer is small, changes by orders of magnitude, and is looked at by autovacuum when its rows are gone. A join
planned for one row reads the other tables row by row.
"""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.sql import SQL, Composable, Identifier

from pgtrickle.capture import buffer_of
from pgtrickle.db import Query
from pgtrickle.names import XID_COLUMN, change_column
from pgtrickle.refresh.cost import SMALL_WINDOW
from pgtrickle.refresh.member import Member
from pgtrickle.refresh.plan import Action, Window

#: The samples are this small: a few milliseconds for a window of any size.
_TARGET = SQL("SET LOCAL default_statistics_target = 4")


def analyze_windows(member: Member, windows: Mapping[int, Window], done: dict[int, set[int]]) -> list[Query]:
    """The statements that analyse the change buffers of which a member joins large windows, in its transaction.

    Or of which it looks up many groups in its own tables.

    Only the columns that conditions read: those of a whole row would take ten times as long.

    Args:
        member: its plan is made.
        windows: relid of a source -> what is in its window.
        done: id of a source -> the columns of its buffer that are analysed already; grows.

    Returns:
        None or two; to be executed as the engine's role, which owns the buffers.
    """
    if member.need_plan().action is not Action.DIFFERENTIAL or not member.need_compiled().joins:
        return []
    compared = member.need_compiled().compared
    wanted: dict[int, set[int]] = {}
    for source in member.row.sources:
        if source.source_id is None or windows.get(source.relid, Window()).rows < SMALL_WINDOW:
            continue
        columns = compared.get(source.relid, frozenset()) - done.get(source.source_id, set())
        if columns or source.source_id not in done:
            wanted[source.source_id] = set(columns)
    if not wanted:
        return []
    tables = SQL(", ").join(_table(source_id, columns) for source_id, columns in sorted(wanted.items()))
    for source_id, columns in wanted.items():
        done.setdefault(source_id, set()).update(columns)
    # Somebody who analyses or vacuums one of them right now is not waited for.
    return [_TARGET, SQL("ANALYZE (SKIP_LOCKED) {}").format(tables)]


def _table(source_id: int, columns: set[int]) -> Composable:
    buffer = buffer_of(source_id)
    names = [XID_COLUMN, *(change_column(number) for number in sorted(columns))]
    listed = SQL(", ").join(map(Identifier, names))
    return SQL("{} ({})").format(Identifier(buffer.schema, buffer.name), listed)
