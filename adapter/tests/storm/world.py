"""The tables that a storm writes to, and the stream tables over them."""

from __future__ import annotations

from dataclasses import dataclass

#: Keys of a band: so many rows of each table that a band has of its own.
ACCOUNTS, CUSTOMERS, ORDERS, NODES = 40, 25, 80, 12
BALANCE = 1000

TABLES = """
    CREATE TABLE accounts (id bigint PRIMARY KEY, branch int NOT NULL, balance numeric(12, 2) NOT NULL, note text);
    CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, region int NOT NULL);
    CREATE TABLE orders (
        id bigint PRIMARY KEY, customer bigint REFERENCES customers ON DELETE SET NULL ON UPDATE CASCADE,
        status text NOT NULL, amount numeric(10, 2) NOT NULL, note text,
        gross numeric(12, 2) GENERATED ALWAYS AS (amount * 1.2) STORED {virtual});
    CREATE INDEX ON orders (customer);
    CREATE TABLE lines (
        order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE, no int NOT NULL,
        quantity int NOT NULL, price numeric(8, 2) NOT NULL, PRIMARY KEY (order_id, no));
    CREATE TABLE events (k int, v int, txt text);
    CREATE TABLE ticks (k int, v int);
    CREATE TABLE audit (op text, order_id bigint, at bigint);
    CREATE TABLE counters (k int PRIMARY KEY, n int NOT NULL);
    CREATE TABLE mirror (k int PRIMARY KEY, v int, w text);
    CREATE TABLE edges (src int, dst int);
    CREATE INDEX ON edges (src); CREATE INDEX ON edges (dst);

    CREATE TABLE parts (k int, v int, note text) PARTITION BY RANGE (k);
    CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
    CREATE TABLE parts_mid PARTITION OF parts FOR VALUES FROM (100) TO (200) PARTITION BY LIST (k);
    CREATE TABLE parts_mid_some PARTITION OF parts_mid FOR VALUES IN (100, 101, 102, 103, 104, 105);
    CREATE TABLE parts_mid_rest PARTITION OF parts_mid DEFAULT;
    CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (200) TO (1000);

    CREATE TABLE animals (id int, kind text, weight int);
    CREATE TABLE cats (lives int) INHERITS (animals);
    CREATE TABLE dogs (breed text) INHERITS (animals);
    CREATE TABLE kittens () INHERITS (cats);

    CREATE TABLE feed (id int PRIMARY KEY, v int, txt text);
"""

BEHAVIOUR = """
    CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.note := coalesce(NEW.note, 'none'); RETURN NEW; END $$;
    CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION tidy();

    CREATE FUNCTION keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit VALUES (TG_OP, coalesce(NEW.id, OLD.id), txid_current());
        IF TG_OP = 'DELETE' THEN DELETE FROM audit WHERE order_id = OLD.id AND op = 'UPDATE'; END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER keep_audit AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION keep_audit();

    CREATE FUNCTION tell_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO events VALUES (NEW.k, NEW.n, 'from counters'); RETURN NEW; END $$;
    CREATE TRIGGER tell_events BEFORE UPDATE ON counters FOR EACH ROW EXECUTE FUNCTION tell_events();

    CREATE RULE keep_deleted AS ON DELETE TO counters DO ALSO INSERT INTO audit VALUES ('RULE', OLD.k, OLD.n);
    CREATE VIEW inbox AS SELECT k, v FROM events;
    CREATE RULE sort_in AS ON INSERT TO inbox DO INSTEAD (
        INSERT INTO events VALUES (NEW.k, NEW.v, 'inbox');
        INSERT INTO ticks VALUES (NEW.k, NEW.v));

    CREATE PROCEDURE many_subtransactions(k int, rounds int) LANGUAGE plpgsql AS $$
    BEGIN
        FOR n IN 1 .. rounds LOOP
            BEGIN
                INSERT INTO events VALUES (k, n, 'sub');
                UPDATE accounts SET note = 'sub ' || n WHERE id = k;
                IF n % 3 = 0 THEN RAISE division_by_zero; END IF;
                INSERT INTO audit VALUES ('SUB', k, n);
            EXCEPTION WHEN division_by_zero THEN
                DELETE FROM audit WHERE op = 'SUB' AND order_id = k AND at < n - 5;
            END;
        END LOOP;
    END $$;
"""

