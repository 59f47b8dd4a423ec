"""The repository of the catalog: what goes in comes out, and the views say it to people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from pgtrickle import db as engine_db
from pgtrickle.catalog import history, messages, runners, sources, stages, stream_tables
from pgtrickle.catalog.model import Dependency, HistoryEntry, NewStreamTable, StageTables
from pgtrickle.errors import InternalError, StatementFailed, StreamTableNotFound

User = psycopg.Connection[Any]
#: Nothing here differs between versions of the server.
pytestmark = pytest.mark.newest_only

NOW = datetime(2024, 5, 1, tzinfo=timezone.utc)


def add(conn: engine_db.Connection, name: str = "orders_by_day", **more: Any) -> int:
    """Register a stream table over a table of that name."""
    conn.execute(f'CREATE TABLE "{name}" (k integer)')
    row = conn.execute(f"SELECT '\"{name}\"'::regclass::oid").fetchone()
    assert row is not None
    fields = {
        "relid": row[0],
        "schema_name": "public",
        "table_name": name,
        "query": "SELECT 1",
        "canonical_query": "SELECT 1",
        "requested_mode": "AUTO",
        "effective_mode": "DIFFERENTIAL",
    }
    return stream_tables.insert(conn, NewStreamTable(**{**fields, **more}))


def test_stream_table_comes_back_as_it_was_registered(storage: engine_db.Connection) -> None:
    ident = add(storage, settings={"TimeZone": "UTC"}, options={"tags": ["a"]}, schedule="30s", schedule_seconds=30.0)
    found = stream_tables.get(storage, "public", "orders_by_day")
    assert (found.id, found.status, found.is_populated) == (ident, "INITIALIZING", False)
    assert (found.settings, found.options, found.schedule_seconds) == ({"TimeZone": "UTC"}, {"tags": ["a"]}, 30.0)
    assert stream_tables.fetch(storage, ident) == stream_tables.fetch_by_relid(storage, found.relid) == found
    assert stream_tables.fetch_all(storage) == (found,)
    assert found.name == "public.orders_by_day"


def test_name_is_registered_once(storage: engine_db.Connection) -> None:
    add(storage)
    found = stream_tables.get(storage, "public", "orders_by_day")
    with pytest.raises(StatementFailed) as caught:
        stream_tables.insert(
            storage, NewStreamTable(found.relid, "public", "other", "SELECT 1", "SELECT 1", "AUTO", "FULL")
        )
    assert caught.value.sqlstate == "23505"


def test_unknown_name_is_not_found(storage: engine_db.Connection) -> None:
    assert stream_tables.fetch_by_name(storage, "public", "nope") is None
    with pytest.raises(StreamTableNotFound, match=r"public\.nope"):
        stream_tables.get(storage, "public", "nope")


def test_rename_by_hand_is_followed(storage: engine_db.Connection) -> None:
    ident = add(storage)
    storage.execute("ALTER TABLE orders_by_day RENAME TO renamed")
    found = stream_tables.fetch_by_name(storage, "public", "renamed")
    assert found is not None
    assert found.id == ident
    assert stream_tables.fetch_by_name(storage, "public", "orders_by_day") is None


def test_update_sets_columns_and_moves_altered_at_only_for_definitions(storage: engine_db.Connection) -> None:
    ident = add(storage)
    before = stream_tables.fetch(storage, ident)
    stream_tables.update(storage, ident, status="ACTIVE", fingerprint={"a": 1}, is_populated=True)
    after = stream_tables.fetch(storage, ident)
    assert before is not None
    assert after is not None
    assert (after.status, after.fingerprint, after.altered_at) == ("ACTIVE", {"a": 1}, before.altered_at)
    stream_tables.update(storage, ident, schedule="1m")
    again = stream_tables.fetch(storage, ident)
    assert again is not None
    assert again.altered_at > before.altered_at


@pytest.mark.parametrize("changes", [{"id": 2}, {"created_at": NOW}, {"nonsense": 1}, {}])
def test_update_of_what_may_not_change_is_our_bug(changes: dict[str, Any], storage: engine_db.Connection) -> None:
    with pytest.raises(InternalError):
        stream_tables.update(storage, add(storage), **changes)


def test_first_reason_to_recompute_is_kept(storage: engine_db.Connection) -> None:
    ident = add(storage)
    stream_tables.request_recompute(storage, ident, "first")
    stream_tables.request_recompute(storage, ident, "second")
    found = stream_tables.fetch(storage, ident)
    assert found is not None
    assert found.recompute_reason == "first"


def test_dependencies_gather_columns_and_never_lose_rows(storage: engine_db.Connection) -> None:
    ident = add(storage)
    for columns, rows in (((1,), True), ((2, 3), False)):
        sources.upsert_dependency(
            storage, Dependency(ident, 0, "uncaptured", 5, "public", "x", columns=columns, rows=rows)
        )
    sources.upsert_dependency(storage, Dependency(ident, 0, "function", 5, "public", "f()"))
    first, second = sources.dependencies(storage, ident)
    assert (first.columns, first.rows, second.kind) == ((1, 2, 3), True, "function")
    assert first.position != second.position
    sources.delete_dependencies(storage, ident, ["function"])
    assert sources.dependencies(storage) == (first,)


def test_stream_table_with_dependents_cannot_be_forgotten(storage: engine_db.Connection) -> None:
    lower, upper = add(storage, "lower"), add(storage, "upper")
    found = stream_tables.fetch(storage, lower)
    assert found is not None
    sources.upsert_dependency(
        storage, Dependency(upper, 0, "stream_table", found.relid, "public", "lower", source_stream_table_id=lower)
    )
    assert sources.dependents(storage, lower) == (upper,)
    with pytest.raises(StatementFailed):
        stream_tables.delete(storage, lower)
    stream_tables.delete(storage, upper)
    stream_tables.delete(storage, lower)
    assert stream_tables.fetch_all(storage) == ()


def test_stages_are_replaced_as_a_whole(storage: engine_db.Connection) -> None:
    ident = add(storage)
    stages.replace(storage, ident, [StageTables(ident, 0, "delta", "s0"), StageTables(ident, 1, "delta")])
    stages.replace(storage, ident, [StageTables(ident, 0, "delta", None, "state", "log")])
    assert stages.fetch(storage, ident) == (StageTables(ident, 0, "delta", None, "state", "log"),)


def entry(ident: int, action: str = "FULL", finished: datetime | None = None, **more: Any) -> HistoryEntry:
    """An attempt."""
    finished = finished or datetime.now(timezone.utc)
    return HistoryEntry(ident, "public", "x", finished, finished, action, 1.5, "MANUAL", **more)


def test_history_is_read_newest_first_and_pruned_but_for_the_latest(storage: engine_db.Connection) -> None:
    ident = add(storage)
    old = datetime.now(timezone.utc) - timedelta(days=30)
    for action in ("INITIAL", "NO_DATA", "FAILED"):
        history.insert(storage, entry(ident, action, old, error={"message": "x"}))
    assert [found.action for found in history.fetch(storage, ident)] == ["FAILED", "NO_DATA", "INITIAL"]
    assert [found.action for found in history.fetch(storage, limit=1)] == ["FAILED"]
    assert [found.action for found in history.fetch(storage, actions=["INITIAL"])] == ["INITIAL"]
    assert history.prune(storage) == 2
    assert [found.action for found in history.fetch(storage)] == ["FAILED"]


def test_message_is_new_once(storage: engine_db.Connection) -> None:
    ident = add(storage)
    long = "x" * 100_000
    assert messages.record(storage, ident, "ORDER_BY", long)
    assert not messages.record(storage, ident, "ORDER_BY", long)
    assert storage.execute("SELECT length(text) FROM pgtrickle.messages").fetchall() == [(100_000,)]


def test_lease_is_held_by_one_runner_until_it_expires(storage: engine_db.Connection) -> None:
    ident, other = add(storage), add(storage, "other")
    for name in ("a", "b"):
        runners.beat(storage, name, host="h", pid=1, engine_version="0")
    assert runners.acquire(storage, "a", [ident, 999], seconds=60) == {ident}
    assert runners.acquire(storage, "b", [ident, other], seconds=60) == {other}
    assert runners.acquire(storage, "a", [ident], seconds=0.0) == {ident}
    assert runners.acquire(storage, "b", [ident], seconds=60) == {ident}
    runners.release(storage, "b", [ident, other])
    assert storage.execute("SELECT * FROM pgtrickle.leases").fetchall() == []
    runners.acquire(storage, "a", [ident], seconds=60)
    runners.delete(storage, "a")
    assert storage.execute("SELECT * FROM pgtrickle.leases").fetchall() == []
    assert runners.delete_silent(storage, older_than_s=-1) == 1


def test_status_of_an_unknown_name_is_a_failing_row(storage: engine_db.Connection) -> None:
    assert storage.execute(
        "SELECT name, status, stale, populated FROM pgtrickle.stream_table_status('nope')"
    ).fetchall() == [("nope", "NOT_FOUND", True, False)]


def test_status_is_stale_until_populated_and_when_the_schedule_is_missed(storage: engine_db.Connection) -> None:
    def status() -> tuple[Any, ...] | None:
        return storage.execute(
            "SELECT stale, staleness_seconds >= 5 FROM pgtrickle.stream_table_status('public.orders_by_day')"
        ).fetchone()

    ident = add(storage, schedule="1s", schedule_seconds=1.0)
    assert status() == (True, None)
    stream_tables.update(storage, ident, is_populated=True, status="ACTIVE")
    storage.execute("UPDATE pgtrickle.frontiers SET last_refresh_at = now()")
    assert status() == (False, False)
    storage.execute("UPDATE pgtrickle.frontiers SET last_refresh_at = now() - interval '5 s'")
    assert status() == (True, True)


def test_views_for_people(storage: engine_db.Connection) -> None:
    def health() -> tuple[Any, ...] | None:
        return storage.execute("SELECT total_stream_tables, status FROM pgtrickle.quick_health").fetchone()

    assert health() == (0, "EMPTY")
    ident = add(storage)
    assert health() == (1, "WARNING")
    stream_tables.update(storage, ident, is_populated=True, status="ACTIVE")
    history.insert(storage, entry(ident, rows_inserted=3))
    history.insert(storage, entry(ident, "FAILED"))
    assert health() == (1, "OK")
    assert storage.execute(
        "SELECT name, total_refreshes, failed_refreshes, total_rows_inserted, last_refresh_action"
        " FROM pgtrickle.pg_stat_stream_tables"
    ).fetchall() == [("orders_by_day", 2, 1, 3, "FAILED")]
    stream_tables.update(storage, ident, status="SUSPENDED")
    assert health() == (1, "CRITICAL")
    assert storage.execute("SELECT name, status FROM pgtrickle.stream_tables_info").fetchall() == [
        ("orders_by_day", "SUSPENDED")
    ]
