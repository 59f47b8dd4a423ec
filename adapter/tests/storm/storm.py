"""The storm itself: sets everything up, lets it loose, checks in between and at the end, and reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from tests.storm import blame, checks, engines, transactions
from tests.storm.blame import Blame
from tests.storm.log import Dice, Gate, Log
from tests.storm.publisher import Publisher
from tests.storm.transactions import Application
from tests.storm.world import ACCOUNTS, BAND, BEHAVIOUR, SHARED, TABLES, definitions
from tests.support.runners import RunnerProcess
from tests.support.servers import Server

JOIN_SECONDS = 90.0
SETTINGS = "[runner]\nlease_seconds = 3\ntrim_interval = 0.5\nworkers = 2\n"
OUTCOMES = """
    SELECT action, count(*), coalesce(sum(changes), 0),
           count(*) FILTER (WHERE reason LIKE 'internal error%' OR reason LIKE 'the changes could not be applied%'),
           min(reason) FILTER (WHERE reason LIKE 'internal error%' OR reason LIKE 'the changes could not be applied%')
    FROM pgtrickle.refresh_history GROUP BY action
"""
FAILURES = """
    SELECT coalesce(error ->> 'sqlstate', error ->> 'code', 'none'), table_name,
           left(min(error ->> 'message'), 200), count(*)
    FROM pgtrickle.refresh_history WHERE action = 'FAILED' GROUP BY 1, 2
"""
CAPTURED = """
    SELECT coalesce(sum(n_tup_ins), 0), coalesce(sum(n_live_tup), 0) FROM pg_stat_all_tables
    WHERE schemaname = 'pgtrickle_changes' AND relname LIKE 'b\\_%'
"""
LEFT = """
    SELECT coalesce(sum(pg_relation_size(c.oid)), 0) FROM pg_class c
    WHERE c.relnamespace = 'pgtrickle_changes'::regnamespace AND c.relkind = 'r'
