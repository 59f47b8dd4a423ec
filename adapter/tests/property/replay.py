"""Runs a case through the public face of the engine and compares stream tables with their queries all the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import pq

from pgtrickle.api import PgTrickle
from pgtrickle.errors import UnsupportedQuery
from pgtrickle.results import RefreshResult
from tests.property.case import Case, StreamTable, Window
from tests.support.oracle import compare
from tests.support.windows import read_as_large

PATIENCE = "-c statement_timeout=3s"
"""A query whose joins explode is not worth the time: it counts as invalid."""
MAX_ROWS = 2000
LEFTOVERS = """
SELECT n.nspname || '.' || c.relname
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('pgtrickle_changes', 'pgtrickle_state') AND c.relkind IN ('r', 'p')
UNION ALL
SELECT 'trigger ' || t.tgname || ' on ' || t.tgrelid::regclass
FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'p' AND NOT t.tgisinternal
"""


@dataclass
class Outcome:
    """What happened to a case.

    Attributes:
        failures: (stream table, kind, text); empty if all is well.
        created: stream table -> the mode it resolved to.
        refused: stream tables whose query was refused in mode DIFFERENTIAL, and why.
        actions: how often each kind of refresh happened.
        invalid: stream tables whose query PostgreSQL itself refuses.
        spoilt: something was left behind: the database is no good for another case.
    """

    failures: list[tuple[str, str, str]] = field(default_factory=list)
    created: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    invalid: set[str] = field(default_factory=set)
    spoilt: bool = False

    def fail(self, name: str, kind: str, error: Exception) -> None:
        """Record an error as a failure, unless it is only our impatience."""
        if "statement timeout" in str(error):
            self.invalid.add(name)
        else:
            self.failures.append((name, kind, f"{type(error).__name__}: {error}"))

    @property
    def signature(self) -> tuple[str, str] | None:
        """Kind of the first failure with its first line, numbers and names left out: what a reduction must keep."""
        if not self.failures:
            return None
        _, kind, text = self.failures[0]
        return kind, "" if kind == "wrong rows" else "".join(ch for ch in text.split("\n")[0][:60] if ch.isalpha())


class Replay:
    """Plays cases in one database, one after the other; schema ``p`` is made and removed for each."""

    def __init__(self, dsn: str) -> None:
        self.engine = PgTrickle.connect(dsn, options=PATIENCE)
        self.engine.install()
        self.conn: psycopg.Connection[Any] = psycopg.connect(
            dsn, autocommit=True, options=PATIENCE, prepare_threshold=None
        )

    def close(self) -> None:
        """Close the connections."""
        self.engine.close()
        self.conn.close()

    def run(self, case: Case) -> Outcome:
        """Play a case and clean up after it."""
        outcome = Outcome()
        self.conn.execute("CREATE SCHEMA p")
        alive: list[StreamTable] = []
        try:
            for statement in case.schema:
                self._tolerant([self._known(statement)])
            for each in case.stream_tables:
                if self._create(each, outcome):
                    alive.append(each)
            self._compare(alive, [each.name for each in alive], outcome, "after creation")
            for number, window in enumerate(case.windows, 1):
                if outcome.failures:
                    break
                self._window(alive, window, number, outcome)
        finally:
            self._clean_up(alive, outcome)
        return outcome

    def _known(self, statement: str) -> str:
        """The statement as this server knows it: generated columns are all stored before version 18."""
        return statement if self.conn.info.server_version >= 180000 else statement.replace(") VIRTUAL", ") STORED")

    # --- steps -----------------------------------------------------------------------------------------------------

    def _create(self, each: StreamTable, outcome: Outcome) -> bool:
        if self._error_of(each) is not None:
            outcome.invalid.add(each.name)
            return False
        mode = "DIFFERENTIAL" if each.mode == "POSSIBLE" else each.mode
        try:
            created = self.engine.create_stream_table(each.name, each.query, refresh_mode=mode)
        except UnsupportedQuery as refusal:
            outcome.refused[each.name] = str(refusal)
            if each.mode == "POSSIBLE":
                return self._create(replace(each, mode="AUTO"), outcome)
            outcome.failures.append((each.name, f"{mode} refused", str(refusal)))
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            outcome.fail(each.name, "creation failed", error)
            return False
        outcome.created[each.name] = created.effective_mode
        return True

    def _window(self, alive: list[StreamTable], window: Window, number: int, outcome: Outcome) -> None:
        for change in window.changes:
            self._tolerant(change)
        for name in window.refreshed:
            each = next((other for other in alive if other.name == name), None)
            if each is None or name in outcome.invalid or self._error_of(each) is not None:
                continue
            try:
                with read_as_large(large=number % 3 == 2):
                    result = self.engine.refresh_stream_table(name)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                outcome.fail(name, "refresh failed", error)
                return
            if (result.fallback_reason or "").startswith("internal error"):
                outcome.failures.append((name, "got over a fault", result.fallback_reason or ""))
                if outcome.failures:
                    return
                continue
            outcome.actions[result.action] = outcome.actions.get(result.action, 0) + 1
            self._notice(name, result, outcome)
            self._compare(alive, [name], outcome, f"after window {number} ({result.action})")
            if outcome.failures:
                return

    def _notice(self, name: str, result: RefreshResult, outcome: Outcome) -> None:
        """For those who look at more than the rows."""

    def _compare(self, alive: list[StreamTable], names: Sequence[str], outcome: Outcome, when: str) -> None:
        for each in alive:
            if each.name in names:
                classes = dict(enumerate(each.classes))
                difference = compare(self.conn, each.name, each.query, classes=classes)
                if difference is not None:
                    outcome.failures.append((each.name, "wrong rows", f"{when}: {difference}"))

    def _error_of(self, each: StreamTable) -> str | None:
        """Why the query is of no use now: PostgreSQL refuses it, or its joins explode. None if it is fine."""
        try:
            counted = self.conn.execute(f"SELECT count(*) FROM ({each.query}) AS q").fetchone()
            self.conn.execute(f"SELECT (q.*)::text FROM ({each.query}) AS q")
        except psycopg.Error as error:
            return str(error)
        return None if counted is None or counted[0] <= MAX_ROWS else "too many rows"

    def _tolerant(self, statements: Sequence[str]) -> None:
        """Run a transaction; what PostgreSQL refuses (a duplicate key) takes its transaction back, as in real life."""
        for statement in statements:
            try:
                self.conn.execute(statement)
            except psycopg.Error:
                break
        if self.conn.info.transaction_status != pq.TransactionStatus.IDLE:
            self.conn.execute("ROLLBACK")

    def _clean_up(self, alive: list[StreamTable], outcome: Outcome) -> None:
        for each in reversed(alive):
            try:
                self.engine.drop_stream_table(each.name)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                outcome.fail(each.name, "drop failed", error)
        leftovers = [name for (name,) in self.conn.execute(LEFTOVERS).fetchall()]
        if leftovers and not outcome.failures:
            outcome.failures.append(("", "left behind", ", ".join(sorted(leftovers))))
        try:
            self.conn.execute("SET lock_timeout = '500ms'")
            self.conn.execute("DROP SCHEMA p CASCADE")
        except psycopg.Error:
            outcome.spoilt = True
        outcome.spoilt = outcome.spoilt or bool(leftovers)
