"""What a definition would change, without changing it: dbt's ``on_configuration_change`` asks first."""

from __future__ import annotations

from pgtrickle.catalog.model import StreamTable
from pgtrickle.lifecycle.definition import compile_definition
from pgtrickle.lifecycle.options import Configuration
from pgtrickle.lifecycle.replace import configuration_changes, definition_differs
from pgtrickle.lifecycle.target import resolve
from pgtrickle.refresh import Session


def preview(session: Session, name: str, query: str, configuration: Configuration) -> tuple[str, ...]:
    """The kinds of change that ``create_or_replace`` would make; nothing is written.

    Returns:
        ``("create",)``; or any of ``configuration``, ``query``, ``suspend``, ``resume``; or ``("none",)``.
    """
    target = resolve(session.conn, name)
    if target.stream_table is None or target.vanished:
        return ("create",)
    return _changes(session, target.stream_table, query, configuration) or ("none",)


def _changes(session: Session, old: StreamTable, query: str, configuration: Configuration) -> tuple[str, ...]:
    mode = configuration.mode or old.requested_mode
    analysis = compile_definition(session.conn, query, mode, settings=None)
    found = []
    if configuration_changes(old, configuration) or mode != old.requested_mode:
        found.append("configuration")
    if definition_differs(old, analysis):
        found.append("query")
    if configuration.status == "SUSPENDED" and old.status != "SUSPENDED":
        found.append("suspend")
    if configuration.status == "ACTIVE" and old.status in ("SUSPENDED", "ERROR"):
        found.append("resume")
    return tuple(found)
