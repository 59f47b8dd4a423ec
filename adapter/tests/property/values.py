"""The column types that are tried, with values chosen to hurt."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.oracle import EQUAL, EXACT, FOLDED


@dataclass(frozen=True, slots=True)
class Type:
    """A type and its values.

    Attributes:
        name: as written in SQL.
        values: text images, the simplest first.
        coarse: ``=`` makes values equal that look different.
        equality: it has ``=`` (and can be grouped and joined).
        extremes: it has min and max.
        number: it can be added.
        approximate: aggregates over it depend on the order of the rows.
        setup: statement that creates it.
        caseless: ``=`` does not see upper and lower case.
    """

    name: str
    values: tuple[str, ...]
    coarse: bool = False
    equality: bool = True
    extremes: bool = True
    number: bool = False
    approximate: bool = False
    setup: str | None = None
    caseless: bool = False

    @property
    def representative(self) -> str:
        """How a value that stands for its equals is compared."""
        return FOLDED if self.caseless else EQUAL if self.coarse else EXACT


INT = Type("integer", ("1", "2", "3", "0", "-1"), number=True)
BIGINT = Type("bigint", ("1", "2", "5000000000", "-3"), number=True)
NUMERIC = Type("numeric", ("1", "1.0", "1.00", "2.5", "-0.10", "0", "NaN", "1e20"), coarse=True, number=True)
MONEY_LIKE = Type("numeric(8,2)", ("1.00", "2.50", "-3.25", "0"), number=True)
FLOAT = Type(
    "double precision",
    ("1", "0", "-0", "0.1", "2.5", "NaN", "-1e-7", "Infinity", "-Infinity"),
    coarse=True,
    number=True,
    approximate=True,
)
TEXT = Type("text", ("a", "b", "", "A", "o''k", "é%_x"))
BOOL = Type("boolean", ("t", "f"), extremes=False)
DATE = Type("date", ("2024-01-01", "2024-02-29", "1999-12-31", "infinity"))
STAMP = Type("timestamp with time zone", ("2024-01-01 00:00+00", "2024-06-01 12:30+02", "infinity"))
PLAIN_STAMP = Type("timestamp without time zone", ("2024-01-01 00:00", "2024-01-01 00:00:00.000001"))
INTERVAL = Type("interval", ("1 day", "24:00:00", "1 mon", "30 days", "0"), coarse=True)
UUID = Type("uuid", ("00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"), extremes=False)
JSONB = Type("jsonb", ('{"a": 1}', '{"a": 1.0}', "null", "[]", '"a"'), coarse=True, extremes=False)
JSON = Type("json", ('{"a": 1}', '{"a":1}', "null"), equality=False, extremes=False)
INTS = Type("integer[]", ("{1}", "{}", "{1,NULL}", "{2,1}"))
TEXTS = Type("text[]", ("{a}", "{}", "{NULL}", '{"a,b"}'))
BPCHAR = Type("character(3)", ("a", "ab", "abc", ""))
VARCHAR = Type("character varying(5)", ("a", "a ", "b"))
ENUM = Type("p.mood", ("ok", "sad", "happy"), setup="CREATE TYPE p.mood AS ENUM ('sad', 'ok', 'happy')")
BYTEA = Type("bytea", ("\\x01", "\\x", "\\xff00"), extremes=False)
INET = Type("inet", ("10.0.0.1", "10.0.0.0/8", "::1"))
TIME = Type("time without time zone", ("00:00", "23:59:59.5"))
BIT = Type("bit(3)", ("101", "000", "110"), extremes=False)
POINT = Type("point", ("(1,2)", "(0,0)"), equality=False, extremes=False)
RANGE = Type("int4range", ("[1,3)", "empty", "(,5)"), extremes=False)
SMALL = Type("smallint", ("1", "2", "-7"), number=True)
DOMAIN = Type(
    "p.positive", ("1", "2", "30"), number=True, setup="CREATE DOMAIN p.positive AS integer CHECK (VALUE > 0)"
)
PAIR = Type("p.pair", ("(1,a)", "(,)", "(1,)"), extremes=False, setup="CREATE TYPE p.pair AS (x integer, y text)")
REAL = Type("real", ("1", "-0", "0", "0.1", "NaN"), coarse=True)
NUMERICS = Type("numeric[]", ("{1.0}", "{1.00}", "{1.0,NULL}", "{}"), coarse=True)
MONEY = Type("money", ("1.00", "-2.50"))
TIMETZ = Type("time with time zone", ("12:00+00", "13:00+01", "00:00-05"))
MACADDR = Type("macaddr", ("08:00:2b:01:02:03", "00:00:00:00:00:00"), extremes=False)
VARBIT = Type("bit varying(5)", ("101", "", "00000"), extremes=False)
TSVECTOR = Type("tsvector", ("a b", "", "c:1A"), extremes=False)
CHAR = Type('"char"', ("a", "", "z"), extremes=False)
NAME = Type("name", ("pg", "Name", ""), extremes=False)
OID = Type("oid", ("1", "4294967295"))
BOX = Type("box", ("((0,0),(1,1))", "((0,0),(2,0.5))"), equality=False, extremes=False)
MULTIRANGE = Type("int4multirange", ("{}", "{[1,3),[5,7)}"), extremes=False)
MOODS = Type("p.mood[]", ("{ok}", "{sad,NULL}"), setup="CREATE TYPE p.mood AS ENUM ('sad', 'ok', 'happy')")
CITEXT = Type(
    "p.citext", ("a", "A", "b", ""), coarse=True, caseless=True, setup="CREATE EXTENSION citext WITH SCHEMA p"
)
SORTED_TEXT = Type(
    "text COLLATE p.sorted",
    ("a", "B", "A", "Ä", ""),
    setup='CREATE COLLATION p.sorted FROM "C"',
)
NUMRANGE = Type("numrange", ("[1,2)", "[1.0,2.00)", "empty", "[2,3.0)"), coarse=True, extremes=False)
TSQUERY = Type("tsquery", ("a", "a & !b", "a:* | c", ""), extremes=False)
DEAL = Type(
    "p.deal",
    ("(1,{a},empty)", "(1.00,{a},empty)", "(,,)", '(2.5,"{b,NULL}","[1,3)")'),
    coarse=True,
    extremes=False,
    setup="CREATE TYPE p.deal AS (price numeric, tags text[], span int4range)",
)
DATERANGE = Type("daterange", ("[2024-01-01,2024-02-01)", "empty", "(,)"), extremes=False)

COMMON = (INT, TEXT, NUMERIC, FLOAT, BIGINT, DATE, BOOL, MONEY_LIKE)
RARE = (
    STAMP,
    INTERVAL,
    UUID,
    JSONB,
    JSON,
    INTS,
    TEXTS,
    BPCHAR,
    VARCHAR,
    ENUM,
    BYTEA,
    INET,
    TIME,
    BIT,
    POINT,
    RANGE,
    SMALL,
    DOMAIN,
    PAIR,
    PLAIN_STAMP,
    REAL,
    NUMERICS,
    MONEY,
    TIMETZ,
    MACADDR,
    VARBIT,
    TSVECTOR,
    CHAR,
    NAME,
    OID,
    BOX,
    MULTIRANGE,
    MOODS,
    CITEXT,
    SORTED_TEXT,
    DATERANGE,
    NUMRANGE,
    TSQUERY,
    DEAL,
)
#: Types that are made of others, and have functions and operators of their own.
STRUCTURED = (JSONB, PAIR, DEAL, RANGE, MULTIRANGE, NUMRANGE, TSVECTOR, INTS, TEXTS)


def literal(kind: Type, value: str | None) -> str:
    """A typed literal; values are stored with quotes already doubled."""
    text = f"NULL::{kind.name}" if value is None else f"'{value}'::{kind.name}"
    return f"({text})" if " COLLATE " in text else text  # BETWEEN takes no bare COLLATE
