"""Changes of definitions in the history."""

from __future__ import annotations

from pgtrickle.catalog import history
from pgtrickle.catalog.model import HistoryEntry, StreamTable
from pgtrickle.refresh import Session


def record_definition(session: Session, stream_table: StreamTable, reason: str) -> None:
    """Add a line that says what happened to a definition.

    Args:
        session: who did it.
        stream_table: to which.
        reason: what, in a few words.
    """
    # All times in the catalog are the server's: ours may be another one.
    now = history.now(session.conn)
    history.insert(
        session.conn,
        HistoryEntry(
            stream_table_id=stream_table.id,
            schema_name=stream_table.schema_name,
            table_name=stream_table.table_name,
            started_at=now,
            finished_at=now,
            action="DEFINITION",
            duration_ms=0.0,
            initiated_by=session.initiated_by,
            reason=reason,
        ),
    )
