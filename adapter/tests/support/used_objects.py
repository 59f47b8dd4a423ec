"""What users do to the types, functions, operators, casts, collations, text search objects of queries, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RECOMPUTE, NOTHING, ERROR = "one recompute", "nothing", "`ERROR`, the content stays"

ROWS = "CREATE TABLE app.t (id int PRIMARY KEY, g int, x text{columns});"
FILL = "INSERT INTO app.t SELECT n, n % 2, 'Running foxes ' || n{values} FROM generate_series(1, 6) n;"
MOOD = "CREATE TYPE app.mood AS ENUM ('a', 'b', 'c');"
PAIR = "CREATE TYPE app.pair AS (a int, b text);"


@dataclass(frozen=True)
class World:
    """What is there before ``app.t``, further columns of it, and what they are filled with."""

    before: str = ""
    columns: str = ""
    values: str = ""


@dataclass(frozen=True)
class Used:
    """One change of something that a query uses.

    Attributes:
        group: the line of the table in the documentation.
        query: of the stream table.
        ddl: the change; one string is one message.
        says: words in the reason of the recompute, or in the error.
        before: what else is there before the table.
        world: the table.
        now: the query with the names that count afterwards; empty: as it was.
        outcome: what happens.
        remedy: what heals an error.
        view: the query as a view gives the same afterwards.
    """

    group: str
    query: str
    ddl: str | tuple[str, ...]
    says: str = ""
    before: str = ""
    world: World = field(default_factory=World)
    now: str = ""
    outcome: str = RECOMPUTE
    remedy: str = ""
    view: bool = True

    @property
    def setup(self) -> str:
        """What makes the world of this case."""
        table = ROWS.replace("{columns}", self.world.columns) + FILL.replace("{values}", self.world.values)
        return f"DROP SCHEMA IF EXISTS app CASCADE; CREATE SCHEMA app; {self.before} {self.world.before} {table}"

    @property
    def statements(self) -> tuple[str, ...]:
        """What is executed, message by message."""
        return (self.ddl,) if isinstance(self.ddl, str) else self.ddl


_TYPES = "Add, drop, rename, alter attributes of a composite type, or columns of a table whose rows a query shows whole"
_ENUMS = "Rename a label of an enum"
_ADDED = "Make a view anew with the same text; alter the cost of a function; add labels, constraints of domains, casts"
_NAMES = "Rename or move a type, domain, collation, text search configuration, operator"
_CASTS = (
    "Create, drop or replace casts of a type, the function of an operator, an operator or function that fits better"
)
_PARTS = "Replace a view by another query, a function by another body or strictness"
_CALLED = "Replace an aggregate, its functions, what a `BEGIN ATOMIC` body calls, defaults of arguments"
_SEARCH = "Alter a text search configuration or dictionary that a query uses"
_COLLATIONS = "Refresh the version of a collation that a query uses"

_C = World(PAIR, ", c app.pair", ", ROW(n % 3, 'b' || n)::app.pair")
_CS = World(PAIR, ", c app.pair[]", ", ARRAY[ROW(n % 3, 'b' || n)::app.pair]")
_M = World(MOOD, ", m app.mood", ", (ARRAY['a', 'b', 'c'])[1 + n % 3]::app.mood")
_ATTRIBUTES = "app.pair: attributes of the type were added, dropped, renamed or altered"
_LABELS = "app.mood: labels of an enum were renamed"
_DOUBLE = "CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';"
_ADD = "CREATE FUNCTION app.plus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';"
_OPERATOR = _ADD + "CREATE OPERATOR app.#&# (LEFTARG = int, RIGHTARG = int, FUNCTION = app.plus);"
_CONFIG = "CREATE TEXT SEARCH CONFIGURATION app.cfg (COPY = pg_catalog.english);"
_DICTIONARY = "CREATE TEXT SEARCH DICTIONARY app.d (TEMPLATE = snowball, language = english);"
_WORDS = "SELECT id, to_tsvector('app.cfg', x)::text AS v, g FROM app.t"
_SIMPLE = "ALTER TEXT SEARCH CONFIGURATION {} ALTER MAPPING FOR asciiword WITH simple"
_TO_MOOD = (
    "CREATE FUNCTION app.{}({}) RETURNS app.mood LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN '{}'::app.mood; END$$;"
)

#: What is tried by default; the rest with --run-slow.
QUICK = frozenset(
    {"composite_as_text", "attribute_read", "whole_row", "label_named", "type_renamed", "cast_replaced", "overload"}
    | {"aggregate_replaced", "configuration"}
)
CASES: Mapping[str, Used] = {
    "composite_as_text": Used(
        _TYPES,
        "SELECT id, g, c::text AS c FROM app.t",
        "ALTER TYPE app.pair ADD ATTRIBUTE d int",
        _ATTRIBUTES,
        world=_C,
    ),
    "composite_compared": Used(
        _TYPES, "SELECT id, g FROM app.t WHERE c::text <> '(1,b1)'", "ALTER TYPE app.pair ADD ATTRIBUTE d int", world=_C
    ),
    "composite_grouped": Used(
        _TYPES,
        "SELECT c, sum(g) AS s FROM app.t GROUP BY c",
        "ALTER TYPE app.pair DROP ATTRIBUTE b",
        _ATTRIBUTES,
        world=_C,
    ),
    "composite_as_json": Used(
        _TYPES, "SELECT id, to_jsonb(c) AS j, g FROM app.t", "ALTER TYPE app.pair RENAME ATTRIBUTE b TO z", world=_CS
    ),
    "composite_made_in_the_query": Used(
        _TYPES,
        "SELECT id, row_to_json(ROW(id, 'u')::app.pair)::text AS j, g FROM app.t",
        "ALTER TYPE app.pair RENAME ATTRIBUTE b TO z",
        _ATTRIBUTES,
        before=PAIR,
    ),
    "attribute_read": Used(
        _TYPES,
        "SELECT id, (c).b AS b, g FROM app.t",
        "ALTER TYPE app.pair RENAME ATTRIBUTE b TO z",
        _ATTRIBUTES,
        now="SELECT id, (c).z AS b, g FROM app.t",
        world=_C,
    ),
    "domain_over_composite": Used(
        _TYPES,
        "SELECT id, c::text AS c, g FROM app.t",
        "ALTER TYPE app.pair ADD ATTRIBUTE d int",
        _ATTRIBUTES,
        world=World(PAIR + "CREATE DOMAIN app.dom AS app.pair;", ", c app.dom", ", ROW(n, 'x')::app.pair"),
    ),
    "row_type_of_another_table": Used(
        _TYPES,
        "SELECT id, row_to_json(c)::text AS j, g FROM app.t",
        "ALTER TABLE app.r RENAME b TO z",
        "app.r: attributes",
        world=World("CREATE TABLE app.r (a int, b text);", ", c app.r", ", ROW(n, 'x')::app.r"),
    ),
    "whole_row": Used(
        _TYPES,
        "SELECT id, row_to_json(t)::text AS j FROM app.t",
        "ALTER TABLE app.t ADD COLUMN z int DEFAULT 5",
        "app.t: attributes of the type were added",
    ),
    "attribute_dropped": Used(
        _TYPES,
        "SELECT id, (c).b AS b, g FROM app.t",
        "ALTER TYPE app.pair DROP ATTRIBUTE b",
        "app.pair",
        remedy="ALTER TYPE app.pair ADD ATTRIBUTE b text",
        outcome=ERROR,
        view=False,
        world=_C,
    ),
    "label_shown": Used(
        _ENUMS,
        "SELECT id, g, m::text AS m FROM app.t",
        "ALTER TYPE app.mood RENAME VALUE 'a' TO 'z'",
        _LABELS,
        world=_M,
    ),
    "label_in_range_of_enum": Used(
        _ENUMS,
        "SELECT id, g, r::text AS r FROM app.t",
        "ALTER TYPE app.mood RENAME VALUE 'a' TO 'z'",
        _LABELS,
        world=World(
            MOOD + "CREATE TYPE app.moods AS RANGE (subtype = app.mood);", ", r app.moods", ", app.moods('a', 'c')"
        ),
    ),
    "label_named": Used(
        _ENUMS,
        "SELECT id, g FROM app.t WHERE m BETWEEN 'a' AND 'b'",
        "ALTER TYPE app.mood RENAME VALUE 'a' TO 'it''s'",
        _LABELS,
        now="SELECT id, g FROM app.t WHERE m BETWEEN 'it''s' AND 'b'",
        world=_M,
    ),
    "labels_swapped": Used(
        _ENUMS,
        "SELECT id, g, m = 'a' AS is_a FROM app.t",
        ("ALTER TYPE app.mood RENAME VALUE 'a' TO 'z'", "ALTER TYPE app.mood RENAME VALUE 'b' TO 'a'"),
        _LABELS,
        view=False,
        world=_M,
    ),
    "label_renamed_and_its_name_added": Used(
        _ENUMS,
        "SELECT id, g, m::text AS m FROM app.t",
        ("ALTER TYPE app.mood RENAME VALUE 'a' TO 'z'", "ALTER TYPE app.mood ADD VALUE 'a' BEFORE 'z'"),
        _LABELS,
        world=_M,
    ),
    "label_added": Used(
        _ADDED,
        "SELECT g, max(m) AS high, min(m) AS low FROM app.t GROUP BY g",
        "ALTER TYPE app.mood ADD VALUE 'aa' BEFORE 'a'",
        outcome=NOTHING,
        world=_M,
    ),
    "type_renamed": Used(
        _NAMES,
        "SELECT id, g, m FROM app.t WHERE m <> 'c'::app.mood",
        "ALTER TYPE app.mood RENAME TO state",
        "app.mood: the type is called app.state now",
        now="SELECT id, g, m FROM app.t WHERE m <> 'c'::app.state",
        world=_M,
    ),
    "domain_renamed": Used(
        _NAMES,
        "SELECT id, g::app.dom AS g FROM app.t",
        "ALTER DOMAIN app.dom RENAME TO other",
        "the type is called app.other now",
        before="CREATE DOMAIN app.dom AS int;",
        now="SELECT id, g::app.other AS g FROM app.t",
    ),
    "collation_renamed": Used(
        _NAMES,
        "SELECT id, g, x COLLATE app.\"my own\" < 'Running foxes 3' AS x FROM app.t",
        'ALTER COLLATION app."my own" RENAME TO theirs',
        "app.my own: the collation is called app.theirs now",
        before='CREATE COLLATION app."my own" FROM "C";',
        now="SELECT id, g, x COLLATE app.theirs < 'Running foxes 3' AS x FROM app.t",
    ),
    "configuration_renamed": Used(
        _NAMES,
        _WORDS,
        'ALTER TEXT SEARCH CONFIGURATION app.cfg RENAME TO "my own"',
        "is called app.my own now",
        before=_CONFIG,
        now="SELECT id, to_tsvector('app.\"my own\"', x)::text AS v, g FROM app.t",
    ),
    "operator_moved": Used(
        _NAMES,
        "SELECT id, g OPERATOR(app.#&#) id AS s FROM app.t",
        "CREATE SCHEMA IF NOT EXISTS lib; ALTER OPERATOR app.#&# (int, int) SET SCHEMA lib",
        "app.#&#: the operator is called lib.#&# now",
        before="DROP SCHEMA IF EXISTS lib CASCADE;" + _OPERATOR,
        now="SELECT id, g OPERATOR(lib.#&#) id AS s FROM app.t",
    ),
    "cast_created": Used(
        _CASTS,
        "SELECT id, substr('abc', 1 + g, 1)::app.mood AS m FROM app.t",
        _TO_MOOD.format("mk", "text", "c") + "CREATE CAST (text AS app.mood) WITH FUNCTION app.mk(text)",
        "app.mood: casts from or to the type came or went",
        before=MOOD,
        view=False,
    ),
    "cast_replaced": Used(
        _CASTS,
        "SELECT id, g::app.mood AS m FROM app.t",
        "DROP CAST (int AS app.mood);"
        + _TO_MOOD.format("mk2", "int", "b")
        + "CREATE CAST (int AS app.mood) WITH FUNCTION app.mk2(int)",
        "app.mood: casts from or to the type came or went",
        before=MOOD + _TO_MOOD.format("mk", "int", "a") + "CREATE CAST (int AS app.mood) WITH FUNCTION app.mk(int);",
        view=False,
    ),
    "operator_replaced": Used(
        _CASTS,
        "SELECT id, g OPERATOR(app.#&#) id AS s FROM app.t",
        "DROP OPERATOR app.#&# (int, int);"
        "CREATE FUNCTION app.minus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2';"
        "CREATE OPERATOR app.#&# (LEFTARG = int, RIGHTARG = int, FUNCTION = app.minus)",
        "app.#&#: the operator does not exist any more",
        before=_OPERATOR,
        view=False,
    ),
    "overload_of_any_type": Used(
        _CASTS,
        "SELECT id, app.f(g) AS f FROM app.t",
        "CREATE FUNCTION app.f(int) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'int' || $1$$",
        "functions with this name and other arguments came or went",
        before="CREATE FUNCTION app.f(anyelement) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'any' || $1::text$$;",
        view=False,
    ),
    "overload": Used(
        "Create a function or operator whose arguments fit better: as in a view the old one is called",
        "SELECT id, app.f(g) AS f FROM app.t",
        "CREATE FUNCTION app.f(int) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'int' || $1$$",
        before="CREATE FUNCTION app.f(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'big' || $1$$;",
        now="SELECT id, app.f(g::bigint) AS f FROM app.t",
        outcome=NOTHING,
    ),
    "default_of_an_argument": Used(
        _CALLED,
        "SELECT id, app.f(id) AS f FROM app.t",
        "CREATE OR REPLACE FUNCTION app.f(int, b int DEFAULT 5) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * $2'",
        "other defaults",
        before="CREATE FUNCTION app.f(int, b int DEFAULT 3) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * $2';",
    ),
    "aggregate_replaced": Used(
        _CALLED,
        "SELECT g, app.agg(id) AS a FROM app.t GROUP BY g",
        "CREATE OR REPLACE AGGREGATE app.agg (int) (SFUNC = int4mul, STYPE = int, INITCOND = '1')",
        "app.agg(integer): the function has another body",
        before="CREATE AGGREGATE app.agg (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');",
    ),
    "function_of_an_aggregate": Used(
        _CALLED,
        "SELECT g, app.agg(id) AS a FROM app.t GROUP BY g",
        "CREATE OR REPLACE FUNCTION app.plus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 2 * $2'",
        "app.plus(integer,integer): the function has another body",
        before=_ADD + "CREATE AGGREGATE app.agg (int) (SFUNC = app.plus, STYPE = int, INITCOND = '0');",
    ),
    "called_by_an_atomic_body": Used(
        _CALLED,
        "SELECT id, app.h(id) AS h FROM app.t",
        "CREATE OR REPLACE FUNCTION app.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 3 * $1'",
        "app.f(integer): the function has another body",
        before=_DOUBLE + "CREATE FUNCTION app.h(int) RETURNS int LANGUAGE sql IMMUTABLE RETURN app.f($1);",
    ),
    "configuration": Used(_SEARCH, _WORDS, _SIMPLE.format("app.cfg"), "app.cfg: the text search", before=_CONFIG),
    "configuration_made_anew": Used(
        _SEARCH,
        _WORDS,
        "DROP TEXT SEARCH CONFIGURATION app.cfg; CREATE TEXT SEARCH CONFIGURATION app.cfg (COPY = pg_catalog.simple)",
        "app.cfg: the text search object does not exist any more",
        before=_CONFIG,
        view=False,
    ),
    "dictionary": Used(
        _SEARCH,
        _WORDS,
        "ALTER TEXT SEARCH DICTIONARY app.d (language = german)",
        "app.cfg: the text search",
        before=_DICTIONARY + _CONFIG + _SIMPLE.format("app.cfg").replace("simple", "app.d") + ";",
    ),
    "dictionary_by_name": Used(
        _SEARCH,
        "SELECT id, g, ts_lexize('app.d', 'running')::text AS l FROM app.t",
        "ALTER TEXT SEARCH DICTIONARY app.d (language = german)",
        "app.d: the text search",
        before=_DICTIONARY,
    ),
    "configuration_in_a_column": Used(
        _SEARCH,
        "SELECT id, g, to_tsvector(c, x)::text AS l FROM app.t",
        _SIMPLE.format("app.cfg"),
        "all configurations",
        world=World(_CONFIG, ", c regconfig", ", 'app.cfg'::regconfig"),
    ),
    "collation_version": Used(
        _COLLATIONS,
        "SELECT id, g, x COLLATE app.c < 'Running foxes 3' AS x FROM app.t",
        # As an upgrade of the operating system and ALTER COLLATION .. REFRESH VERSION leave it.
        "UPDATE pg_collation SET collversion = coalesce(collversion, '') || '.1' WHERE collname = 'c'",
        "app.c: the version of the collation was refreshed",
        before='CREATE COLLATION app.c FROM "C";',
    ),
    "body": Used(
        _PARTS,
        "SELECT id, app.f(id) AS f FROM app.t",
        "CREATE OR REPLACE FUNCTION app.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 3 * $1'",
        "app.f(integer): the function has another body",
        before=_DOUBLE,
    ),
    "constraint_of_a_domain": Used(
        _ADDED,
        "SELECT id, g::app.dom AS g FROM app.t",
        "ALTER DOMAIN app.dom ADD CHECK (VALUE <> 77)",
        outcome=NOTHING,
        before="CREATE DOMAIN app.dom AS int;",
    ),
}
