"""What competes with each other over the stream tables: refreshes, proofs, trims, definitions, partitions."""

from __future__ import annotations

from typing import Any

import psycopg

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from pgtrickle.errors import (
    LockTimeout,
    PgTrickleError,
    RefreshBusy,
    StreamTableNotFound,
    TransactionConflict,
)
from pgtrickle.refresh.attempt import ChangesRefused, NeedsCare, NeedsReanalysis, NeedsRepair
from tests.storm.checks import prove
from tests.storm.log import Dice, Gate, Log
from tests.storm.world import EXTRAS

#: Others are at it: to be tried again.
PATIENCE = (TransactionConflict, LockTimeout, RefreshBusy, StreamTableNotFound)
#: A lock time-out that strikes at the moment when the lock is granted ends the next wait, and PostgreSQL takes it for a
#: cancellation by somebody.
CANCELLED = "57014"
#: One attempt of a refresh may end so; the next one knows what to do.
AGAIN = (*PATIENCE, NeedsCare, NeedsRepair, NeedsReanalysis)

PARTITIONS = (
    "CREATE TABLE parts_guest_{n} PARTITION OF parts FOR VALUES FROM ({k}) TO ({k} + 1)",
    "CREATE TABLE parts_guest_{n} (k int, v int, note text); INSERT INTO parts_guest_{n} VALUES ({k}, 1, 'before');"
    "ALTER TABLE parts ATTACH PARTITION parts_guest_{n} FOR VALUES FROM ({k}) TO ({k} + 1)",
    "BEGIN; ALTER TABLE parts DETACH PARTITION parts_guest_{n}; INSERT INTO parts_guest_{n} VALUES ({k}, 2, 'alone');"
    "ALTER TABLE parts ATTACH PARTITION parts_guest_{n} FOR VALUES FROM ({k}) TO ({k} + 1); COMMIT",
    "ALTER TABLE parts DETACH PARTITION parts_guest_{n}; DROP TABLE parts_guest_{n}",
    "DROP TABLE parts_guest_{n}",
    "CREATE TABLE puppies_{n} (age int) INHERITS (dogs); INSERT INTO puppies_{n} VALUES ({n}, 'pup', {n}, 'pug', 1)",
    "ALTER TABLE puppies_{n} NO INHERIT dogs; DROP TABLE puppies_{n}",
    "DROP TABLE puppies_{n}",
)


def refresh_at_random(engine: PgTrickle, dice: Dice, log: Log, queries: dict[str, str]) -> None:
    """One call of the API."""
    names = list(queries)
    what = dice.choice(("refresh", "refresh", "refresh", "some", "full", "verify", "verify", "prove", "prove", "trim"))
    log.note(what)
    try:
        match what:
            case "refresh":
                engine.refresh_stream_table(dice.choice(names))
            case "some":
                judge(engine.refresh_all(dice.sample(names, 5)), log)
            case "full":
                engine.refresh_stream_table(dice.choice(names), full=True)
            case "verify":
                _verify(engine, dice.choice(names), log)
            case "prove":
                prove(engine, log, dice.sample(names, dice.randint(1, 4)), queries, commit=dice.happens(0.7))
            case _:
                capture.trim(engine.own_conn)
        log.count("calls", what)
    except AGAIN as error:
        log.count("begun again", f"{type(error).__name__} {error.sqlstate or ''}".strip())
    except ChangesRefused as error:
        log.violation(f"the changes of a stream table could not be applied: {error.reason}")
    except PgTrickleError as error:
        log.violation(f"{what} failed: {type(error).__name__} {error.sqlstate} {error}")


def _verify(engine: PgTrickle, name: str, log: Log) -> None:
    result = engine.verify(name)
    log.count("verify", {True: "equal", None: "not proven"}.get(result.proven, "DIFFERENT"))
    if result.proven is None and (result.reason or "").startswith(("it runs FULL", "a recompute is due")):
        return
    if not result.proven:
        log.violation(f"verify of {name}: {result}")


def judge(results: object, log: Log) -> None:
    """None of the members may fail; what others have locked or dropped is another matter."""
    for result in results if isinstance(results, tuple) else ():
        log.count("results", result.action)
        if result.action == "FAILED":
            log.note(f"{result.name} failed: {result.fallback_reason}")
            log.count("failed", str(result.fallback_reason)[:80])


def define_at_random(engine: PgTrickle, dice: Dice, log: Log) -> None:
    """Create, change or drop a stream table that nobody else needs."""
    name = f"extra_{dice.randint(1, 4)}"
    query = dice.choice(EXTRAS).format(n=dice.randint(1, 4))
    what = dice.choice(("create", "create", "replace", "drop", "suspend", "resume", "later"))
    log.note(f"{what} {name}: {query}")
    try:
        match what:
            case "create":
                engine.create_stream_table_if_not_exists(name, query, schedule="1s")
            case "later":
                engine.create_stream_table_if_not_exists(name, query, schedule="1s", initialize=False)
            case "replace":
                engine.create_or_replace_stream_table(name, query)
            case "drop":
                engine.drop_stream_table(name, if_exists=True)
            case "suspend":
                engine.suspend(name)
            case _:
                engine.resume(name)
        log.count("definitions", what)
    except PATIENCE as error:
        log.count("begun again", f"{what}: {type(error).__name__} {error.sqlstate or ''}".strip())
    except PgTrickleError as error:
        if error.sqlstate == CANCELLED:
            log.count("begun again", f"{what}: {error.sqlstate}")
            return
        log.violation(f"{what} {name} failed: {type(error).__name__} {error.sqlstate} {error}")


def alter_at_random(conn: psycopg.Connection[Any], dice: Dice, log: Log, gate: Gate) -> None:
    """DDL on hierarchies. It does not always get its lock, and does not always make sense."""
    number = dice.randint(1, 6)
    statement = dice.choice(PARTITIONS).format(n=number, k=999 + number)
    try:
        with gate:
            conn.execute(statement)
        log.count("ddl", " ".join(statement.split()[:2]).lower())
        log.note(statement)
    except psycopg.Error as error:
        log.count("ddl", f"failed: {error.sqlstate}")
        if "pgtrickle" in str(error):
            log.violation(f"DDL failed: {statement}: {error}")
        conn.execute("ROLLBACK")