#: Rows of one band; %(low)s is where it begins.
BAND = f"""
    INSERT INTO accounts SELECT %(low)s + g, g %% 7, {BALANCE} FROM generate_series(1, {ACCOUNTS}) g;
    INSERT INTO customers SELECT %(low)s + g, 'name ' || g %% 6, g %% 3 FROM generate_series(1, {CUSTOMERS}) g;
    INSERT INTO orders (id, customer, status, amount)
    SELECT %(low)s + g, CASE WHEN g %% 9 > 0 THEN %(low)s + 1 + g %% {CUSTOMERS} END,
           CASE g %% 3 WHEN 0 THEN 'open' WHEN 1 THEN 'paid' ELSE 'sent' END, g
    FROM generate_series(1, {ORDERS}) g;
    INSERT INTO lines SELECT %(low)s + 1 + g %% {ORDERS}, g, g %% 5, g FROM generate_series(1, {ORDERS} * 2) g;
"""

SHARED = """
    INSERT INTO events SELECT g % 40, g % 5, 'first' FROM generate_series(1, 200) g;
    INSERT INTO ticks SELECT g % 10, g FROM generate_series(1, 100) g;
    INSERT INTO counters SELECT g, 0 FROM generate_series(1, 30) g;
    INSERT INTO mirror SELECT g, g, 'first' FROM generate_series(1, 50) g;
    INSERT INTO edges SELECT g, g + 1 FROM generate_series(1, 10) g;
    INSERT INTO parts SELECT g % 400, g % 9, 'first' FROM generate_series(1, 400) g;
    INSERT INTO animals SELECT g, 'kind ' || g % 3, g % 20 FROM generate_series(1, 40) g;
    INSERT INTO cats SELECT g, 'cat ' || g % 3, g % 9, 9 FROM generate_series(1, 40) g;
    INSERT INTO dogs SELECT g, 'dog ' || g % 3, g % 30, 'pug' FROM generate_series(1, 40) g;
    INSERT INTO kittens SELECT g, 'kitten', g % 3, 9 FROM generate_series(1, 20) g;
"""

EMPTIED = "INSERT INTO feed SELECT g, g % 10, 'copied' FROM generate_series(1, 300) g"


@dataclass(frozen=True, slots=True)
class Definition:
    """A stream table. ``small``: it is there in the short storm too."""

    name: str
    query: str
    small: bool = True
    schedule: str = "1s"
    mode: str = "AUTO"


