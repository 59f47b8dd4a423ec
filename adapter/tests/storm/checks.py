"""What must hold at every moment: proofs in one snapshot, readers of several stream tables, moments without commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from pgtrickle import refresh
from pgtrickle.api import PgTrickle
from pgtrickle.errors import LockTimeout, TransactionConflict
from pgtrickle.refresh import transaction
from pgtrickle.refresh.attempt import NeedsReanalysis, NeedsRepair, attempt
from pgtrickle.refresh.finish import finish
from pgtrickle.refresh.group import build_group
from tests.storm.log import Log
from tests.storm.world import BALANCE
from tests.support.oracle import compare

#: Over this, the total of all balances is what it was at the beginning, whatever was transferred.
READERS = """
    SELECT (SELECT sum(total) FROM by_branch), (SELECT sum(n) FROM by_branch),
           (SELECT total FROM grand_total), (SELECT n FROM grand_total)
"""
#: Stream tables that have been moved to one snapshot show one state of what both read.
TOGETHER = """
    SELECT (SELECT count(DISTINCT f.snapshot::text) = 1 FROM pgtrickle.frontiers f
            JOIN pgtrickle.stream_tables st ON st.id = f.stream_table_id
            WHERE st.table_name IN ('sales', 'diamond', 'padded')),
           (SELECT jsonb_agg(s ORDER BY s.region, s.name) FROM (
               SELECT s.region, s.name, s.value, p.n FROM sales s
               JOIN (SELECT name, count(*) AS n FROM padded GROUP BY name) p ON p.name = s.name) s),
           (SELECT jsonb_agg(d ORDER BY d.region, d.name) FROM diamond d)
"""
#: A dependent that has consumed the last refresh of its source equals its query on it, without any refresh of ours.
CONSUMED = """
    SELECT (f.consumed ->> s.relid::text)::bigint = sf.refresh_no
    FROM pgtrickle.stream_tables st
    JOIN pgtrickle.frontiers f ON f.stream_table_id = st.id
    JOIN pgtrickle.stream_tables s ON s.table_name = %s
    JOIN pgtrickle.frontiers sf ON sf.stream_table_id = s.id
    WHERE st.table_name = %s
"""
CHAINS = {"grand_total": "by_branch", "order_counts": "order_rows"}


def read_invariants(conn: psycopg.Connection[Any], log: Log, accounts: int) -> None:
    """One statement over several stream tables: no mixture of states (grand_total may lag behind by_branch)."""
    for value, wanted in zip(conn.execute(READERS).fetchone() or (), (accounts * BALANCE, accounts) * 2, strict=True):
        if value != wanted:
            log.violation(f"a reader saw a total of {value} instead of {wanted}")
    found = conn.execute(TOGETHER).fetchone()
    assert found is not None
    if found[0] and found[1] != found[2]:
        log.violation(f"the diamond differs from its sources at their snapshot: {found[1]} against {found[2]}")
    log.count("readers", "same snapshot" if found[0] else "different snapshots")


def read_chain(conn: psycopg.Connection[Any], log: Log, queries: dict[str, str]) -> None:
    """What one snapshot of the database shows of a stream table and of what it was made from."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for below, above in CHAINS.items():
            if conn.execute(CONSUMED, (above, below)).fetchone() == (True,):
                difference = compare(conn, below, queries[below])
                log.count("readers", "chain compared")
                if difference is not None:
                    log.violation(f"{below} is not its query over {above}, which it has consumed: {difference}")


def prove(engine: PgTrickle, log: Log, names: Sequence[str], queries: dict[str, str], *, commit: bool) -> None:
    """A refresh, step by step: before it commits, compare what it wrote with the queries, in its own snapshot.

    The comparison is the tests' own, in the very transaction that has refreshed, so that neither the frontier nor the
    change buffers have a say in what is right.

    Raises:
        PgTrickleError: whatever a refresh may raise when others are at it; nothing is left open.
    """
    session = refresh.Session(engine.own_conn)
    relids = [row.relid for row in engine.status() if row.table in names]
    request = refresh.Request(tuple(relids))
    try:
        members = attempt(session, build_group(session, request), request)
        shown = [member for member in members if member.error is None and member.skipped is None]
        # The queries were written for the search_path of those who write queries.
        engine.own_conn.execute("SET LOCAL search_path = public")
        for member in shown:
            name = member.row.table_name or ""
            difference = compare(engine.own_conn, name, queries[name]) if name in queries else None
            if difference is not None:
                log.violation(f"in the snapshot of its refresh ({member.need_plan().action}): {difference}")
            log.count("verified snapshots", "before commit")
        if commit and shown:
            finish(session, request, members)
    finally:
        transaction.rollback(engine.own_conn)


def compare_in_a_calm(engine: PgTrickle, conn: psycopg.Connection[Any], log: Log, queries: dict[str, str]) -> None:
    """Refresh each and compare all on one snapshot, while transactions are open that do not commit.

    What has to wait for them, because its capture has to be mended, is left out.
    """
    moved = {}
    for name, query in queries.items():
        try:
            prove(engine, log, [name], queries, commit=True)
            moved[name] = query
        except (NeedsRepair, NeedsReanalysis, TransactionConflict, LockTimeout) as error:
            log.count("left out in a calm", type(error).__name__)
    _compare(conn, log, moved, "in a calm")


def compare_all(
    engine: PgTrickle, conn: psycopg.Connection[Any], log: Log, queries: dict[str, str], *, when: str
) -> None:
    """Refresh everything and compare everything on one snapshot; nobody commits meanwhile.

    Args:
        engine: refreshes.
        conn: compares, on a snapshot of its own.
        log: told of differences.
        queries: name -> query.
        when: for the report.
    """
    failed = [result for result in engine.refresh_all() if result.action in ("FAILED", "SKIPPED")]
    if failed:
        log.violation(f"{when}: {[(result.name, result.fallback_reason) for result in failed]}")
    _compare(conn, log, queries, when)


def _compare(conn: psycopg.Connection[Any], log: Log, queries: dict[str, str], when: str) -> None:
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for name, query in queries.items():
            difference = compare(conn, name, query)
            log.count("verified snapshots", when)
            if difference is not None:
                log.violation(f"{when}: {difference}")
