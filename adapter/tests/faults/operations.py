"""What may be interrupted: each with what comes before, what a next run does without a human, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from tests.faults.world import Connection, change
from tests.support.guard import past_guard

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

#: Same columns, other rows; another type; a column less; it reads a stream table that nothing else reads.
FEWER = "SELECT id, customer, amount FROM big WHERE amount > 40"
RETYPED = "SELECT id, customer::bigint AS customer, amount::float8 AS amount FROM big"
LESS = "SELECT customer, count(*) AS n FROM big GROUP BY customer"
ABOVE = "SELECT w.id AS id, w.words FROM public.said w WHERE w.id > 2"

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
        rests: until it is done again, stream tables need not be as their queries are: suspended, damaged.
    """

    act: Act
    prepare: Act = _nothing
    again: Act | None = None
    undo: Act = _nothing
    adds: tuple[str, str] | None = None
    rests: bool = False


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


def _replace(query: str, **options: str) -> Act:
    def act(engine: PgTrickle) -> None:
        engine.create_or_replace_stream_table("public.extra", query, schedule="1s", **options)

    return act


def _replacement(query: str, before: str = NARROW, **options: str) -> Operation:
    return Operation(_replace(query, **options), prepare=_replace(before), undo=_drop, adds=("extra", query))


def _alter_query(engine: PgTrickle) -> None:
    engine.alter_stream_table("public.extra", query=FEWER, refresh_mode="FULL")
    engine.alter_stream_table("public.extra", refresh_mode="DIFFERENTIAL")


def _suspend_and_resume(engine: PgTrickle) -> None:
    engine.suspend("public.extra")
    engine.resume("public.extra")


def _let_go(engine: PgTrickle) -> None:
    engine.let_go("public.extra")


def _release(engine: PgTrickle) -> None:
    if engine.is_stream_table("public.extra"):
        engine.release_stream_table("public.extra")


def _drop_ordinary(engine: PgTrickle) -> None:
    _drop(engine)
    engine.conn.execute("DROP TABLE IF EXISTS extra")


def _drop_family(engine: PgTrickle) -> None:
    engine.drop_stream_table("public.extra", cascade=True, if_exists=True)


def _family(engine: PgTrickle) -> None:
    _create_or_replace(engine)
    engine.create_or_replace_stream_table("public.tip", "SELECT count(*) AS n FROM public.extra", schedule="1s")
    engine.create_or_replace_stream_table("public.top", "SELECT n + 1 AS n FROM public.tip", schedule="1s")


def _fix(engine: PgTrickle) -> None:
    left = [one for one in engine.doctor(fix=True) if not one.fixed and one.severity != "NOTE"]
    assert left == [], left


def _damage(statements: str) -> Operation:
    def damage(engine: PgTrickle) -> None:
        conn = engine.conn
        row = conn.execute(
            "SELECT 'pgtrickle_changes.f_' || s.id, 'pgtrickle_changes.b_' || s.id,"
            " (SELECT 'pgtrickle_state.' || g.state_table FROM pgtrickle.stages g"
            "  JOIN pgtrickle.stream_tables t ON t.id = g.stream_table_id"
            "  WHERE t.table_name = 'totals' AND g.state_table IS NOT NULL LIMIT 1),"
            " (SELECT 'pgtrickle_changes.o_' || t.id FROM pgtrickle.stream_tables t WHERE t.table_name = 'totals')"
            " FROM pgtrickle.sources s WHERE s.table_name = 'orders'"
        ).fetchone()
        assert row is not None
        names = dict(zip(("function", "buffer", "state", "log"), row, strict=True))
        conn.execute(statements.format(**names).encode())

    return Operation(_fix, prepare=damage, rests=True)


def _repair(engine: PgTrickle) -> None:
    for name in ("public.totals", "public.said"):
        engine.verify(name, repair=True)


def _spoil(engine: PgTrickle) -> None:
    past_guard(engine.conn, "UPDATE totals SET total = total + 1; DELETE FROM said WHERE id % 2 = 0")


OPERATIONS = {
    "refresh": Operation(_refresh),
    "a runner's refresh": Operation(_refresh_due, again=_refresh_due),
    "create": Operation(_create, again=_create_or_replace, undo=_drop, adds=("extra", EXTRA)),
    "change the query": Operation(_widen, prepare=_narrow, undo=_drop, adds=("extra", WIDE)),
    "change the configuration": Operation(_configure, prepare=_narrow, undo=_drop, adds=("extra", NARROW)),
    "drop": Operation(_drop, prepare=_create_or_replace),
    "trim": Operation(_trim),
    "verify": Operation(_verify),
    "replace by fewer rows": _replacement(FEWER),
    "replace by other types": _replacement(RETYPED),
    "replace by fewer columns": _replacement(LESS),
    "replace by what reads a stream table": _replacement(ABOVE, EXTRA),
    "replace the mode": _replacement(NARROW, refresh_mode="FULL"),
    "alter": Operation(_alter_query, prepare=_narrow, undo=_drop, adds=("extra", FEWER)),
    "suspend and resume": Operation(
        _suspend_and_resume, prepare=_narrow, undo=_drop, adds=("extra", NARROW), rests=True
    ),
    "let go": Operation(_let_go, prepare=_create_or_replace, undo=_drop, adds=("extra", EXTRA)),
    "release": Operation(_release, prepare=_create_or_replace, undo=_drop_ordinary),
    "drop with dependents": Operation(_drop_family, prepare=_family),
    "fix triggers": _damage("ALTER TABLE orders DISABLE TRIGGER USER; UPDATE orders SET amount = amount + 1"),
    "fix a function": _damage("DROP FUNCTION {function} CASCADE; UPDATE orders SET amount = amount + 1"),
    "fix a guard": _damage("DROP TRIGGER pgtrickle_guard ON totals; UPDATE totals SET n = 1000"),
    "fix state": _damage("DROP TABLE {state}"),
    "fix a log": _damage("DROP TABLE {log}"),
    "fix frontiers": _damage("DELETE FROM pgtrickle.frontiers; UPDATE orders SET amount = amount + 1"),
    "repair": Operation(_repair, prepare=_spoil, rests=True),
}
#: What is tried in every run; the rest with --run-slow.
OFTEN = (
    "refresh",
    "a runner's refresh",
    "create",
    "change the query",
    "change the configuration",
    "drop",
    "trim",
    "verify",
    "release",
)


def disturb(conn: Connection, seed: int) -> None:
    """Changes between prepare and act, so that there is something to be lost."""
    change(conn, seed, 4)