def definitions(major: int) -> tuple[Definition, ...]:
    """All stream tables, sources before dependents."""
    shown = "gross, net" if major >= 18 else "gross"
    return (
        Definition("by_branch", "SELECT branch, sum(balance) AS total, count(*) AS n FROM accounts GROUP BY branch"),
        Definition("grand_total", "SELECT sum(total) AS total, sum(n) AS n FROM by_branch"),
        Definition("order_rows", f"SELECT id, customer, status, amount, {shown} FROM orders WHERE amount < 5000"),
        Definition(
            "order_counts", "SELECT status, count(*) AS n, sum(amount) AS amount FROM order_rows GROUP BY status"
        ),
        Definition(
            "sales",
            "SELECT c.region, c.name, count(*) AS n, sum(l.quantity * l.price) AS value, max(l.price) AS top"
            " FROM orders o JOIN customers c ON c.id = o.customer JOIN lines l ON l.order_id = o.id"
            " GROUP BY c.region, c.name",
        ),
        Definition(
            "padded",
            "SELECT o.id, o.amount, c.name, l.no FROM orders o LEFT JOIN customers c ON c.id = o.customer"
            " LEFT JOIN lines l ON l.order_id = o.id AND l.quantity > 2",
        ),
        Definition(
            "lonely",
            "SELECT c.id, c.name FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer = c.id)",
        ),
        Definition(
            "ranked",
            "SELECT customer, id, amount, row_number() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS place"
            " FROM orders",
            small=False,
        ),
        Definition("best", "SELECT id, amount FROM orders ORDER BY amount DESC, id LIMIT 10"),
        Definition("event_rows", "SELECT k, v, txt FROM events WHERE v > 1"),
        Definition("event_kinds", "SELECT DISTINCT k, txt FROM events"),
        Definition(
            "balanced",
            "SELECT k, sum(v) AS v FROM (SELECT k, v FROM events UNION ALL SELECT k, -v FROM ticks) AS u GROUP BY k",
            small=False,
        ),
        Definition("tick_sums", "SELECT k, count(*) AS n, min(v) AS least, max(v) AS most FROM ticks GROUP BY k"),
        Definition("audits", "SELECT op, count(*) AS n, count(DISTINCT order_id) AS orders FROM audit GROUP BY op"),
        Definition("counted", "SELECT k, n FROM counters"),
        Definition("mirrored", "SELECT m.k, m.v, m.w, c.n FROM mirror m FULL JOIN counters c ON c.k = m.k"),
        Definition(
            "reach",
            "WITH RECURSIVE r AS (SELECT 1 AS node UNION SELECT e.dst FROM r JOIN edges e ON e.src = r.node)"
            " SELECT node FROM r",
        ),
        Definition(
            "part_sums", "SELECT k % 10 AS b, count(*) AS n, sum(v) AS v, min(note) AS note FROM parts GROUP BY 1"
        ),
        Definition("part_leaf", "SELECT k, v, note FROM parts_mid_rest"),
        Definition("part_middle", "SELECT v, count(*) AS n FROM parts_mid GROUP BY v", small=False),
        Definition("part_homes", "SELECT tableoid::regclass::text AS home, count(*) AS n FROM parts GROUP BY 1"),
        Definition("zoo", "SELECT id, kind, weight FROM animals"),
        Definition("zoo_only", "SELECT kind, count(*) AS n, sum(weight) AS weight FROM ONLY animals GROUP BY kind"),
        Definition(
            "zoo_homes", "SELECT tableoid::regclass::text AS home, sum(weight) AS weight FROM animals GROUP BY 1"
        ),
        Definition("cat_rows", "SELECT id, weight, lives FROM cats"),
        Definition("feed_sums", "SELECT v, count(*) AS n, min(txt) AS txt FROM feed GROUP BY v"),
        Definition("feed_rows", "SELECT id, v, txt FROM feed", small=False),
        Definition(
            "diamond",
            "SELECT s.region, s.name, s.value, p.n FROM sales s"
            " JOIN (SELECT name, count(*) AS n FROM padded GROUP BY name) p ON p.name = s.name",
        ),
        Definition(
            "owing",
            "SELECT c.id, (SELECT sum(o.amount) FROM orders o WHERE o.customer = c.id AND o.status = 'open') AS owes"
            " FROM customers c WHERE c.id IN (SELECT customer FROM orders)",
            small=False,
        ),
        Definition("recomputed", "SELECT status, sum(gross) AS gross FROM orders GROUP BY status", mode="FULL"),
    )


#: What the definer creates and drops; ``{n}`` is a number.
EXTRAS = (
    "SELECT id, branch, balance, {n} AS c FROM accounts WHERE branch <> {n}",
    "SELECT k, v, count(*) AS n FROM events WHERE v < {n} GROUP BY k, v",
    "SELECT region, n + {n} AS n FROM sales WHERE n > 1",
    "SELECT DISTINCT note, k % {n} AS m FROM parts",
    "SELECT o.id, l.no, l.price FROM orders o JOIN lines l ON l.order_id = o.id WHERE l.quantity >= {n}",
    "SELECT c.id, c.region, a.note FROM customers c LEFT JOIN accounts a ON a.id = c.id WHERE a.branch < {n}",
    "SELECT kind, max(weight) AS w FROM animals GROUP BY kind HAVING count(*) > {n}",
    "SELECT src, dst FROM edges WHERE src < {n} EXCEPT SELECT k, v FROM mirror",
    "SELECT v, txt FROM feed WHERE v <> {n}",
)
