"""Statistics of large windows, so that the planner does not take them for a row or two.

A change buffer is small, changes by orders of magnitude, and is looked at by autovacuum when its rows are gone. A join
planned for one row reads the other tables row by row.
"""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.sql import SQL, Identifier

from pgtrickle import db
from pgtrickle.capture import buffer_of
from pgtrickle.refresh.cost import SMALL_WINDOW
from pgtrickle.refresh.member import Member
from pgtrickle.refresh.plan import Action, Window
from pgtrickle.refresh.session import Session

#: The samples are this small: a few milliseconds for a window of any size.
_TARGET = SQL("SET LOCAL default_statistics_target = 10")


def analyze_windows(session: Session, member: Member, windows: Mapping[int, Window], done: set[int]) -> None:
    """Analyse the change buffers of which a member joins large windows, in the refresh's transaction.

    Args:
        session: its transaction is open, and works as the engine's role, which owns the buffers.
        member: its plan is made.
        windows: relid of a source -> what is in its window.
        done: ids of the sources whose buffers are analysed already; grows.
    """
    if member.need_plan().action is not Action.DIFFERENTIAL or not member.need_compiled().joins:
        return
    large = {
        source.source_id
        for source in member.row.sources
        if source.source_id is not None and windows.get(source.relid, Window()).rows >= SMALL_WINDOW
    }
    wanted = sorted(large - done)
    if not wanted:
        return
    buffers = [buffer_of(source_id) for source_id in wanted]
    tables = SQL(", ").join(Identifier(buffer.schema, buffer.name) for buffer in buffers)
    # Somebody who analyses or vacuums one of them right now is not waited for.
    db.batch(session.conn, [_TARGET, SQL("ANALYZE (SKIP_LOCKED) {}").format(tables)], dict)
    session.statements += 1
    done.update(wanted)
