"""No committed change is missed or applied twice, whoever writes and whoever refreshes at the same time."""

from __future__ import annotations

import random
import threading
import time

import psycopg
import pytest

from pgtrickle import capture
from pgtrickle.api import PgTrickle
from pgtrickle.errors import RefreshBusy

pytestmark = pytest.mark.edges_only

QUERY = (
    "SELECT d.name, count(*) AS orders, sum(o.amount) AS amount FROM orders o JOIN dim d ON d.k = o.k GROUP BY d.name"
)
ROWS = "SELECT o.id, o.amount, d.name FROM orders o LEFT JOIN dim d ON d.k = o.k"


@pytest.fixture
def shop(conn, engine):
    """Two sources and two stream tables."""
    conn.execute(
        """
        CREATE TABLE dim (k int PRIMARY KEY, name text);
        CREATE TABLE orders (id int PRIMARY KEY, k int, amount numeric(10, 2));
        INSERT INTO dim SELECT n, 'name ' || n % 3 FROM generate_series(0, 5) n;
        INSERT INTO orders SELECT n, n % 7, n FROM generate_series(1, 50) n;
        """
    )
    engine.create_stream_table("totals", QUERY, refresh_mode="DIFFERENTIAL")
    engine.create_stream_table("joined", ROWS, refresh_mode="DIFFERENTIAL")
    return engine


def check(conn, engine, oracle):
    done = engine.refresh_all()
    assert {result.action for result in done} <= {"DIFFERENTIAL", "NO_DATA", "FULL"}, done
    oracle(conn, "totals", QUERY)
    oracle(conn, "joined", ROWS)


def test_a_long_transaction_that_began_before_many_refreshes_is_not_lost(conn, connect, shop, oracle):
    long = connect(autocommit=False)
    long.execute("INSERT INTO orders VALUES (1000, 1, 7)")
    for n in range(3):
        conn.execute("UPDATE orders SET amount = amount + 1 WHERE id = %s", [n + 1])
        shop.refresh_all()
    long.execute("UPDATE dim SET name = 'moved' WHERE k = 2")
    long.commit()
    result = shop.refresh_stream_table("totals")
    assert result.action == "DIFFERENTIAL"
    check(conn, shop, oracle)


def test_a_prepared_transaction_counts_when_it_commits_and_only_once(conn, connect, shop, oracle):
    session = connect(autocommit=False)
    session.execute("SAVEPOINT a")
    session.execute("DELETE FROM orders WHERE id <= 5")
    session.execute("SAVEPOINT b")
    session.execute("INSERT INTO orders VALUES (2000, 3, 1)")
    session.execute("ROLLBACK TO SAVEPOINT b")
    session.execute("INSERT INTO orders VALUES (2001, 3, 1)")
    session.execute("PREPARE TRANSACTION 'p'")
    session.commit()
    for _ in range(2):
        conn.execute("INSERT INTO orders SELECT max(id) + 1, 1, 1 FROM orders")
        check(conn, shop, oracle)
    conn.execute("COMMIT PREPARED 'p'")
    check(conn, shop, oracle)
    assert shop.refresh_stream_table("totals").action == "NO_DATA"


def test_a_rolled_back_transaction_leaves_no_trace(conn, connect, shop, oracle):
    session = connect(autocommit=False)
    session.execute("DELETE FROM orders")
    shop.refresh_all()
    session.rollback()
    assert shop.refresh_stream_table("totals").action == "NO_DATA"
    check(conn, shop, oracle)


def test_repeatable_read_writers_are_seen_once_they_commit(conn, connect, shop, oracle):
    session = connect(autocommit=False)
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    session.execute("SELECT count(*) FROM orders")
    conn.execute("INSERT INTO orders VALUES (3000, 1, 3)")
    shop.refresh_all()
    session.execute("UPDATE orders SET amount = 0 WHERE id = 1")
    session.commit()
    check(conn, shop, oracle)


