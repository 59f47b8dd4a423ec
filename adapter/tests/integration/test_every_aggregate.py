"""Every aggregate of PostgreSQL, over every kind of argument it takes, follows a random history differentially."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle

#: The versions in between run it with --run-slow.
pytestmark = pytest.mark.edges_only

COLUMNS = {
    "k": ("integer", ["NULL", "1", "2", "3"]),
    "s": ("smallint", ["NULL", "1", "2", "5"]),
    "i": ("integer", ["NULL", "1", "3", "6", "-1"]),
    "b": ("bigint", ["NULL", "4", "5000000000"]),
    "n": ("numeric", ["NULL", "1.0", "1.00", "2.5", "0.333", "'NaN'"]),
    "v": ("numeric(8,2)", ["NULL", "1.00", "2.50", "-3.25"]),
    "f": ("double precision", ["NULL", "0.25", "3", "7.5", "1e10", "'NaN'", "'Infinity'"]),
    "g": ("double precision", ["NULL", "0.25", "3", "7.5", "0.1"]),
    "r": ("real", ["NULL", "0.25", "0.5", "7"]),
    "t": ("text", ["NULL", "'a'", "'b'", "'A'", "''"]),
    "c": ("character(3)", ["NULL", "'a'", "'ab'"]),
    "q": ("boolean", ["NULL", "true", "false"]),
    "d": ("date", ["NULL", "'2024-01-05'", "'2024-02-01'", "'infinity'"]),
    "ts": ("timestamp", ["NULL", "'2024-01-05 12:00'", "'-infinity'"]),
    "tz": ("timestamptz", ["NULL", "'2024-01-05 12:00+01'", "'2024-01-05 11:00+00'"]),
    "h": ("time", ["NULL", "'12:00'", "'23:59:59.5'"]),
    "hz": ("timetz", ["NULL", "'12:00+00'", "'13:00+01'"]),
    "p": ("interval", ["NULL", "'1 day'", "'24:00'", "'1 mon -3 days 04:05:06.7'"]),
    "m": ("money", ["NULL", "1.00", "-2.50"]),
    "o": ("oid", ["NULL", "1", "4294967295"]),
    "e": ("mood", ["NULL", "'sad'", "'ok'", "'happy'"]),
    "a": ("integer[]", ["NULL", "'{1}'", "'{}'", "'{2,1}'", "'{1,NULL}'"]),
    "x": ("bit(3)", ["NULL", "B'101'", "B'000'", "B'110'"]),
    "w": ("inet", ["NULL", "'10.0.0.1'", "'10.0.0.0/8'", "'::1'"]),
    "l": ("pg_lsn", ["NULL", "'0/1'", "'16/B374D848'"]),
    "y": ("bytea", ["NULL", "'\\x01'", "'\\x'"]),
    "j": ("jsonb", ["NULL", "'{\"a\": 1}'", "'2'"]),
    "u": ("int4range", ["NULL", "'[1,3)'", "'[2,9)'", "'empty'"]),
}
NUMBERS = ("s", "i", "b", "n", "v", "g", "r")
SORTED = ("s", "i", "b", "n", "v", "f", "r", "t", "c", "d", "ts", "tz", "h", "hz", "p", "m", "o", "e", "a", "w", "l")
PAIRS = ("g, i", "i, s", "r, g")


def over(name: str, *columns: str) -> tuple[str, ...]:
    """Calls of an aggregate with each of these arguments."""
    return tuple(f"{name}({column})" for column in columns)


#: Aggregate -> from which version on, and calls of it.
CALLS: dict[str, tuple[int, tuple[str, ...]]] = {
    "any_value": (16, over("any_value", "i", "t", "q", "f", "d")),
    "array_agg": (14, over("array_agg", "i", "f", "t ORDER BY i, t DESC")),
    "avg": (14, over("avg", *NUMBERS, "f", "p")),
    "bit_and": (14, over("bit_and", "s", "i", "b", "x")),
    "bit_or": (14, over("bit_or", "s", "i", "b", "x")),
    "bit_xor": (14, over("bit_xor", "s", "i", "b", "x")),
    "bool_and": (14, over("bool_and", "q")),
    "bool_or": (14, over("bool_or", "q")),
    "count": (14, (*over("count", "*", *COLUMNS, "DISTINCT i", "DISTINCT t"), "count(*) FILTER (WHERE q)")),
    "covar_pop": (14, over("covar_pop", *PAIRS, "f, g")),
    "covar_samp": (14, over("covar_samp", *PAIRS, "g, f")),
    "every": (14, over("every", "q")),
    "json_agg": (14, over("json_agg", "i", "t", "j")),
    "json_agg_strict": (16, over("json_agg_strict", "i", "t")),
    "json_object_agg": (14, over("json_object_agg", "id, t")),
    "json_object_agg_strict": (16, over("json_object_agg_strict", "id, t")),
    "json_object_agg_unique": (16, over("json_object_agg_unique", "id, t")),
    "json_object_agg_unique_strict": (16, over("json_object_agg_unique_strict", "id, t")),
    "jsonb_agg": (14, over("jsonb_agg", "i", "t", "j")),
    "jsonb_agg_strict": (16, over("jsonb_agg_strict", "i", "t")),
    "jsonb_object_agg": (14, over("jsonb_object_agg", "id, t", "id % 2, i")),
    "jsonb_object_agg_strict": (16, over("jsonb_object_agg_strict", "id, t")),
    "jsonb_object_agg_unique": (16, over("jsonb_object_agg_unique", "id, t")),
    "jsonb_object_agg_unique_strict": (16, over("jsonb_object_agg_unique_strict", "id, t")),
    "JSON_ARRAYAGG": (
        16,
        ("JSON_ARRAYAGG(i ORDER BY id)", "JSON_ARRAYAGG(t ORDER BY id NULL ON NULL RETURNING jsonb)"),
    ),
    "JSON_OBJECTAGG": (
        16,
        ("JSON_OBJECTAGG(id::text: t)", "JSON_OBJECTAGG(id::text: t ABSENT ON NULL RETURNING jsonb)"),
    ),
    "max": (14, over("max", *SORTED)),
    "min": (14, over("min", *SORTED)),
    "mode": (14, tuple(f"mode() WITHIN GROUP (ORDER BY {column})" for column in ("i", "t", "d"))),
    "percentile_cont": (
        14,
        tuple(
            f"percentile_cont({at}) WITHIN GROUP (ORDER BY {column})"
            for at in ("0.5", "ARRAY[0, 0.3]")
            for column in "gp"
        ),
    ),
    "percentile_disc": (
        14,
        tuple(
            f"percentile_disc({at}) WITHIN GROUP (ORDER BY {column})"
            for at in ("0.5", "ARRAY[0, 0.3]")
            for column in "it"
        ),
    ),
    "cume_dist": (14, ("cume_dist(2) WITHIN GROUP (ORDER BY i)",)),
    "dense_rank": (14, ("dense_rank(2, 'a') WITHIN GROUP (ORDER BY i, t)",)),
    "percent_rank": (14, ("percent_rank(2) WITHIN GROUP (ORDER BY i DESC)",)),
    "rank": (14, ("rank(2) WITHIN GROUP (ORDER BY i)",)),
    "range_agg": (14, over("range_agg", "u")),
    "range_intersect_agg": (14, over("range_intersect_agg", "u")),
    "regr_avgx": (14, over("regr_avgx", *PAIRS, "g, f")),
    "regr_avgy": (14, over("regr_avgy", *PAIRS, "f, g")),
    "regr_count": (14, over("regr_count", *PAIRS, "f, f")),
    "regr_sxx": (14, over("regr_sxx", *PAIRS, "g, f")),
    "regr_sxy": (14, over("regr_sxy", *PAIRS, "g, f")),
    "regr_syy": (14, over("regr_syy", *PAIRS, "f, g")),
    "corr": (14, over("corr", *PAIRS, "f, g")),
    "regr_intercept": (14, over("regr_intercept", *PAIRS, "g, f")),
    "regr_r2": (14, over("regr_r2", *PAIRS, "f, i")),
    "regr_slope": (14, over("regr_slope", *PAIRS, "g, f")),
    "stddev": (14, over("stddev", *NUMBERS, "f")),
    "stddev_pop": (14, over("stddev_pop", *NUMBERS)),
    "stddev_samp": (14, over("stddev_samp", *NUMBERS)),
    "string_agg": (14, over("string_agg", "t, ','", "y, '\\x00'", "DISTINCT t, ',' ORDER BY t")),
    "sum": (14, over("sum", *NUMBERS, "f", "m", "p", "DISTINCT i", "1")),
    "var_pop": (14, over("var_pop", *NUMBERS)),
    "var_samp": (14, over("var_samp", *NUMBERS)),
    "variance": (14, over("variance", *NUMBERS, "f")),
    "xmlagg": (14, ("xmlagg(('<a>' || id || '</a>')::xml)",)),
}
#: Several aggregates share a stream table: those with state, and the others.
TABLES: dict[str, tuple[str, ...]] = {
    "sums": ("sum", "avg", "count"),
    "spreads": ("stddev", "stddev_pop", "stddev_samp", "var_pop", "var_samp", "variance"),
    "extremes": ("min", "max", "bit_and", "bit_or", "bool_and", "bool_or", "every"),
    "any": ("any_value",),
    "pairs": (
        "covar_pop", "covar_samp", "regr_avgx", "regr_avgy", "regr_count", "regr_sxx", "regr_sxy", "regr_syy",
    ),
    "slopes": ("corr", "regr_intercept", "regr_r2", "regr_slope"),
    "arrays": ("array_agg", "string_agg", "bit_xor", "range_agg", "range_intersect_agg"),
    "xml": ("xmlagg",),
    "json": tuple(name for name in CALLS if name.startswith(("json", "JSON"))),
    "ordered": ("mode", "percentile_cont", "percentile_disc", "cume_dist", "dense_rank", "percent_rank", "rank"),
}  # fmt: skip
KEPT = ("sums", "spreads", "extremes", "any", "pairs", "slopes")
WINDOWS = 5


def test_no_aggregate_is_left_out(conn: psycopg.Connection[Any]) -> None:
    rows = conn.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE prokind = 'a' AND pronamespace = 'pg_catalog'::regnamespace"
    ).fetchall()
    assert {name for (name,) in rows} <= CALLS.keys()
    assert sorted(name for names in TABLES.values() for name in names) == sorted(CALLS)


class History:
    """Random changes of the table; the same seed gives the same ones."""

    def __init__(self, conn: psycopg.Connection[Any], seed: int) -> None:
        self._conn = conn
        self._random = random.Random(seed)

    def insert(self, rows: int) -> None:
        """New rows of random values."""
        for _ in range(rows):
            values = [self._random.choice(values) for _, values in COLUMNS.values()]
            self._conn.execute(f"INSERT INTO facts ({', '.join(COLUMNS)}) VALUES ({', '.join(values)})")

    def window(self) -> None:
        """A few statements of every kind."""
        choose = self._random.choice
        self.insert(self._random.randint(0, 3))
        for column in self._random.sample(sorted(COLUMNS), 6):
            value = choose(COLUMNS[column][1])
            self._conn.execute(f"UPDATE facts SET {column} = {value} WHERE id % 3 = {choose('012')}")
        self._conn.execute(f"DELETE FROM facts WHERE id % 5 = {choose('01234')}")
        self._conn.execute(
            f"INSERT INTO facts ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM facts ORDER BY id DESC LIMIT 2"
        )


@pytest.mark.parametrize("topic", TABLES)
def test_it_follows_its_sources(topic: str, conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    major = conn.info.server_version // 10000
    calls = [call for name in TABLES[topic] for since, calls in [CALLS[name]] if since <= major for call in calls]
    if not calls:
        pytest.skip(f"PostgreSQL {major} has none of them")
    if topic == "xml" and not _reads_xml(conn):
        pytest.skip("this server is built without XML")
    conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    conn.execute(f"CREATE TABLE facts (id serial PRIMARY KEY, {columns})")
    history = History(conn, 7)
    history.insert(14)
    shown = ", ".join(f"{call} AS a{number}" for number, call in enumerate(calls))
    queries = {
        "by_key": f"SELECT k, {shown} FROM facts GROUP BY k",
        "over_all": f"SELECT {shown} FROM facts",
    }
    for name, query in queries.items():
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
        if topic in KEPT:
            assert {stage.strategy for stage in engine.explain(name).stages} == {"delta with state"}
    for window in range(WINDOWS):
        history.window()
        if window == WINDOWS - 2:
            conn.execute("DELETE FROM facts")
        for name in queries:
            assert engine.refresh_stream_table(name).action in ("DIFFERENTIAL", "NO_DATA")
            proof = engine.verify(name)
            assert proof.proven, (window, name, proof)


def _reads_xml(conn: psycopg.Connection[Any]) -> bool:
    try:
        conn.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True
