"""Whose fault it is: a writer must never fail because of the engine, and who makes it wait for how long is watched."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.storm.log import Log

#: Who waits for whom. Parallel workers and autovacuum have other names.
WAITS = """
    SELECT l.pid, l.locktype, l.mode, coalesce(l.relation::regclass::text, ''),
           (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::int,
           ARRAY(SELECT b.pid FROM pg_stat_activity b
                 WHERE b.pid = ANY (pg_blocking_pids(l.pid)) AND b.application_name LIKE 'pgtrickle%')
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE NOT l.granted AND a.application_name = 'storm writer' AND a.datname = current_database()
"""
#: Half of what writers wait at most, milliseconds.
LONG_MS = 750
ENGINES = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgtrickle%' AND datname = current_database()"
#: A SERIALIZABLE writer that reads something of ours could be made to fail by another one that writes there.
PREDICATES = """
    SELECT DISTINCT l.relation::regclass::text
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE l.mode = 'SIReadLock' AND a.application_name = 'storm writer' AND n.nspname LIKE 'pgtrickle%'
      -- Where change buffers are small, who finds one well past its limit has to look whether capture has stopped.
      AND (c.relname <> 'overflows' OR (SELECT i.buffer_limit_bytes FROM pgtrickle.installation i) > 1000000)
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

#: Who is at what, for those who are stuck.
SITUATION = """
    SELECT a.pid, a.application_name, a.state, a.wait_event_type, a.wait_event, pg_blocking_pids(a.pid)::text,
           (SELECT string_agg(l.mode || ' ' || coalesce(l.relation::regclass::text, l.locktype), ', ')
            FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted), left(a.query, 200)
    FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND (a.state <> 'idle' OR a.wait_event_type = 'Lock')
    ORDER BY a.xact_start
"""


def situation(conn: psycopg.Connection[Any]) -> str:
    """Sessions that are not idle, what they wait for, and prepared transactions."""
    lines = [" | ".join(map(str, row)) for row in conn.execute(SITUATION).fetchall()]
    return "\n".join([*lines, *(f"prepared: {row}" for row in conn.execute("SELECT * FROM pg_prepared_xacts"))])


@dataclass
class Blame:
    """Judges errors of writers, from what a watching thread sees."""

    log: Log
    natural: frozenset[str]
    #: Backends of the engine, past ones too.
    engines: set[int] = field(default_factory=set)
    #: Writer -> backends of the engine that it had waited for, for long, when we last looked.
    waiting: dict[int, list[int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, conn: psycopg.Connection[Any]) -> None:
        """Look every so often until the storm is over."""
        while not self.log.over.wait(0.05):
            self.engines.update(pid for (pid,) in conn.execute(ENGINES))
            seen = {}
            for pid, locktype, mode, relation, milliseconds, blockers in conn.execute(WAITS).fetchall():
                # Who wants a table for himself waits for its readers, and a refresh is one. A short wait says nothing
                # about the next one, which is where the time-out of the writer struck.
                long = (milliseconds or 0) > LONG_MS
                seen[pid] = blockers if long and mode != "AccessExclusiveLock" else []
                if blockers:
                    what = f"{locktype} {mode} {relation}".strip()
                    self.log.most("longest waits of writers for the engine, ms", what, milliseconds or 0)
            self.waiting = seen
            for (relation,) in conn.execute(PREDICATES).fetchall():
                self.log.violation(f"a SERIALIZABLE writer holds a predicate lock on {relation}")

    def judge(self, session: psycopg.Connection[Any], error: psycopg.Error) -> None:
        """Count an error of a writer; it is a violation if the engine has anything to do with it."""
        diag = error.diag
        told = " | ".join(filter(None, (diag.message_primary, diag.message_detail, diag.context))) or repr(error)
        state = error.sqlstate or "connection"
        self.log.count("errors of writers", state)
        self.log.note(f"{state} {told}")
        pids = {int(pid) for pid in re.findall(r"[Pp]rocess (\d+)", diag.message_detail or "")}
        guilty = self.waiting.get(session.info.backend_pid) if state == "55P03" else pids & self.engines
        # A doomed SERIALIZABLE transaction learns it wherever it writes next; predicate locks are watched.
        where = "" if state == "40001" and "read/write dependencies" in told else told
        if guilty or "pgtrickle" in where or state not in self.natural:
            self.log.violation(f"a writer failed: {state} {told} {guilty or ''}")