def test_two_refreshers_of_one_table_never_apply_a_window_twice(db, conn, shop, oracle):
    errors: list[BaseException] = []
    stop = threading.Event()

    def refresh() -> None:
        try:
            with PgTrickle.connect(db) as mine:
                while not stop.is_set():
                    mine.refresh_stream_table("totals")
                    mine.refresh_stream_table("joined")
        except BaseException as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    threads = [threading.Thread(target=refresh) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(60):
        conn.execute("INSERT INTO orders VALUES (%s, %s, 1)", [4000 + n, n % 7])
        conn.execute("UPDATE orders SET amount = amount + 1 WHERE id %% 10 = %s", [n % 10])
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    check(conn, shop, oracle)
    assert shop.verify("totals").proven


def test_writers_of_every_kind_race_with_refreshers(db, conn, connect, shop, oracle):
    errors: list[BaseException] = []
    done = threading.Event()

    def write(seed: int) -> None:
        rng = random.Random(seed)
        try:
            # A prepared transaction that nobody commits keeps its row locks.
            with psycopg.connect(db, options="-c lock_timeout=300ms") as session:
                for n in range(25):
                    _one_transaction(session, rng, seed * 1000 + n)
        except BaseException as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    def refresh() -> None:
        try:
            with PgTrickle.connect(db) as mine:
                while not done.is_set():
                    mine.refresh_all()
        except BaseException as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    def trim() -> None:
        try:
            with PgTrickle.connect(db) as mine:
                while not done.is_set():
                    capture.trim(mine.conn)
        except BaseException as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    writers = [threading.Thread(target=write, args=[seed]) for seed in range(1, 5)]
    refreshers = [threading.Thread(target=work) for work in (refresh, refresh, trim)]
    for thread in [*writers, *refreshers]:
        thread.start()
    for thread in writers:
        thread.join(90)
    done.set()
    for thread in refreshers:
        thread.join(90)
    assert not any(thread.is_alive() for thread in [*writers, *refreshers])
    assert not errors, errors
    for (gid,) in conn.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()").fetchall():
        conn.execute(psycopg.sql.SQL("COMMIT PREPARED {}").format(gid))
    check(conn, shop, oracle)
    assert shop.verify("totals").proven
    assert shop.verify("joined").proven


def _one_transaction(session: psycopg.Connection, rng: random.Random, number: int) -> None:
    base = 100_000 + number * 10
    try:
        session.execute("INSERT INTO orders VALUES (%s, %s, %s)", [base, rng.randrange(8), rng.randrange(100)])
        session.execute("SAVEPOINT s")
        session.execute("UPDATE orders SET amount = amount + 1 WHERE id = %s", [base])
        if rng.random() < 0.5:
            session.execute("ROLLBACK TO SAVEPOINT s")
        if rng.random() < 0.3:
            session.execute("UPDATE dim SET name = 'name ' || %s WHERE k = %s", [rng.randrange(4), rng.randrange(6)])
        if rng.random() < 0.3:
            session.execute("DELETE FROM orders WHERE id = %s", [base - 10])
        time.sleep(rng.random() / 100)
    except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
        session.rollback()
        return
    fate = rng.random()
    if fate < 0.2:
        session.rollback()
    elif fate < 0.35:
        session.execute(psycopg.sql.SQL("PREPARE TRANSACTION {}").format(f"t{number}"))
        session.commit()
        if rng.random() < 0.7:
            session.autocommit = True
            session.execute(psycopg.sql.SQL("COMMIT PREPARED {}").format(f"t{number}"))
            session.autocommit = False
    else:
        session.commit()


def test_a_truncate_under_an_old_snapshot_is_not_taken_for_an_empty_source(db, conn, connect, shop, oracle):
    session = connect(autocommit=False)
    session.execute("TRUNCATE orders")
    session.execute("INSERT INTO orders VALUES (1, 1, 1)")
    outcome: list[object] = []

    def refresh() -> None:
        with PgTrickle.connect(db) as mine:
            outcome.append(mine.refresh_stream_table("totals"))

    thread = threading.Thread(target=refresh)
    thread.start()
    time.sleep(0.3)
    assert not outcome, "the refresh has to wait for the TRUNCATE: its snapshot comes after its locks"
    session.commit()
    thread.join(60)
    assert outcome
    check(conn, shop, oracle)


def test_a_refresh_that_is_kept_waiting_says_that_others_are_at_it(conn, connect, shop):
    holder = connect(autocommit=False)
    holder.execute("SELECT * FROM pgtrickle.frontiers FOR UPDATE")
    from pgtrickle import lifecycle, refresh

    found = lifecycle.resolve_stream_table(shop.conn, "totals")
    conn.execute("INSERT INTO orders VALUES (5000, 1, 1)")
    with pytest.raises(RefreshBusy):
        refresh.run(refresh.Session(shop.conn), refresh.Request((found.relid,), patience_s=0.5))
    holder.rollback()
    assert shop.refresh_stream_table("totals").action == "DIFFERENTIAL"


@pytest.mark.parametrize(
    ("work", "first", "second"),
    [
        ("refresh", "orders", "dim"),
        ("verify", "orders", "dim"),
        ("compile", "dim", "orders"),
        ("create", "dim", "orders"),
    ],
)
def test_an_application_that_truncates_what_we_read_never_is_the_victim_of_a_deadlock(
    db, conn, connect, shop, work, first, second
):
    """PostgreSQL ends whoever finds the deadlock: the one that began to wait last, if the other has looked already."""
    with psycopg.connect(db, autocommit=True) as admin:
        admin.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 400', current_database()); END $$"
        )
    application = connect(autocommit=False)
    mine = PgTrickle.connect(db)
    if work in ("refresh", "verify"):
        mine.refresh_all()
    conn.execute("INSERT INTO orders VALUES (9000, 1, 1)")
    application.execute(f"TRUNCATE {first}")
    errors: list[BaseException] = []

    def engine_at_work() -> None:
        try:
            with mine:
                if work == "verify":
                    mine.verify("totals")
                elif work == "create":
                    mine.create_stream_table("more", QUERY)
                else:
                    mine.refresh_stream_table("totals")
        except BaseException as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    thread = threading.Thread(target=engine_at_work)
    thread.start()
    # It has locked the one, waits for the other, looks for deadlocks once, and finds none yet.
    time.sleep(1)
    application.execute(f"TRUNCATE {second}")
    application.commit()
    thread.join(60)
    assert not thread.is_alive()
    assert not errors, errors


