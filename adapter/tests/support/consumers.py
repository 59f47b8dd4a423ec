"""A consumer of change buffers that tests can hold against the truth: what it loaded plus what was captured since."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from pgtrickle import capture, db
from pgtrickle.catalog import sources, stream_tables
from pgtrickle.catalog.model import NewStreamTable, Snapshot, Source
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


@dataclass(frozen=True)
class Changes:
    """What a window holds: number of change rows, and whether there is a mark."""

    rows: int
    marked: bool


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
            self._lock()
            self.content = self._content()
            self.advance()
        return self

    @property
    def source(self) -> Source:
        """The captured source."""
        (found,) = [one for one in sources.fetch_of(self.conn, [self.id]) if one.relid == self.need.relid]
        return found

    def changes(self) -> Changes:
        """The window."""
        return self._changes(self._frontier())

    def refresh(self) -> Counter[tuple[Any, ...]]:
        """Apply the window and move the frontier; what the content is then. Fails on a mark."""
        with db.transaction(self.conn, repeatable_read=True):
            frontier = self._lock()
            assert frontier is not None
            assert not self._changes(frontier).marked, "a mark was captured"
            self.content.update(self._window(frontier))
            self.advance()
        self.content = Counter({row: weight for row, weight in self.content.items() if weight != 0})
        return self.content

    def advance(self) -> None:
        """Move the frontier to the snapshot of this transaction."""
        self.conn.execute(
            "UPDATE pgtrickle.frontiers SET snapshot = pg_current_snapshot(), refresh_no = refresh_no + 1"
            " WHERE stream_table_id = %s",
            (self.id,),
        )

    def _lock(self) -> Snapshot | None:
        row = self.conn.execute(
            "SELECT snapshot::text FROM pgtrickle.frontiers WHERE stream_table_id = %s FOR UPDATE", (self.id,)
        ).fetchone()
        assert row is not None
        return None if row[0] is None else Snapshot.parse(row[0])

    def _frontier(self) -> Snapshot:
        row = self.conn.execute(
            "SELECT snapshot::text FROM pgtrickle.frontiers WHERE stream_table_id = %s", (self.id,)
        ).fetchone()
        assert row is not None
        return Snapshot.parse(row[0])

    def _rows(self, frontier: Snapshot, columns: SQL | Composed) -> list[tuple[Any, ...]]:
        buffer = capture.buffer_of(self.source.id)
        statement = SQL("SELECT {} FROM {} WHERE __x >= %s::xid8 OR __x = ANY (%s::xid8[])").format(
            columns, Identifier(buffer.schema, buffer.name)
        )
        return self.conn.execute(statement, (frontier.xmax, list(frontier.xip))).fetchall()

    def _changes(self, frontier: Snapshot) -> Changes:
        ((rows, marked),) = self._rows(
            frontier, SQL("count(*) FILTER (WHERE __w <> 0), coalesce(bool_or(__w = 0), false)")
        )
        return Changes(rows, marked)

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

    def _window(self, frontier: Snapshot) -> Counter[tuple[Any, ...]]:
        images = [SQL("{}::text").format(Identifier(f"c{number}")) for number in self.need.columns]
        found: Counter[tuple[Any, ...]] = Counter()
        for weight, *row in self._rows(frontier, SQL(", ").join([SQL("__w"), *images])):
            found[tuple(row)] += weight
        return found
