"""Chaos: writers, runners and every fault there is, by chance; then everything has to be right without a human.

    python tools/chaos.py --seconds 600 --seed 7

Rounds of half a minute on a server of its own. After each round the faults stop, the runners catch up, every stream
table is compared with its query and proven, and nothing may be left over. The report says what was done; the exit code
is 1 if something was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Literal

ADAPTER = Path(__file__).resolve().parent.parent / "adapter"
sys.path.insert(0, str(ADAPTER))

from pgtrickle.api import PgTrickle  # noqa: E402
from pgtrickle.errors import PgTrickleError  # noqa: E402
from tests.faults import faults, world  # noqa: E402
from tests.support import servers  # noqa: E402
from tests.support.proxy import CuttingProxy  # noqa: E402
from tests.support.runners import RunnerProcess  # noqa: E402

ROUND_SECONDS = 25.0
WRITERS = 2
#: Two-phase transactions and rolled-back ones are part of a day's work.
_ODD = 0.15
#: Runners that are frozen for longer lose their leases to the others.
_LEASES = "[runner]\nlease_seconds = 2\ntrim_interval = 0.5\n"
#: So many bytes a change buffer holds at most, in one of three runs: capture stops and begins again all the time.
_SMALL_BUFFER = 60_000
_EXTRA = "SELECT o.id, o.customer, c.region FROM orders o JOIN customers c ON c.id = o.customer"


class Chaos:
    """One server, one world, two runners, and what happened to them."""

    def __init__(self, seed: int, major: int = servers.EMBEDDED_MAJOR) -> None:
        self.report: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._server = servers.start(major, settings={"synchronous_commit": "on" if seed % 2 else "off"})
        with self._server.connect() as admin:
            admin.execute("CREATE DATABASE chaos")
        self._dsn = self._server.dsn("chaos")
        with psycopg.connect(self._dsn, autocommit=True) as conn, PgTrickle.connect(self._dsn) as engine:
            engine.install()
            if seed % 3 == 2:
                conn.execute("UPDATE pgtrickle.installation SET buffer_limit_bytes = %s", (_SMALL_BUFFER,))
            world.create(conn, engine, schedule="continuous")
        # The first runner reaches the server by way of a network that may fall silent.
        self._proxy = CuttingProxy(self._dsn)
        self._home = tempfile.TemporaryDirectory()
        self._config = Path(self._home.name) / "pgtrickle.toml"
        self._config.write_text(_LEASES)
        self._runners = [self._runner(number) for number in range(2)]
        for runner in self._runners:
            runner.started()

    def _runner(self, number: int) -> RunnerProcess:
        return RunnerProcess(self._dsn if number else self._proxy.dsn, "--config", str(self._config))

    def round(self, seconds: float) -> list[str]:
        """Faults for so long, then peace; what is wrong afterwards."""
        ended = threading.Event()
        writers = [
            threading.Thread(target=self._write, args=(self._chance.randrange(10**6), ended)) for _ in range(WRITERS)
        ]
        writers.append(threading.Thread(target=self._define, args=(self._chance.randrange(10**6), ended)))
        for writer in writers:
            writer.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self._harm()
                time.sleep(self._chance.random())
        finally:
            ended.set()
            for writer in writers:
                writer.join()
        return self._settle()

    def close(self) -> None:
        """End everything."""
        for runner in self._runners:
            runner.kill()
        self._server.stop()
        self._home.cleanup()

    def _write(self, seed: int, ended: threading.Event) -> None:
        chance = random.Random(seed)
        while not ended.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as conn:
                conn.execute("SET default_transaction_read_only = off")
                # A prepared transaction whose writer met a fault holds its locks until the end of the round.
                conn.execute("SET lock_timeout = '2s'")
                while not ended.is_set():
                    if chance.random() < _ODD:
                        self._write_oddly(conn, chance)
                    else:
                        self.report["changes"] += world.change(conn, chance.randrange(10**6), 3)
            time.sleep(0.05)

    def _define(self, seed: int, ended: threading.Event) -> None:
        """Somebody creates, changes and drops a stream table, whatever happens meanwhile."""
        chance = random.Random(seed)
        while not ended.wait(chance.random()):
            with contextlib.suppress(PgTrickleError, psycopg.Error), PgTrickle.connect(self._dsn) as engine:
                query = chance.choice((_EXTRA, f"{_EXTRA} WHERE o.id % 3 = 0", _EXTRA.replace("o.customer,", "")))
                engine.create_or_replace_stream_table("public.extra", query, schedule="continuous")
                self.report["definitions"] += 1
                if chance.random() < 0.4:
                    engine.drop_stream_table("public.extra")

    def _write_oddly(self, conn: world.Connection, chance: random.Random) -> None:
        how = chance.choice(("ROLLBACK", "COMMIT", "two phases"))
        gid = f"chaos {chance.randrange(10**9)}"
        level = chance.choice((SQL("READ COMMITTED"), SQL("REPEATABLE READ"), SQL("SERIALIZABLE")))
        conn.execute(SQL("BEGIN ISOLATION LEVEL {}").format(level))
        self.report["changes"] += world.change(conn, chance.randrange(10**6), 3)
        time.sleep(chance.random() / 10)
        if how != "two phases":
            conn.execute("COMMIT" if how == "COMMIT" else "ROLLBACK")
            return
        conn.execute(SQL("PREPARE TRANSACTION {}").format(Literal(gid)))
        time.sleep(chance.random() / 10)
        conn.execute(SQL("COMMIT PREPARED {}").format(Literal(gid)))

    def _harm(self) -> None:
        kinds = [*faults.FAULTS, self._kill_runner, self._freeze_runner, self._crash_server, self._refresh_by_hand]
        kinds += [self._kill_backend, self._leave_prepared, self._silence_network, self._use_up_locks]
        kind = self._chance.choice(kinds)
        try:
            done = kind(self._dsn, self._chance)
        except psycopg.Error as error:
            # The fault met another one.
            self.report[f"{kind.__name__.strip('_')} failed: {type(error).__name__}"] += 1
        else:
            self.report[kind.__name__.strip("_")] += done

    def _kill_runner(self, dsn: str, chance: random.Random) -> int:
        number = chance.randrange(len(self._runners))
        self._note(self._runners[number])
        self._runners[number].kill()
        self._runners[number] = self._runner(number)
        return 1

    def _freeze_runner(self, dsn: str, chance: random.Random) -> int:
        runner = chance.choice(self._runners)
        runner.signal(signal.SIGSTOP)
        time.sleep(chance.choice((1, 1, 4)) + chance.random())
        runner.signal(signal.SIGCONT)
        return 1

    def _kill_backend(self, dsn: str, chance: random.Random) -> int:
        """``kill -9`` of one of the engine's sessions, in whatever it does: the server starts all over."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            ours = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgtrickle%' AND state = 'active'"
            for _ in range(50):
                found = conn.execute(ours).fetchall()
                if found:
                    os.kill(chance.choice(found)[0], signal.SIGKILL)
                    return 1
        return 0

    def _leave_prepared(self, dsn: str, chance: random.Random) -> int:
        """A prepared transaction that nobody ends until the round is over, with whatever happens to the server."""
        with psycopg.connect(dsn) as conn:
            conn.execute("SET lock_timeout = '1s'")
            key = chance.randrange(10**8, 10**9)
            conn.execute("INSERT INTO scratch VALUES (%s, %s)", (key, key % 4))
            conn.execute("INSERT INTO orders VALUES (%s, %s, 7)", (key, key % 10))
            conn.execute("INSERT INTO events VALUES (%s, 'left', 1)", (key,))
            conn.execute("DELETE FROM notes WHERE ctid = (SELECT min(ctid) FROM notes)")
            conn.execute(SQL("PREPARE TRANSACTION {}").format(Literal(f"left {key}")))
        return 1

    def _silence_network(self, dsn: str, chance: random.Random) -> int:
        self._proxy.silence(1 + 5 * chance.random())
        return 1

    def _use_up_locks(self, dsn: str, chance: random.Random) -> int:
        """Nobody gets a lock on what is not locked already: ``max_locks_per_transaction``."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            taken = 0
            with contextlib.suppress(psycopg.errors.OutOfMemory):
                while True:
                    conn.execute(
                        "SELECT pg_advisory_lock(g) FROM generate_series(%s::int, %s::int) g", (taken, taken + 99)
                    )
                    taken += 100
            time.sleep(0.5 + chance.random())
        return 1

    def _crash_server(self, dsn: str, chance: random.Random) -> int:
        self._server.crash()
        time.sleep(chance.random() / 2)
        self._server.restart()
        return 1

    def _refresh_by_hand(self, dsn: str, chance: random.Random) -> int:
        with contextlib.suppress(Exception), PgTrickle.connect(dsn) as engine:
            engine.refresh_all()
        return 1

    def _settle(self) -> list[str]:
        for number, runner in enumerate(self._runners):
            # A service manager would start them again.
            if runner.process.poll() is not None:
                self._note(runner)
                runner.kill()
                self.report["runners that ended by themselves"] += 1
                self._runners[number] = self._runner(number)
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            for (gid,) in conn.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
                conn.execute(SQL("COMMIT PREPARED {}").format(Literal(gid)))
            with PgTrickle.connect(self._dsn) as engine:
                engine.drop_stream_table("public.extra", if_exists=True)
            try:
                world.follow(conn, self._runners[0], seconds=90)
            except AssertionError as error:
                return [str(error)]
            with PgTrickle.connect(self._dsn) as engine:
                return [
                    f"{name} differs from its query"
                    for name, (_, mode) in world.STREAM_TABLES.items()
                    if mode == "DIFFERENTIAL" and engine.verify(f"public.{name}").proven is False
                ]

    def _note(self, runner: RunnerProcess) -> None:
        for event in runner.events:
            if event["event"] in ("refreshed", "failed", "job_failed", "connection_lost", "reconnected"):
                self.report[f"runner: {event['event']}"] += 1


def main() -> int:
    """Rounds until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--major", type=int, default=servers.EMBEDDED_MAJOR)
    args = parser.parse_args()
    chaos, end, rounds = Chaos(args.seed, args.major), time.monotonic() + args.seconds, 0
    wrong: list[str] = []
    try:
        while time.monotonic() < end and not wrong:
            wrong = chaos.round(min(ROUND_SECONDS, max(1.0, end - time.monotonic())))
            rounds += 1
        for runner in chaos._runners:
            chaos._note(runner)
    finally:
        chaos.close()
    sys.stdout.write(f"seed {args.seed}, {rounds} rounds\n")
    for what, number in sorted(chaos.report.items()):
        sys.stdout.write(f"{number:8} {what}\n")
    sys.stdout.write("\n".join(["WRONG:", *wrong]) + "\n" if wrong else "all is well\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
