"""A consumer of change buffers that tests can hold against the truth: what it loaded plus what was captured since."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from pgtrickle import capture, db
from pgtrickle.catalog import frontiers, sources, stream_tables
from pgtrickle.catalog.model import Frontier, NewStreamTable, Source
from pgtrickle.plan import SourceNeed

_numbers = itertools.count(1)


def relid_of(conn: psycopg.Connection[Any], name: str) -> int:
    """OID of a table by its quoted name."""
    row = conn.execute("SELECT %s::regclass::oid", (name,)).fetchone()
    assert row is not None
    return row[0]


def need_of(conn: psycopg.Connection[Any], name: str, columns: list[str] | None = None, **facts: Any) -> SourceNeed:
    """The need of a plan that reads these columns of a table (default: all)."""
    relid = relid_of(conn, name)
    found = conn.execute(
        "SELECT attnum, attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped", (relid,)
    ).fetchall()
    return SourceNeed(relid, "table", {n: a for n, a in found if columns is None or a in columns}, **facts)


class Consumer:
    """A registered stream table (without a table) that reads one source."""

    def __init__(self, conn: db.Connection, need: SourceNeed) -> None:
        self.conn = conn
        self.need = need
        number = next(_numbers)
        self.id = stream_tables.insert(
            conn,
            NewStreamTable(
                relid=4_000_000_000 + number,
                schema_name="nowhere",
                table_name=f"consumer_{number}",
                query="",
                canonical_query="",
                requested_mode="AUTO",
                effective_mode="DIFFERENTIAL",
            ),
        )
        self.content: Counter[tuple[Any, ...]] = Counter()

    def install(self, **options: Any) -> Consumer:
        """Capture and register."""
        capture.install(self.conn, self.id, [self.need], **options)
        return self

    def load(self) -> Consumer:
        """Read the source and set the frontier, in one snapshot."""
        with db.transaction(self.conn, repeatable_read=True):
            frontiers.lock(self.conn, [self.id])
            self.content = self._content()
            frontiers.advance(self.conn, self.id, refresh_no=1, consumed={}, data_changed=True)
        return self

    @property
    def source(self) -> Source:
        """The captured source."""
        found = sources.fetch_by_relid(self.conn, self.need.relid)
        assert found is not None
        return found

    @property
    def frontier(self) -> Frontier:
        """How far it is."""
        return frontiers.fetch(self.conn, [self.id])[0]

    def changes(self) -> capture.SourceChanges:
        """The window as the engine counts it."""
        return capture.changes(self.conn, self.frontier, [self.source])[0]

    def refresh(self) -> Counter[tuple[Any, ...]]:
        """Apply the window and move the frontier; what the content is then. Fails on a mark."""
        with db.transaction(self.conn, repeatable_read=True):
            (frontier,) = frontiers.lock(self.conn, [self.id])
            assert not capture.changes(self.conn, frontier, [self.source])[0].marked, "a mark was captured"
            self.content.update(self._window(frontier))
            frontiers.advance(self.conn, self.id, refresh_no=frontier.refresh_no + 1, consumed={}, data_changed=True)
        self.content = Counter({row: weight for row, weight in self.content.items() if weight != 0})
        return self.content

    def assert_exact(self) -> None:
        """Refresh, and compare with the source, image by image."""
        with db.transaction(self.conn, repeatable_read=True):
            truth = self._content()
        assert self.refresh() == truth

    def _content(self) -> Counter[tuple[Any, ...]]:
        images = SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in self.need.columns.values())
        relation = self._relation()
        return Counter(self.conn.execute(SQL("SELECT {} FROM {}").format(images, relation)).fetchall())

    def _relation(self) -> SQL:
        row = self.conn.execute("SELECT %s::regclass::text", (self.need.relid,)).fetchone()
        assert row is not None
        return SQL(row[0])

    def _window(self, frontier: Frontier) -> Counter[tuple[Any, ...]]:
        assert frontier.snapshot is not None
        buffer = capture.buffer_of(self.source.id)
        images = SQL(", ").join(SQL("{}::text").format(Identifier(f"c{number}")) for number in self.need.columns)
        rows = self.conn.execute(
            SQL("SELECT __w, {} FROM {} WHERE __x >= %(xmax)s::xid8 OR __x = ANY (%(xip)s::xid8[])").format(
                images, Identifier(buffer.schema, buffer.name)
            ),
            {"xmax": frontier.snapshot.xmax, "xip": list(frontier.snapshot.xip)},
        ).fetchall()
        found: Counter[tuple[Any, ...]] = Counter()
        for weight, *row in rows:
            found[tuple(row)] += weight
        return found
