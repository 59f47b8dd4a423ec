"""What a runner asks and starts per tick: nothing for what has not changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgtrickle import api, capture
from pgtrickle import db as engine_db
from pgtrickle.api import PgTrickle
from pgtrickle.catalog import runners
from pgtrickle.config import RunnerSettings
from pgtrickle.schedule import watch
from pgtrickle.schedule.dispatch import Dispatcher
from pgtrickle.schedule.housekeeping import Identity
from pgtrickle.schedule.pool import Done, Pool
from tests.support.counting import sent_by

pytestmark = pytest.mark.newest_only

Connection = psycopg.Connection[Any]
COUNT = 25


class Looks:
    """A dispatcher that is told when to look, and the statements that it sends."""

    def __init__(self, dsn: str) -> None:
        self.me = Identity.of_this_process()
        self.conn = engine_db.connect(dsn)
        settings = RunnerSettings(workers=1)
        self._done: list[Done] = []
        self.pool = Pool(1, lambda: PgTrickle.connect(dsn, initiated_by="runner"), self._done.append)
        self.dispatcher = Dispatcher(self.me, settings, self.pool)
        watch = self.dispatcher._watch  # pyright: ignore[reportPrivateUsage]
        beat = watch.beat
        # Time passes for the runner alone here, which it would take for a server whose clock was set back.
        watch.beat = lambda conn, expected=None: beat(conn)
        self.sent = sent_by(self.conn)

    def due(self, *, later_s: float = 0.0) -> set[str]:
        """Look anew; the names of the stream tables that would be refreshed."""
        self.sent.clear()
        self.dispatcher._reload_at = 0.0  # pyright: ignore[reportPrivateUsage]
        self.dispatcher._clock -= later_s  # pyright: ignore[reportPrivateUsage]
        agenda = self.dispatcher.look(self.conn)
        return {agenda.dues[key].state.name for group in agenda.groups for key in group.members}


@pytest.fixture
def looks(engine: PgTrickle, conn: Connection, db: str) -> Iterator[Looks]:
    """Some stream tables that are due every second, and a runner that has looked at them often enough to be warm."""
    for number in range(COUNT):
        conn.execute(f"CREATE TABLE t{number} (k int PRIMARY KEY, v int); INSERT INTO t{number} VALUES (1, 1)")
        engine.create_stream_table(f"public.s{number}", f"SELECT k, v FROM t{number}", schedule="1s")
    engine.create_stream_table("public.below", "SELECT sum(v) AS v FROM public.s0", schedule="1s")
    conn.execute("UPDATE pgtrickle.frontiers SET last_refresh_at = now() - interval '1 hour'")
    found = Looks(db)
    found.due()
    yield found
    found.pool.close()
    found.conn.close()


def test_nothing_changed_is_one_query_for_all(looks: Looks) -> None:
    for _ in range(3):
        assert looks.due(later_s=5) == set()
        assert len(looks.sent) == 1


def test_work_elsewhere_is_no_reason_to_refresh(looks: Looks, conn: Connection) -> None:
    conn.execute("CREATE TABLE unrelated (x int)")
    assert looks.due(later_s=5) == set()
    assert 1 < len(looks.sent) <= 5
    assert looks.due(later_s=5) == set()
    assert len(looks.sent) == 1


def test_only_what_has_changes_is_due_with_what_reads_it(looks: Looks, conn: Connection) -> None:
    conn.execute("INSERT INTO t7 VALUES (2, 2); INSERT INTO t0 VALUES (2, 2)")
    assert looks.due() == {"public.s7", "public.s0", "public.below"}


def test_a_change_that_was_rolled_back_is_none(looks: Looks, conn: Connection) -> None:
    conn.execute("BEGIN; INSERT INTO t7 VALUES (2, 2); ROLLBACK")
    assert looks.due() == set()


def test_a_source_that_moved_without_its_dependent_makes_it_due(
    looks: Looks, engine: PgTrickle, conn: Connection
) -> None:
    conn.execute("INSERT INTO t0 VALUES (2, 2)")
    engine.refresh_stream_table("public.s0")
    capture.trim(engine.conn)
    assert looks.due() == {"public.below"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE pgtrickle.stream_tables SET recompute_reason = 'asked' WHERE table_name = 's3'",
        "UPDATE pgtrickle.stream_tables SET last_error = '{}', retry_at = now() WHERE table_name = 's3'",
        "UPDATE pgtrickle.stream_tables SET definition = definition || '{\"unwatched\": true}' WHERE table_name = 's3'",
    ],
)
def test_whoever_has_another_reason_is_due_without_a_change(looks: Looks, conn: Connection, change: str) -> None:
    conn.execute(change)
    assert looks.due() == {"public.s3"}


def test_a_disabled_trigger_is_noticed_though_it_leaves_no_change(
    looks: Looks, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PROOF_SECONDS", 0.0)
    monkeypatch.setattr(watch, "PROOFS_AT_ONCE", COUNT + 1)
    conn.execute("ALTER TABLE t4 DISABLE TRIGGER ALL; INSERT INTO t4 VALUES (2, 2); ALTER TABLE t4 ENABLE TRIGGER ALL")
    assert looks.due() == {"public.s4"}


def test_freshness_is_written_once_for_all(looks: Looks, engine: PgTrickle, conn: Connection) -> None:
    conn.execute("INSERT INTO t7 VALUES (2, 2)")
    looks.due()
    state = {row.name: row for row in engine.status()}
    assert not state["public.s3"].stale
    assert state["public.s7"].stale
    assert state["public.s3"].data_timestamp is not None
    assert state["public.s7"].data_timestamp is not None
    assert state["public.s3"].data_timestamp > state["public.s7"].data_timestamp
    before = state["public.s3"].last_refresh_at
    runners.delete(looks.conn, looks.me.runner_id)
    state = {row.name: row for row in engine.status()}
    assert before is not None
    assert state["public.s3"].last_refresh_at is not None
    assert state["public.s3"].last_refresh_at > before
    assert not state["public.s3"].stale
    assert state["public.s7"].stale


def test_trimming_empty_buffers_is_one_message(engine: PgTrickle, looks: Looks, conn: Connection) -> None:
    capture.trim(engine.conn)
    sent = sent_by(engine.conn)
    capture.trim(engine.conn)
    assert len(sent) == 1


def test_a_new_process_does_not_check_a_plan_again(engine: PgTrickle, conn: Connection, db: str) -> None:
    conn.execute("CREATE TABLE t (k int PRIMARY KEY, v int)")
    engine.create_stream_table("public.s", "SELECT k, sum(v) AS v FROM t GROUP BY k")
    conn.execute("INSERT INTO t VALUES (1, 1)")
    with api.PgTrickle.connect(db) as other:
        sent = sent_by(other.conn)
        assert other.refresh_stream_table("public.s").action == "DIFFERENTIAL"
        assert not [text for text in sent if "pg_temp" in text and "CREATE" in text]