"""


@dataclass(frozen=True, slots=True)
class Weather:
    """How hard it blows.

    Attributes:
        seconds: for how long.
        writers: ordinary ones; there are as many patient ones as ``patient`` says, each with a band of its own.
        runners: processes ``pgtrickle run``.
        refreshers: threads that call the API.
        whole: all stream tables, not only the small set.
        pause: of a writer between two transactions at most, seconds.
        patience: longest time that a transaction stays open, seconds.
        calms: moments without commits at which everything is compared.
        limit: size of a change buffer from which on nothing but a mark is captured, bytes.
    """

    seconds: float = 4.0
    writers: int = 5
    patient: int = 3
    runners: int = 1
    refreshers: int = 2
    whole: bool = False
    pause: float = 0.02
    patience: float = 3.0
    calms: int = 1
    limit: int = 1 << 30


class Storm:
    """One storm in one database."""

    def __init__(self, server: Server, dsn: str, seed: int, weather: Weather, home: Path) -> None:
        self.server, self.dsn, self.seed, self.weather, self.home = server, dsn, seed, weather, home
        self.log, self.gate = Log(seed), Gate()
        self.blame = Blame(self.log, transactions.NATURAL)
        self.queries: dict[str, str] = {}
        self._open: list[psycopg.Connection[Any]] = []

    def run(self) -> Log:
        """All of it; the log has the violations."""
        try:
            self._prepare()
            self._blow()
            if not self.log.violations:
                self._settle()
        finally:
            for conn in self._open:
                conn.close()
        return self.log

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        self._open.append(psycopg.connect(self.dsn, autocommit=True, application_name=name))
        return self._open[-1]

    def _prepare(self) -> None:
        conn = self._connect("storm")
        virtual = ", net numeric(12, 2) GENERATED ALWAYS AS (amount * 0.8) VIRTUAL" if self.server.major >= 18 else ""
        conn.execute(TABLES.replace("{virtual}", virtual))
        for band in range(self.weather.patient + 1):
            psycopg.ClientCursor(conn).execute(BAND, {"low": Dice("", band).low})
        conn.execute(SHARED)
        conn.execute(BEHAVIOUR)
        with PgTrickle.connect(self.dsn) as engine:
            engine.install()
            conn.execute(
                "UPDATE pgtrickle.installation SET truncate_rows = 300, buffer_limit_bytes = %s", (self.weather.limit,)
            )
            for one in definitions(self.server.major):
                if one.small or self.weather.whole:
                    engine.create_stream_table(one.name, one.query, schedule=one.schedule, refresh_mode=one.mode)
                    self.queries[one.name] = one.query

    # --- the threads ------------------------------------------------------------------------------------------------

    def _blow(self) -> None:
        publisher = Publisher(self.server, self._connect("storm"), f"storm_publisher_{self.seed}")
        config = self.home / "pgtrickle.toml"
        config.write_text(SETTINGS)
        processes = [RunnerProcess(self.dsn, "--config", str(config)) for _ in range(self.weather.runners)]
        try:
            threads = [self._thread(name, work) for name, work in self._works(publisher).items()]
            for process in processes:
                process.started()
            publisher.subscribe()
            for _ in range(self.weather.calms):
                if not self.log.over.wait(self.weather.seconds / (self.weather.calms + 1)):
                    self._calm(publisher)
            self.log.over.wait(self.weather.seconds / (self.weather.calms + 1))
            self.log.over.set()
            end = time.monotonic() + JOIN_SECONDS
            for thread in threads:
                thread.join(max(0.1, end - time.monotonic()))
                if thread.is_alive():
                    self.log.violation(f"{thread.name} is stuck:\n{blame.situation(self._connect('storm'))}")
            if not publisher.caught_up():
                self.log.violation("the subscriber does not catch up")
            for process in processes:
                if process.stop() != 0:
                    self.log.violation(f"a runner failed: {process.said()}")
        finally:
            for process in processes:
                process.kill()
            publisher.close()

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell
                self.log.violation(f"{name} ended with {type(error).__name__}: {error}")

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _works(self, publisher: Publisher) -> dict[str, Callable[[], None]]:
        weather = self.weather
        works: dict[str, Callable[[], None]] = {"watch": partial(self.blame.watch, self._connect("storm"))}
        for number in range(weather.writers + weather.patient):
            patient = number >= weather.writers
            band = number - weather.writers + 1 if patient else 0
            session = self._connect("storm writer")
            session.execute("SET lock_timeout = '1500ms'")
            app = Application(
                session,
                Dice(f"{self.seed} writer {number}", band),
                self.log,
                self.gate,
                self.blame,
                self.server.major,
                weather.patience if patient else 0.0,
            )
            works[f"{'patient' if patient else 'writer'} {number}"] = partial(transactions.work, app, weather.pause)
        for number in range(weather.refreshers):
            dice = Dice(f"{self.seed} refresher {number}")
            works[f"refresher {number}"] = partial(self._engine, partial(self._refresh, dice))
        works["definer"] = partial(self._engine, partial(self._define, Dice(f"{self.seed} definer")))
        works["ddl"] = partial(self._alter, self._connect("storm"), Dice(f"{self.seed} ddl"))
        works["reader"] = partial(self._read, self._connect("storm"))
        works["publisher"] = partial(self._publish, publisher, Dice(f"{self.seed} publisher"))
        return works

    def _engine(self, step: Callable[[PgTrickle], None]) -> None:
        with PgTrickle.connect(self.dsn) as engine:
            while not self.log.over.is_set():
                step(engine)

    def _refresh(self, dice: Dice, engine: PgTrickle) -> None:
        engines.refresh_at_random(engine, dice, self.log, self.queries)
        self.log.over.wait(dice.random() / 20)

    def _define(self, dice: Dice, engine: PgTrickle) -> None:
        engines.define_at_random(engine, dice, self.log)
        self.log.over.wait(dice.random())

    def _alter(self, conn: psycopg.Connection[Any], dice: Dice) -> None:
        conn.execute("SET lock_timeout = '60ms'")
        while not self.log.over.wait(dice.random() / 2):
            engines.alter_at_random(conn, dice, self.log, self.gate)

    def _read(self, conn: psycopg.Connection[Any]) -> None:
        while not self.log.over.wait(0.05):
            checks.read_invariants(conn, self.log, ACCOUNTS * (self.weather.patient + 1))
            checks.read_chain(conn, self.log, self.queries)

    def _publish(self, publisher: Publisher, dice: Dice) -> None:
        while not self.log.over.wait(dice.random() / 20):
            with self.gate:
                publisher.write(dice, self.log)

    # --- moments of rest --------------------------------------------------------------------------------------------

    def _calm(self, publisher: Publisher) -> None:
        """Nobody commits; long and prepared transactions stay open, runners go on."""
        self.gate.close()
        try:
            # What is on its way from the publisher cannot be held back.
            still = publisher.caught_up(1.0)
            queries = {name: query for name, query in self.queries.items() if still or " feed" not in query}
            with PgTrickle.connect(self.dsn) as engine:
                checks.compare_in_a_calm(engine, self._connect("storm"), self.log, queries)
        finally:
            self.gate.open()

    def _settle(self) -> None:
        """All is written: everything equals its query, nothing is left over."""
        conn = self._connect("storm")
        with PgTrickle.connect(self.dsn) as engine:
            for row in engine.status():
                if row.status == "SUSPENDED":
                    engine.resume(row.name)
            queries = {**self.queries, **{row.name: self._query(conn, row.relid) for row in engine.status()}}
            checks.compare_all(engine, conn, self.log, queries, when="at the end")
            for name in self.queries:
                engines._verify(engine, name, self.log)
            self._count(conn)
            capture.trim(engine.conn)
            rows = sum(
                self._rows(conn, name)
                for (name,) in conn.execute(
                    "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'pgtrickle_changes'::regnamespace"
                    " AND relkind = 'r'"
                ).fetchall()
            )
            if rows:
                self.log.violation(f"{rows} rows are left in change buffers and logs that everybody has read")

    def _query(self, conn: psycopg.Connection[Any], relid: int) -> str:
        found = conn.execute("SELECT query FROM pgtrickle.stream_tables WHERE relid = %s", (relid,)).fetchone()
        assert found is not None
        return found[0]

    def _rows(self, conn: psycopg.Connection[Any], table: str) -> int:
        found = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert found is not None
        return found[0]

    def _count(self, conn: psycopg.Connection[Any]) -> None:
        for action, number, changes, bad, reason in conn.execute(OUTCOMES).fetchall():
            self.log.count("refreshes", action, number)
            self.log.count("changes consumed", action, int(changes))
            if bad:
                self.log.violation(f"{bad} refreshes had to recompute: {reason}")
        for state, table, message, number in conn.execute(FAILURES).fetchall():
            self.log.count("failures", f"{state} {table}: {message}", number)
        (inserted, _), (size,) = conn.execute(CAPTURED).fetchall()[0], conn.execute(LEFT).fetchall()[0]
        self.log.count("change rows", "written by capture", int(inserted))
        self.log.count("change buffers", "bytes at the end", int(size))
