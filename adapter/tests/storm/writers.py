"""What applications write: each kind is one small function that runs inside a transaction of somebody else's making."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.storm.log import Dice
from tests.storm.world import ACCOUNTS, CUSTOMERS, NODES, ORDERS

Session = psycopg.Connection[Any]
Work = Callable[[Session, Dice], None]


@dataclass(frozen=True, slots=True)
class Writer:
    """A kind of write.

    Attributes:
        name: for the report.
        work: does it.
        weight: how often it is drawn.
        min_major: of the server.
        exclusive: it locks a whole table, or writes to one that others lock as a whole: nothing for a transaction
            that stays open.
        shared: it changes rows that everybody changes: a transaction that stays open does it seldom.
    """

    name: str
    work: Work
    weight: int
    min_major: int
    exclusive: bool
    shared: bool


WRITERS: list[Writer] = []


def writes(
    weight: int = 2, *, min_major: int = 14, exclusive: bool = False, shared: bool = False
) -> Callable[[Work], Work]:
    """Register a kind of write."""

    def register(work: Work) -> Work:
        WRITERS.append(Writer(work.__name__, work, weight, min_major, exclusive, shared))
        return work

    return register


def drawn(dice: Dice, major: int, *, patient: bool) -> Writer:
    """One kind, by weight; ``patient``: for a transaction that stays open."""
    alone = patient and not dice.happens(0.15)
    able = [
        one
        for one in WRITERS
        if one.min_major <= major and not (patient and one.exclusive) and not (alone and one.shared)
    ]
    return dice.choices(able, [one.weight for one in able])[0]


# --- single rows -----------------------------------------------------------------------------------------------------


@writes(6)
def transfer(session: Session, dice: Dice) -> None:
    """Money moves; readers check that none is made."""
    a, b = dice.key(ACCOUNTS), dice.key(ACCOUNTS)
    if a != b:
        session.execute(
            "UPDATE accounts SET balance = balance + CASE WHEN id = %s THEN -%s ELSE %s END WHERE id IN (%s, %s)",
            (a, (amount := dice.randint(1, 50)), amount, a, b),
        )


@writes(4)
def transfer_in_two_statements(session: Session, dice: Dice) -> None:
    amount = dice.randint(1, 50)
    for key, sign in sorted([(dice.key(ACCOUNTS), -1), (dice.key(ACCOUNTS), 1)]):
        session.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (sign * amount, key))


@writes(4)
def insert_order(session: Session, dice: Dice) -> None:
    key = dice.fresh()
    session.execute(
        "INSERT INTO orders (id, customer, status, amount) VALUES (%s, %s, 'open', %s)",
        (key, dice.key(CUSTOMERS), dice.randint(1, 900)),
    )
    session.execute("INSERT INTO lines VALUES (%s, 1, %s, 5), (%s, 2, 1, 7.5)", (key, dice.randint(0, 5), key))


@writes(4)
def update_order(session: Session, dice: Dice) -> None:
    status = dice.choice(("open", "paid", "sent"))
    session.execute("UPDATE orders SET status = %s, amount = amount + 1 WHERE id = %s", (status, dice.key(ORDERS)))


@writes(1)
def update_what_nobody_reads(session: Session, dice: Dice) -> None:
    session.execute("UPDATE orders SET note = 'unread' WHERE id = %s", (dice.key(ORDERS),))


@writes(2)
def revive_rows(session: Session, dice: Dice) -> None:
    """What the other writers have deleted of a band comes back, so that it does not run dry."""
    session.execute(
        "INSERT INTO customers VALUES (%s, 'name ' || %s, %s) ON CONFLICT DO NOTHING",
        (dice.key(CUSTOMERS), dice.randint(0, 5), dice.randint(0, 2)),
    )
    session.execute(
        "INSERT INTO orders (id, customer, status, amount) SELECT %s, min(id), 'paid', %s FROM customers"
        " WHERE id BETWEEN %s AND %s ON CONFLICT DO NOTHING",
        (dice.key(ORDERS), dice.randint(1, 99), dice.low + 1, dice.low + CUSTOMERS),
    )


# --- bulk ------------------------------------------------------------------------------------------------------------


@writes(1)
def insert_select(session: Session, dice: Dice) -> None:
    session.execute(
        "INSERT INTO events SELECT g %% 40, g %% 5, 'bulk' FROM generate_series(1, %s) g", (dice.randint(10, 600),)
    )


@writes(2, shared=True)
def delete_many(session: Session, dice: Dice) -> None:
    session.execute(
        "DELETE FROM events WHERE k = %s OR txt = %s", (dice.randint(0, 40), dice.choice(("bulk", "sub", "inbox")))
    )


@writes(1, shared=True)
def update_many(session: Session, dice: Dice) -> None:
    session.execute("UPDATE events SET v = (v + 1) %% 6 WHERE k %% 4 = %s", (dice.randint(0, 3),))


@writes(1)
def update_a_band_of_orders(session: Session, dice: Dice) -> None:
    session.execute(
        "UPDATE orders SET amount = amount + 1 WHERE id BETWEEN %s AND %s", (dice.low + 1, dice.low + ORDERS)
    )


@writes(1, shared=True)
def delete_fresh_orders(session: Session, dice: Dice) -> None:
    session.execute(
        "DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE id > 9999999 ORDER BY id LIMIT %s"
        " FOR UPDATE SKIP LOCKED)",
        (dice.randint(5, 60),),
    )


@writes(1)
def copy_in(session: Session, dice: Dice) -> None:
    table, row = dice.choice(
        (
            ("events (k, v, txt)", lambda: (dice.randint(0, 40), dice.randint(0, 5), "copied")),
            ("dogs (id, kind, weight, breed)", lambda: (dice.randint(1, 60), "dog", dice.randint(1, 30), "mops")),
            ("parts (k, v, note)", lambda: (dice.randint(0, 300), dice.randint(0, 9), "copied")),
        )
    )
    with session.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for _ in range(dice.randint(1, 200)):
            copy.write_row(row())


# --- statements that do several things -------------------------------------------------------------------------------


@writes(2, shared=True)
def upsert(session: Session, dice: Dice) -> None:
    session.execute(
        "INSERT INTO counters SELECT DISTINCT (random() * 30)::int, 1 FROM generate_series(1, %s) ORDER BY 1"
        " ON CONFLICT (k) DO UPDATE SET n = counters.n + excluded.n",
        (dice.randint(1, 6),),
    )


@writes(1, shared=True)
def insert_or_nothing(session: Session, dice: Dice) -> None:
    session.execute(
        "INSERT INTO mirror SELECT g, g, 'new' FROM generate_series(%s::int, %s::int) g ON CONFLICT DO NOTHING",
        (low := dice.randint(1, 60), low + 5),
    )


@writes(2, min_major=15, shared=True)
def merge(session: Session, dice: Dice) -> None:
    session.execute(
        "MERGE INTO mirror m USING (SELECT g AS k, g %% 7 AS v FROM generate_series(%s::int, %s::int) g) s ON s.k = m.k"
        " WHEN MATCHED AND s.v = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = m.v + s.v, w = 'merged'"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.k, s.v, 'merged')",
        (low := dice.randint(1, 60), low + dice.randint(1, 12)),
    )


@writes(2, shared=True)
def data_modifying_ctes(session: Session, dice: Dice) -> None:
    key = dice.randint(0, 40)
    session.execute(
        "WITH gone AS (DELETE FROM events WHERE k = %s AND v < 3 RETURNING k, v),"
        " moved AS (INSERT INTO audit SELECT 'MOVED', k, v FROM gone RETURNING at),"
        " changed AS (UPDATE mirror SET v = v + 1 WHERE k = %s RETURNING k)"
        " INSERT INTO events SELECT k, 4, 'cte' FROM changed UNION ALL SELECT %s, count(*), 'cte' FROM moved",
        (key, key + 1, key),
    )


@writes(1, shared=True)
def several_statements_in_one_message(session: Session, dice: Dice) -> None:
    k = dice.randint(1, 30)
    session.execute(
        f"UPDATE mirror SET v = {k} WHERE k = {k}; DELETE FROM audit WHERE order_id % 50 = {k};"
        f"INSERT INTO mirror VALUES ({k}, 0, 'many') ON CONFLICT (k) DO UPDATE SET w = 'many'"
    )


@writes(1)
def through_a_rule(session: Session, dice: Dice) -> None:
    session.execute("INSERT INTO inbox VALUES (%s, %s)", (dice.randint(0, 40), dice.randint(0, 5)))


@writes(1, shared=True)
def delete_with_a_rule(session: Session, dice: Dice) -> None:
    session.execute("DELETE FROM counters WHERE k = %s", (dice.randint(1, 30),))


@writes(1)
def many_subtransactions(session: Session, dice: Dice) -> None:
    session.execute("CALL many_subtransactions(%s, %s)", (dice.key(ACCOUNTS), dice.choice((5, 20, 150))))


# --- foreign keys ----------------------------------------------------------------------------------------------------


@writes(2)
def delete_an_order_with_its_lines(session: Session, dice: Dice) -> None:
    session.execute("DELETE FROM orders WHERE id = %s", (dice.key(ORDERS),))


@writes(1)
def delete_a_customer_whose_orders_stay(session: Session, dice: Dice) -> None:
    session.execute("DELETE FROM customers WHERE id = %s", (dice.key(CUSTOMERS),))


@writes(1)
def change_a_key_that_others_follow(session: Session, dice: Dice) -> None:
    table, most = dice.choice((("customers", CUSTOMERS), ("orders", ORDERS)))
    session.execute(f"UPDATE {table} SET id = -id WHERE id = %(k)s OR id = -%(k)s", {"k": dice.key(most)})


@writes(1)
def rename_a_customer(session: Session, dice: Dice) -> None:
    session.execute(
        "UPDATE customers SET name = 'name ' || %s WHERE id = %s", (dice.randint(0, 5), dice.key(CUSTOMERS))
    )


# --- hierarchies -----------------------------------------------------------------------------------------------------


@writes(2, shared=True)
def parts_through_the_root(session: Session, dice: Dice) -> None:
    match dice.randint(0, 2):
        case 0:
            session.execute(
                "INSERT INTO parts SELECT %s + g, g %% 9, 'root' FROM generate_series(1, %s) g",
                (dice.randint(0, 280), dice.randint(1, 120)),
            )
        case 1:
            session.execute(
                "UPDATE parts SET k = (k + 37) %% 300 WHERE k %% 23 = %s AND k < 300", (dice.randint(0, 22),)
            )
        case _:
            session.execute("DELETE FROM parts WHERE k %% 31 = %s", (dice.randint(0, 30),))


@writes(2, shared=True)
def parts_in_the_middle_and_in_leaves(session: Session, dice: Dice) -> None:
    match dice.randint(0, 3):
        case 0:
            session.execute("INSERT INTO parts_mid SELECT 100 + g % 100, g, 'mid' FROM generate_series(1, 20) g")
        case 1:
            session.execute(
                "UPDATE parts_mid SET k = 100 + (k + 3) %% 100, v = v + 1 WHERE k %% 9 = %s", (dice.randint(0, 8),)
            )
        case 2:
            session.execute("UPDATE parts_low SET v = v + 1, note = 'leaf' WHERE k %% 20 = %s", (dice.randint(0, 19),))
        case _:
            session.execute("DELETE FROM parts_mid_rest WHERE v %% 10 = %s", (dice.randint(0, 9),))


@writes(1, exclusive=True)
def parts_that_come_and_go(session: Session, dice: Dice) -> None:
    """Into the partitions that somebody else creates, attaches, detaches and drops."""
    number = dice.randint(1, 6)
    if dice.happens(0.5):
        session.execute("INSERT INTO parts VALUES (%s, %s, 'guest')", (999 + number, dice.randint(0, 9)))
    else:
        session.execute(f"UPDATE parts_guest_{number} SET v = v + 1")


@writes(2, shared=True)
def family_from_above(session: Session, dice: Dice) -> None:
    match dice.randint(0, 3):
        case 0:
            session.execute(
                "UPDATE animals SET weight = (weight + 1) %% 40 WHERE id %% 12 = %s", (dice.randint(0, 11),)
            )
        case 1:
            session.execute("DELETE FROM animals WHERE id = %s", (dice.randint(1, 60),))
        case 2:
            session.execute("UPDATE cats SET lives = lives - 1, kind = 'old cat' WHERE id = %s", (dice.randint(1, 60),))
        case _:
            session.execute("UPDATE ONLY animals SET weight = weight + 1 WHERE id %% 7 = %s", (dice.randint(0, 6),))


@writes(2)
def family_one_by_one(session: Session, dice: Dice) -> None:
    key = dice.randint(1, 60)
    match dice.randint(0, 3):
        case 0:
            session.execute("INSERT INTO animals VALUES (%s, 'kind 1', 3)", (key,))
        case 1:
            session.execute("INSERT INTO kittens SELECT g, 'kitten', g %% 3, 9 FROM generate_series(1, %s) g", (key,))
        case 2:
            session.execute("INSERT INTO cats VALUES (%s, 'cat', 4, 7)", (key,))
        case _:
            session.execute("DELETE FROM dogs WHERE weight %% 11 = %s", (key % 11,))


# --- the rest --------------------------------------------------------------------------------------------------------


@writes(1, shared=True)
def rewire(session: Session, dice: Dice) -> None:
    a, b = dice.randint(1, NODES), dice.randint(1, NODES)
    match dice.randint(0, 2):
        case 0:
            session.execute("INSERT INTO edges VALUES (%s, %s)", (a, b))
        case 1:
            session.execute("DELETE FROM edges WHERE src = %s", (a,))
        case _:
            session.execute("UPDATE edges SET dst = %s WHERE src = %s AND dst <> src", (b, a))


@writes(1)
def as_a_replica(session: Session, dice: Dice) -> None:
    """As logical decoding tools and restores write: users' triggers and foreign keys do not fire, ours do."""
    session.execute("SET LOCAL session_replication_role = replica")
    session.execute("UPDATE accounts SET note = 'replica' WHERE id = %s", (dice.key(ACCOUNTS),))
    session.execute("INSERT INTO events VALUES (%s, 2, 'replica')", (dice.randint(0, 40),))
    session.execute("SET LOCAL session_replication_role = origin")


@writes(2, exclusive=True)
def fill_ticks(session: Session, dice: Dice) -> None:
    session.execute(
        "INSERT INTO ticks SELECT g %% 10, g FROM generate_series(1, %s) g", (dice.choice((3, 30, 300, 1500)),)
    )


@writes(1, exclusive=True)
def truncate(session: Session, dice: Dice) -> None:
    """Small tables are captured as rows, big ones as a mark; nobody waits long for the lock."""
    session.execute("SET LOCAL lock_timeout = '60ms'")
    session.execute(
        f"TRUNCATE {dice.choice(('ticks', 'ticks', 'audit', 'parts_mid_rest', 'parts_mid', 'ticks, audit'))}"
    )
    session.execute("SET LOCAL lock_timeout = '1500ms'")


def names() -> Iterator[str]:
    """The kinds of write."""
    return (one.name for one in WRITERS)
