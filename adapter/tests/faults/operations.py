"""What may be interrupted: each with what comes before, what a next run does without a human, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from tests.faults.world import Connection, change

#: Its columns widen two change buffers, and it is the first to read ``said``, which gets an output log for it.
EXTRA = (
    "SELECT o.id, o.customer, s.words, e.n FROM orders o JOIN public.said s ON s.id = o.customer"
    " LEFT JOIN events e ON e.id = o.id"
)
NARROW = "SELECT id, customer, amount FROM big"
WIDE = (
    "SELECT b.id, b.customer, b.amount, e.n, sum(e.id) AS ids FROM big b JOIN events e ON e.n = b.id"
    " GROUP BY 1, 2, 3, 4"
)

Act = Callable[[PgTrickle], object]


def _nothing(engine: PgTrickle) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the engine.

    Attributes:
        act: what is interrupted.
        prepare: what comes before, undisturbed.
        again: what somebody does who does not know that it was interrupted: a dbt run, a runner.
        undo: back to the world as it was.
        adds: name and query of the stream table that may be there in between.
    """

    act: Act
    prepare: Act = _nothing
    again: Act | None = None
    undo: Act = _nothing
    adds: tuple[str, str] | None = None


def _refresh(engine: PgTrickle) -> None:
    failed = [result for result in engine.refresh_all() if result.action == "FAILED"]
    assert failed == [], failed


def _refresh_due(engine: PgTrickle) -> None:
    relids = [row.relid for row in engine.status()]
    failed = [result for result in engine.refresh_due(relids) if result.action == "FAILED"]
    assert failed == [], failed


def _create(engine: PgTrickle) -> None:
    engine.create_stream_table("public.extra", EXTRA, schedule="1s")


def _create_or_replace(engine: PgTrickle) -> None:
    engine.create_or_replace_stream_table("public.extra", EXTRA, schedule="1s")


def _drop(engine: PgTrickle) -> None:
    engine.drop_stream_table("public.extra", if_exists=True)


def _narrow(engine: PgTrickle) -> None:
    engine.create_or_replace_stream_table("public.extra", NARROW, schedule="1s")


def _widen(engine: PgTrickle) -> None:
    engine.create_or_replace_stream_table("public.extra", WIDE, schedule="1s")


def _trim(engine: PgTrickle) -> None:
    capture.trim(engine.own_conn)


def _verify(engine: PgTrickle) -> None:
    for name in ("public.totals", "public.regions"):
        assert engine.verify(name).proven


def _configure(engine: PgTrickle) -> None:
    engine.alter_stream_table("public.extra", schedule="5s", indexes=[{"columns": ["customer"]}])


OPERATIONS = {
    "refresh": Operation(_refresh),
    "a runner's refresh": Operation(_refresh_due, again=_refresh_due),
    "create": Operation(_create, again=_create_or_replace, undo=_drop, adds=("extra", EXTRA)),
    "change the query": Operation(_widen, prepare=_narrow, undo=_drop, adds=("extra", WIDE)),
    "change the configuration": Operation(_configure, prepare=_narrow, undo=_drop, adds=("extra", NARROW)),
    "drop": Operation(_drop, prepare=_create_or_replace),
    "trim": Operation(_trim),
    "verify": Operation(_verify),
}


def disturb(conn: Connection, seed: int) -> None:
    """Changes between prepare and act, so that there is something to be lost."""
    change(conn, seed, 4)
