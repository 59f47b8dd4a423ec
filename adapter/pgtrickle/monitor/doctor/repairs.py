"""What mends a finding. Each is safe to repeat, and waits for locks no longer than installing does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL, Identifier

from pgtrickle import capture, db, lifecycle
from pgtrickle.catalog import access, history, sources, structure
from pgtrickle.errors import LockTimeout
from pgtrickle.plan import Relation
from pgtrickle.refresh import Session

if TYPE_CHECKING:
    from typing_extensions import LiteralString

REASON = "the doctor found it damaged"

Repair = Callable[[Session, str], None]


def _name_of(relation: Relation) -> Identifier:
    return Identifier(relation.schema, relation.name)


def _text(printed: str) -> SQL:
    """What the server printed by regclass, regprocedure or format: names are quoted already."""
    return SQL(cast("LiteralString", printed))


def _settle(session: Session, target: str) -> None:
    """Install what is missing, remove what nobody reads; consumers recompute where something may have been missed."""
    source = next((one for one in sources.fetch_all(session.conn) if one.id == int(target)), None)
    if source is not None and not capture.settle(session.conn, source):
        raise LockTimeout("The source stayed locked.", object_name=source.table_name, hint="Try again later.")


def _table(statement: str) -> Repair:
    """One statement on one of our tables."""

    def repair(session: Session, target: str) -> None:
        db.ddl(session.conn, _text(statement).format(_text(target)), object_name=target)

    return repair


def _set_logged(session: Session, target: str) -> None:
    """What a crash may have emptied cannot be trusted: whoever reads it recomputes."""
    access.run(session.conn, "request_recompute_of_all", reason=REASON)
    db.ddl(session.conn, SQL("ALTER TABLE {} SET LOGGED").format(_text(target)), object_name=target)


def _vacuum(session: Session, target: str) -> None:
    capture.trim(session.conn)
    db.execute(session.conn, SQL("VACUUM {}").format(_text(target)))


def _drop_function(session: Session, target: str) -> None:
    """With its triggers; it is a trigger function of ours, on which nothing else can hang."""
    db.ddl(session.conn, SQL("DROP FUNCTION IF EXISTS {} CASCADE").format(_text(target)), object_name=target)


def _rebuild(session: Session, target: str) -> None:
    lifecycle.rebuild(session, int(target), REASON)


def _discard(session: Session, target: str) -> None:
    lifecycle.discard_by_id(session, int(target))


def _guard(session: Session, target: str) -> None:
    """What others may have written has to go. If its absence was recorded, nothing else would miss it."""
    lifecycle.put_guard(session, int(target))
    _rebuild(session, target)
    _recompute(session, target)


def _recompute(session: Session, target: str) -> None:
    access.run(session.conn, "request_recompute", id=int(target), reason=REASON)
    lifecycle.repair_by_id(session, int(target))


def _frontier(session: Session, target: str) -> None:
    access.run(session.conn, "plant_frontier", id=int(target))
    _recompute(session, target)


def _adopt(session: Session, target: str) -> None:
    lifecycle.rebind(session.conn)


def _statement(session: Session, target: str) -> None:
    db.ddl(session.conn, _text(target))


def _catalog(session: Session, target: str) -> None:
    db.ddl(session.conn, [_text(one) for one in structure.statements(target)], object_name=target)


def _schema(session: Session, target: str) -> None:
    """What was in it is missing too, which other checks see then."""
    db.ddl(session.conn, SQL("CREATE SCHEMA {}").format(Identifier(target)), object_name=target)


def _undo(session: Session, target: str) -> None:
    """Nobody knows what it has changed of what was written."""
    access.run(session.conn, "request_recompute_of_all", reason=REASON)
    db.ddl(session.conn, _text(target))


def _record(session: Session, target: str) -> None:
    """Whether it was whole all the time is not known either."""
    access.run(session.conn, "request_recompute_of_all", reason=REASON)
    _settle(session, target)


def _buffer(session: Session, target: str) -> None:
    """Without a change buffer, capture is found incomplete, so that all who read the source recompute."""
    db.ddl(session.conn, capture.drop_buffer(int(target)), object_name=target)
    _settle(session, target)


def _log(session: Session, target: str) -> None:
    """Dependents whose log is missing are built again, with the log."""
    db.ddl(session.conn, SQL("DROP TABLE {}").format(_name_of(capture.output_log_of(int(target)))), object_name=target)
    for dependent in sources.dependents(session.conn, int(target)):
        _rebuild(session, str(dependent))


def _finish_drops(session: Session, target: str) -> None:
    lifecycle.finish_drops(session)


def _forget_runner(session: Session, target: str) -> None:
    access.run(session.conn, "delete_runner", runner_id=target)


def _prune(session: Session, target: str) -> None:
    history.prune(session.conn)


REPAIRS: Mapping[str, Repair] = {
    "adopt": _adopt,
    "buffer": _buffer,
    "catalog": _catalog,
    "finish_drops": _finish_drops,
    "log": _log,
    "record": _record,
    "schema": _schema,
    "undo": _undo,
    "autovacuum": _table("ALTER TABLE {} RESET (autovacuum_enabled)"),
    "discard": _discard,
    "drop_function": _drop_function,
    "drop_table": _table("DROP TABLE IF EXISTS {}"),
    "forget_runner": _forget_runner,
    "frontier": _frontier,
    "guard": _guard,
    "identity": _table("ALTER TABLE {} REPLICA IDENTITY FULL"),
    "prune": _prune,
    "rebuild": _rebuild,
    "recompute": _recompute,
    "reindex": _table("REINDEX INDEX {}"),
    "set_logged": _set_logged,
    "settle": _settle,
    "statement": _statement,
    "vacuum": _vacuum,
}