def test_a_source_whose_capture_cannot_be_mended_yet_holds_up_nobody_else(db, conn, connect, shop, oracle):
    """A partition came, and a transaction that may last for hours has written to it."""
    conn.execute(
        "CREATE TABLE p (k int, v int) PARTITION BY LIST (k); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)"
    )
    parted = "SELECT k, count(*) AS n FROM p GROUP BY k"
    shop.create_stream_table("parted", parted, refresh_mode="DIFFERENTIAL")
    conn.execute("CREATE TABLE p2 (k int, v int); ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)")
    long = connect(autocommit=False)
    long.execute("INSERT INTO p VALUES (2, 1)")
    conn.execute("INSERT INTO orders VALUES (9000, 1, 1)")
    relids = [row.relid for row in shop.status() if row.table in ("parted", "totals")]
    with PgTrickle.connect(db, initiated_by="runner") as runner:
        done = {result.name: result for result in runner.refresh_due(relids)}
    assert done["public.totals"].action == "DIFFERENTIAL"
    assert done["public.parted"].action == "FAILED"
    assert "locked" in (done["public.parted"].fallback_reason or "")
    (row,) = shop.status("parted")
    assert (row.status, row.consecutive_errors, row.retry_at is None) == ("ACTIVE", 1, False)
    long.commit()
    check(conn, shop, oracle)
    oracle(conn, "parted", parted)
