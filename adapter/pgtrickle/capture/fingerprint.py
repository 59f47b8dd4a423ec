"""The facts that change answers without leaving a change row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.capture.differences import Difference, Facts, Severity
from pgtrickle.capture.objects import objects_changed
from pgtrickle.catalog import access

_FAMILIES = SQL(
    "SELECT r.relid, (SELECT pg_catalog.string_agg(t.relid::oid::text, ' ' ORDER BY t.relid::oid)"
    " FROM pg_catalog.pg_partition_tree(r.relid) t) AS family"
    " FROM pg_catalog.unnest(%(relids)s::oid[]) AS r (relid)"
)


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    stream_table_id: int
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Family:
    relid: int
    family: str | None


def fingerprint(conn: db.Connection, stream_table_ids: Sequence[int]) -> dict[int, Facts]:
    """The present facts of several stream tables, one query; JSON to be stored in ``stream_tables.fingerprint``.

    Usable in any transaction; in REPEATABLE READ it is one with the snapshot that the refresh reads. Needs the
    rights of the engine's role, so call it before SET LOCAL ROLE.
    """
    found = access.rows(conn, "fingerprint", _Fingerprint, ids=list(stream_table_ids))
    return {row.stream_table_id: row.facts for row in found}


def compare(recorded: Facts | None, present: Facts) -> tuple[Difference, ...]:
    """Differences between two fingerprints of one stream table; pure.

    Empty if nothing has to be recorded. ``recorded=None`` demands a recompute.
    """
    if recorded is None:
        text = "nothing is known about the sources as of the last refresh"
        return (Difference("unknown", "", text, Severity.RECOMPUTE),)
    found = tuple(
        difference
        for check in (_cluster, _relations, _views, objects_changed, _own)
        for difference in check(recorded, present)
    )
    if not found and recorded.get("meaning") != present["meaning"]:
        # What has no other trace was committed behind our snapshot: the next refresh will see what it is.
        return (Difference("meaning", "", "a function or type that the query uses was altered", Severity.RECOMPUTE),)
    return found


def partitions_changed(conn: db.Connection, facts: Mapping[int, Facts]) -> tuple[Difference, ...]:
    """The check at the end of a refresh: partitions as the *catalog snapshot* sees them against these facts.

    ATTACH PARTITION slips under the snapshot of a REPEATABLE READ transaction: queries of the table see it, queries
    of the catalog do not, functions on the catalog do. No statement is sent if no source is partitioned.
    """
    expected = {
        int(relid): (relation["name"], relation["family"])
        for fact in facts.values()
        for relid, relation in fact["relations"].items()
        if relation["family"] is not None
    }
    if not expected:
        return ()
    found = db.fetch_all(conn, _FAMILIES, _Family, {"relids": list(expected)})
    return tuple(
        Difference("partitions", expected[row.relid][0], "partitions came or went during the refresh", Severity.REPAIR)
        for row in found
        if row.family != expected[row.relid][1]
    )


def _cluster(recorded: Facts, present: Facts) -> Iterator[Difference]:
    behind = max(int(recorded["xmax"]), int(present["frontier_xmax"] or 0))
    if recorded["cluster"] != present["cluster"] or int(present["xmax"]) < behind:
        text = "the database was restored or copied: its transaction ids do not go with the frontier"
        yield Difference("restored", "", text, Severity.RECOMPUTE)


def _relations(recorded: Facts, present: Facts) -> Iterator[Difference]:
    for relid, new in present["relations"].items():
        old = recorded["relations"].get(relid)
        if old is None:
            yield Difference("source", new["recorded_name"], "it was not read before", Severity.RECOMPUTE)
            continue
        moved = _identity(relid, new)
        if moved is not None:
            yield moved
            continue
        found = [one for check in (_table, _members, _capture, _columns, _keys) for one in check(old, new)]
        yield from found
        if not found and old["files"] != new["files"]:
            # Told, so that it is recorded: or else the next harmless change of a column would look like a rewrite.
            yield Difference("files", new["name"], "it was rewritten", Severity.HARMLESS)
        if new["persistence"] == "u" and (present["canary"] is None or recorded["canary"] != present["canary"]):
            text = "the server crashed, which empties UNLOGGED tables"
            yield Difference("crash", new["name"], text, Severity.RECOMPUTE)


def _identity(relid: str, new: Facts) -> Difference | None:
    """Names win over OIDs: dbt swaps tables by renaming them."""
    name = new["recorded_name"]
    if new["named"] is not None and new["named"] != relid:
        return Difference("rebound", name, "another table has this name now", Severity.REANALYSE)
    if new["name"] is None:
        return Difference("dropped", name, "the table does not exist any more", Severity.BROKEN)
    if new["named"] is None:
        return Difference("renamed", name, f"it is called {new['name']} now", Severity.REANALYSE)
    return None


def _table(old: Facts, new: Facts) -> Iterator[Difference]:
    if old["relkind"] != new["relkind"]:
        yield Difference("relkind", new["name"], "it is another kind of relation now", Severity.REANALYSE)
    if old["row_security"] != new["row_security"]:
        yield Difference("row_security", new["name"], "row level security was switched", Severity.REANALYSE)
    if old["persistence"] != new["persistence"]:
        yield Difference("persistence", new["name"], "it was SET LOGGED or UNLOGGED", Severity.HARMLESS)


def _members(old: Facts, new: Facts) -> Iterator[Difference]:
    """What ``tableoid::regclass`` shows; tables that came or went are a matter of capture."""
    before, after = old.get("members") or {}, new["members"] or {}
    for oid in before.keys() & after.keys():
        if before[oid] != after[oid]:
            text = f"{before[oid]} is called {after[oid]} now, and tableoid is read"
            yield Difference("member", new["name"], text, Severity.RECOMPUTE)


def _capture(old: Facts, new: Facts) -> Iterator[Difference]:
    if not new["captured"]:
        text = "triggers, partitions or children are not as they were when capture was installed"
        yield Difference("capture", new["name"], text, Severity.REPAIR)
    if old["generation"] != new["generation"]:
        yield Difference("generation", new["name"], "changes may have gone by uncaptured", Severity.RECOMPUTE)


def _columns(old: Facts, new: Facts) -> Iterator[Difference]:
    rewritten = old["files"] != new["files"]
    for number, before in old["columns"].items():
        name = f"{new['name']}.{before['name']}"
        after = new["columns"].get(number)
        if after is None:
            # Not dropped, that would be told: the stream table does not read it any more.
            continue
        if after["dropped"]:
            yield Difference("column", name, "the column was dropped", Severity.REANALYSE)
            continue
        changed = [fact for fact in ("name", "type", "typmod", "collation", "generated") if before[fact] != after[fact]]
        if changed or (before["not_null"] and not after["not_null"]):
            text = f"the column changed: {', '.join(changed) or 'NOT NULL was dropped'}"
            yield Difference("column", name, text, Severity.REANALYSE)
        elif rewritten and (before["xmin"] != after["xmin"] or _below_changed(before, after)):
            yield Difference("column", name, "its values may have been rewritten", Severity.RECOMPUTE)
        elif before != after:
            yield Difference("column", name, "nothing that matters changed", Severity.HARMLESS)
    for number in new["columns"].keys() - old["columns"].keys():
        name = f"{new['name']}.{new['columns'][number]['name']}"
        yield Difference("column", name, "it was not read before", Severity.RECOMPUTE)


def _below_changed(before: Facts, after: Facts) -> bool:
    """Whether the column was altered in a partition or child that was there before: others are a matter of capture."""
    old, new = before.get("below") or {}, after.get("below") or {}
    return any(old[relid] != new[relid] for relid in old.keys() & new.keys())


def _keys(old: Facts, new: Facts) -> Iterator[Difference]:
    if set(old["keys"]) - set(new["keys"]):
        yield Difference("key", new["name"], "a unique constraint was dropped", Severity.REANALYSE)
    elif set(new["keys"]) - set(old["keys"]):
        yield Difference("key", new["name"], "a unique constraint was added", Severity.HARMLESS)


def _views(recorded: Facts, present: Facts) -> Iterator[Difference]:
    for name, new in present["views"].items():
        old = recorded["views"].get(name)
        # Older catalogs recorded nothing but the text.
        text = old["text"] if isinstance(old, dict) else old
        if new["text"] is None or text != new["text"]:
            what = "the view does not exist any more" if new["text"] is None else "the view has another definition"
            yield Difference("view", name, what, Severity.REANALYSE)
        elif old != new:
            yield Difference("view", name, "the view was made again with the same text", Severity.HARMLESS)


def _own(recorded: Facts, present: Facts) -> Iterator[Difference]:
    """The stream table itself."""
    old, new = recorded.get("own"), present["own"]
    if old is None:
        yield Difference("own", "", "it was not watched before", Severity.HARMLESS)
        return
    touched = content_touched(recorded, present)
    if touched is not None:
        yield Difference("content", new["name"] or "", touched, Severity.REANALYSE)
    before, after = old["columns"] or {}, new["columns"] or {}
    lost = [column[0] for number, column in before.items() if after.get(number) != column]
    if lost:
        text = f"the column {lost[0]} of the stream table was renamed, altered or dropped"
        yield Difference("own_column", new["name"] or "", text, Severity.REANALYSE)
    elif old != new and touched is None:
        yield Difference("own", new["name"] or "", "nothing that matters changed", Severity.HARMLESS)


def content_touched(recorded: Facts | None, present: Facts) -> str | None:
    """Why others than refreshes may have changed the content of a stream table, in a half sentence.

    Its dependents have not seen that in its log: they have to be recomputed, too.
    """
    old, new = (recorded or {}).get("own"), present["own"]
    if recorded is None or old is None:
        return None
    if old["guard"] != new["guard"]:
        return "the guard against direct changes was dropped, disabled or replaced"
    if new["persistence"] == "u" and (present["canary"] is None or recorded["canary"] != present["canary"]):
        return "the server crashed, which empties UNLOGGED tables"
    return None
