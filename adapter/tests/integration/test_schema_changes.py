"""Changes of a schema are followed, recomputed or refused before anything is applied; harmless ones cost nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from pgtrickle.errors import PgTrickleError
from tests.support.oracle import assert_same_rows
from tests.support.schema_changes import ERROR, HARMLESS, KINDS, MATRIX, NAMES, NOTHING, QUERIES, SETUP, WRITES, Change

pytestmark = pytest.mark.edges_only

OURS = (
    "SELECT array_agg(x ORDER BY x) FROM (SELECT tgrelid || ' ' || tgname || xmin AS x FROM pg_trigger"
    " WHERE starts_with(tgname, 'zz_pgtrickle')"
    " UNION ALL SELECT proname || xmin FROM pg_proc WHERE pronamespace = 'pgtrickle_changes'::regnamespace"
    " UNION ALL SELECT id || ' ' || generation FROM pgtrickle.sources) a"
)


class World:
    """A database with sources of one kind and stream tables in all modes, one over a view, one over a stream table."""

    def __init__(self, conn: psycopg.Connection[Any], engine: PgTrickle, kind: str) -> None:
        self.conn, self.engine, self.kind, self.names = conn, engine, kind, dict(NAMES)
        conn.execute(SETUP.replace("{table}", KINDS[kind]))
        for name, (mode, query) in QUERIES.items():
            engine.create_stream_table(name, query.format(**self.names), refresh_mode=mode)
        self.relids = {name: self.value("SELECT %s::regclass::oid", name) for name in QUERIES}

    def value(self, query: str, *params: Any) -> Any:
        row = self.conn.execute(query, params).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]

    def execute(self, *messages: str) -> None:
        for message in messages:
            self.conn.execute(message)  # type: ignore[arg-type]

    def name(self, table: str) -> str:
        return self.names["groups"] if table == "s_groups" else table

    def content(self, table: str) -> Any:
        return self.value(f"SELECT array_agg(s::text ORDER BY s::text) FROM {self.name(table)} s")

    def query(self, table: str) -> str:
        return QUERIES[table][1].format(**self.names)

    def check_equal(self) -> None:
        for table, (mode, _) in QUERIES.items():
            assert_same_rows(self.conn, self.name(table), self.query(table))
            assert self.engine.verify(self.name(table)).proven is (None if mode == "FULL" else True), table
            assert self.value("SELECT %s::regclass::oid", self.name(table)) == self.relids[table]


@pytest.fixture
def world(conn: psycopg.Connection[Any], engine: PgTrickle, request: pytest.FixtureRequest) -> World:
    return World(conn, engine, getattr(request, "param", "keyed"))


@pytest.mark.parametrize(
    "world", [pytest.param(kind, marks=() if kind == "keyed" else pytest.mark.slow) for kind in KINDS], indirect=True
)
def test_harmless_changes_cost_nothing(world: World) -> None:
    before = world.value(OURS)
    for name, change in HARMLESS.items():
        if world.kind not in change.kinds:
            continue
        world.execute(*change.statements)
        done = {table: world.engine.refresh_stream_table(table) for table in QUERIES}
        assert {table: (found.action, found.notices) for table, found in done.items()} == dict.fromkeys(
            QUERIES, ("NO_DATA", ())
        ), name
    assert world.value(OURS) == before
    world.execute(WRITES.format(**world.names))
    assert world.engine.refresh_stream_table("s_rows").action == "DIFFERENTIAL"
    for table in QUERIES:
        world.engine.refresh_stream_table(table)
    world.check_equal()


def cases() -> Iterator[Any]:
    for name, change in MATRIX.items():
        for kind in change.kinds:
            slow = change.slow or kind != change.kinds[0]
            yield pytest.param(kind, change, id=f"{name}-{kind}", marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("world", "change"), list(cases()), indirect=["world"])
def test_a_change_is_seen_before_anything_is_applied(world: World, change: Change) -> None:
    before = {table: world.content(table) for table in QUERIES}
    world.execute(*change.statements)
    world.names.update(change.names)
    for table in QUERIES:
        if change.outcome == ERROR and table in change.hits:
            _check_refused(world, table, change, before)
        else:
            _check_done(world, table, change)
    if change.outcome == ERROR:
        if "DROP TABLE s_groups" in change.statements:
            return
        world.execute(change.remedy)
        for table in QUERIES:
            world.engine.refresh_stream_table(world.name(table))
    world.check_equal()
    world.execute(change.writes.format(**world.names))
    assert world.engine.refresh_stream_table("s_rows").action in ("DIFFERENTIAL", "NO_DATA")
    for table in QUERIES:
        world.engine.refresh_stream_table(world.name(table))
    world.check_equal()


def _check_done(world: World, table: str, change: Change) -> None:
    found = world.engine.refresh_stream_table(world.name(table))
    if change.outcome == NOTHING or table not in change.hits:
        # A recomputed source may have changed.
        assert found.action in ("NO_DATA", "DIFFERENTIAL") or QUERIES[table][0] == "FULL", (table, found)
        assert not found.notices
        return
    assert found.action == "FULL", (table, found)
    assert [notice.code for notice in found.notices] == ["recompute"]
    assert change.says in (found.fallback_reason or "")
    told = [row.reason for row in world.engine.history(world.name(table), limit=3)]
    assert found.fallback_reason in told


def _check_refused(world: World, table: str, change: Change, before: Mapping[str, Any]) -> None:
    with pytest.raises(PgTrickleError) as caught:
        world.engine.refresh_stream_table(world.name(table))
    assert change.says in str(caught.value) + str(caught.value.detail), caught.value
    row = world.engine.status(world.name(table))[0]
    if "Not refreshed" in str(caught.value):
        return  # its source is at fault
    assert row.consecutive_errors == 1
    if world.value("SELECT to_regclass(%s) IS NOT NULL", world.name(table)):
        assert world.content(table) == before[table]
        assert row.status == "ERROR"
        assert caught.value.hint
