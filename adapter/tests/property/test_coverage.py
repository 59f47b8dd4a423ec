"""The generator draws every construct that the support matrix promises: no promise is left to hand-picked cases."""

from __future__ import annotations

import re
from functools import cache

import pytest

from pgtrickle.delta.support import SUPPORT
from tests.property.case import Case
from tests.property.cases import draw_case
from tests.property.choices import Seeded

SEEDS = 1600
AGGREGATE = r"\b(?:count|sum|avg|min|max|stddev\w*|var\w*|array_agg|string_agg|bool_\w+|every)\((?:DISTINCT )?"
#: XMLTABLE is not among them: the newest server that the tests run on is built without XML.
#: Words of the matrix -> what a query that has the construct looks like. A row is covered if all its words are.
WORDS: dict[str, str] = {
    "virtual generated columns (PostgreSQL 18)": r"GENERATED ALWAYS AS \(.*\) VIRTUAL",
    "expressions": r"\+ 1\)|upper\(|coalesce\(",
    "casts": r"\)::text",
    "CASE": r"CASE WHEN",
    "WHERE": r" WHERE ",
    "inner": r"[^LTE] JOIN \S+ AS \w+ ON",
    "cross": r"CROSS JOIN \S+ AS",
    "comma": r"FROM \S+ AS \w+, \S+ AS",
    "self": r"(p\.t\d) AS \w+ (?:LEFT |FULL |RIGHT )?JOIN \1 AS",
    "non-equi": r" ON \(\w+\.\S+ (?:<|>=|<>) ",
    "USING": r" USING \(",
    "NATURAL": r"NATURAL JOIN",
    "LEFT": r"LEFT JOIN \S+ AS \w+ ON",
    "RIGHT": r"RIGHT JOIN",
    "FULL": r"FULL JOIN",
    "subqueries in FROM": r"(?:FROM|JOIN) \(+SELECT",
    "views": r"p\.v1",
    "nested views": r"p\.v2",
    "WITH": r"^WITH w\d",
    "VALUES": r"\(VALUES ",
    "UNION ALL": r"UNION ALL",
    "UNION": r"\) UNION \(",
    "INTERSECT": r"INTERSECT \(",
    "EXCEPT": r"EXCEPT \(",
    "INTERSECT ALL": r"INTERSECT ALL",
    "EXCEPT ALL": r"EXCEPT ALL",
    "DISTINCT": r"SELECT DISTINCT (?!ON)",
    "GROUP BY": r"GROUP BY",
    "HAVING": r"HAVING",
    "count": r"count\(",
    "bool_and": r"bool_and\(",
    "bool_or": r"bool_or\(",
    "every": r"every\(",
    "sum": r"\bsum\(",
    "avg": r"\bavg\(",
    "variance": r"var\w*\(",
    "stddev": r"stddev",
    "covar_pop": r"covar_pop\(",
    "covar_samp": r"covar_samp\(",
    "regr_count": r"regr_count\(",
    "regr_avg": r"regr_avg[xy]\(",
    "regr_sxx": r"regr_sxx\(",
    "regr_sxy": r"regr_sxy\(",
    "regr_syy": r"regr_syy\(",
    "corr": r"\bcorr\(",
    "regr_r2": r"regr_r2\(",
    "regr_slope": r"regr_slope\(",
    "regr_intercept": r"regr_intercept\(",
    "interval": r"interval",
    "money": r"money",
    "floats": r"double precision",
    "numeric": r"numeric",
    "min": r"\bmin\(",
    "max": r"\bmax\(",
    "array_agg": r"array_agg\(",
    "string_agg": r"string_agg\(",
    "json_agg": r"json_agg\(",
    "user-defined ones": r"p\.total\(",
    "DISTINCT in an aggregate": AGGREGATE[: AGGREGATE.index("(?:DISTINCT")] + "DISTINCT ",
    "ORDER BY in an aggregate": r"_agg\([^()]*\(?[^()]*\)?[^()]* ORDER BY",
    "WITHIN GROUP": r"percentile_disc\(0\.5\) WITHIN GROUP|percentile_cont",
    "hypothetical": r"rank\(\d.*\) WITHIN GROUP",
    "FILTER": r"FILTER \(WHERE",
    "aggregates without GROUP BY": r"^SELECT count\(\*\) AS x1 FROM (?!.*GROUP BY)",
    "ORDER BY without LIMIT": r" ORDER BY 1$",
    "EXISTS": r"(?<!NOT )EXISTS \(SELECT",
    "NOT EXISTS": r"NOT EXISTS \(SELECT",
    "IN": r" IN \(SELECT",
    "NOT IN": r" NOT IN \(SELECT",
    "= ANY": r" = ANY \(SELECT",
    "op ALL": r" (?:<|<=|>|>=|<>|=) ALL \(SELECT",
    "op ANY": r" (?:<|<=|>|>=|<>) ANY \(SELECT",
    "scalar subqueries": r"= \(SELECT max|, \(SELECT ",
    "ARRAY(": r"ARRAY\(SELECT",
    "OR": r" OR \w+\.\w+ IN \(SELECT|\(\(\w+\.\w+ IN \(SELECT .* OR ",
    "NOT": r"NOT \(\w+\.\S+ (?:IN|= ANY|NOT IN) \(SELECT|NOT \(EXISTS",
    "functions in FROM": r"generate_series\(.*\) AS \w+\(n\)",
    "WITH ORDINALITY": r"WITH ORDINALITY",
    "ROWS FROM": r"ROWS FROM",
    "JSON_TABLE": r"JSON_TABLE",
    "set-returning functions in the select list": r", generate_series\([^()]*\([^()]*\)\) AS x\d",
    "LATERAL": r"CROSS JOIN LATERAL \(SELECT",
    "whole rows of tables": r"(?:row_to|to)_json\(a\d+\)::text AS \w+ FROM p\.t|count\(a\d+\)",
    "common table expressions": r"to_jsonb?\(w\d+\)",
    "subqueries and": r"json\w*\(a\d+\)?.* FROM \(SELECT",
    "whole rows of functions": r"to_json\(a\d+\)::text AS \w+ FROM .* WITH ORDINALITY",
    "whole rows of LATERAL": r"to_json\(a\d+\)::text AS \w+ FROM .* LEFT JOIN LATERAL",
    "LEFT JOIN LATERAL": r"LEFT JOIN LATERAL \(SELECT",
    "window functions with PARTITION BY": r"OVER \(PARTITION BY",
    "window functions without PARTITION BY": r"OVER \( ?(?:ORDER BY)?",
    "offset of a window frame": r" ROWS \(SELECT count",
    "DISTINCT ON": r"DISTINCT ON",
    "LIMIT": r" LIMIT \d",
    "OFFSET": r" OFFSET \d",
    "OFFSET 0": r" OFFSET 0\)",
    "LIMIT of an ordered subquery": r"\) AS ordered LIMIT \d",
    "LIMIT and OFFSET of a subquery": r" LIMIT \(SELECT",
    "WITH TIES": r"WITH TIES",
    "GROUPING SETS": r"GROUPING SETS",
    "CUBE": r"CUBE",
    "ROLLUP": r"ROLLUP",
    "GROUPING()": r"GROUPING\(",
    "FROM ONLY": r"FROM ONLY p\.",
    "tables that inherit": r" p\.t\d_heir AS",
    "tableoid": r"\.tableoid",
    "joins with an alias": r" JOIN .*\) AS w\d+\(x0",
    "WITH RECURSIVE": r"WITH RECURSIVE",
    "SEARCH": r"SEARCH DEPTH",
    "CYCLE": r"CYCLE x1",
}
#: Constructs that the matrix only implies, and that were wrong somewhere once.
ALSO = {
    "conditions that read no column": r" ON (?:false|NULL|\(1 = 0\))",
    "outer joins above outer joins": r" (?:LEFT|FULL|RIGHT) JOIN \S+ AS \w+ ON [^()]*\) (?:LEFT|FULL|RIGHT) JOIN",
    "NOT IN with several columns": r"\(\w+\.\S+, \w+\.\S+\) NOT IN \(SELECT",
    "subqueries in ON": r" ON [^()]* AND .*(?:IN|EXISTS|ANY|ALL) \(SELECT",
    "subqueries in ON of a full join": r"FULL JOIN \S+ AS a\d+ ON .* AND .*(?:IN|EXISTS|ANY|ALL) \(SELECT",
    "subqueries in HAVING": r"HAVING .*\(SELECT",
    "subqueries as arguments": r"coalesce\(\S+ .*IN \(SELECT",
    "RANGE frames": r"RANGE BETWEEN 1 PRECEDING",
    "GROUPS frames": r"GROUPS BETWEEN",
    "EXCLUDE": r"EXCLUDE (?:GROUP|TIES)",
    "named windows": r"WINDOW w AS",
    "LIMIT below a join or grouping": r" LIMIT \d+\) AS",
    "sets in the select list of EXISTS": r"EXISTS \(SELECT generate_series",
    "citext": r"p\.citext",
    "custom collations": r"COLLATE p\.sorted",
    "domains": r"p\.positive",
    "enums": r"p\.mood",
    "composites": r"p\.pair",
    "composites in which equal values look different": r"p\.deal",
    "fields of composites": r"\)\.(?:x|price)\b",
    "multiranges": r"int4multirange|multirange\(",
    "text search": r"to_tsvector\(.* @@ |ts_rank\(",
    "SQL/JSON functions": r"JSON_QUERY\(",
    "SQL/JSON constructors": r"JSON_ARRAYAGG\(",
    "rows that an outer join fills": r"(?:LEFT|FULL|RIGHT) JOIN .* WHERE \(a\d+ IS NULL\)",
    "rows compared": r" ON a\d+ = a\d+|\(a\d+ = a\d+\)",
    "grouping by rows": r"GROUP BY a\d+$",
    "rows collected": r"json_agg\(a\d+ ORDER BY",
    "rows in windows": r"lag\(a\d+\) OVER",
    "subqueries that return a row": r"\(SELECT a\d+ FROM",
    "columns of a row type": r"^SELECT a\d+ AS x1",
    "rows by their place": r"GROUP BY a\d+\.tableoid",
    "common table expressions that nothing reads": r"unused AS \(SELECT random\(\)",
    "GROUPING in a subquery": r"\(SELECT GROUPING\(",
    "constants as keys of grouping sets": r"GROUPING SETS \(\(9::integer\)",
    "names of 63 bytes": r"a_name_of_as_many_bytes",
    "ranges": r"int4range|daterange",
    "more than 64 columns": r"f65 integer",
    "dropped columns": r"DROP COLUMN",
    "odd names": r'"(?:Mixed Case|select|%s|a""b)"',
    "partitioned tables": r"PARTITION BY LIST",
    "stored generated columns": r"GENERATED ALWAYS AS \(.*\) STORED",
    "generated columns with another expression": r"SET EXPRESSION AS",
    "TRUNCATE": r"^TRUNCATE",
    "transactions taken back": r"^ROLLBACK$",
    "transactions taken back in part": r"ROLLBACK TO SAVEPOINT",
    "updates that change nothing": r"UPDATE p\.t\d SET (\S+) = \1$",
    "keys that change places": r"CASE k WHEN 1",
    "rows that come again": r"CREATE TEMP TABLE kept",
    "everything deleted": r"^DELETE FROM p\.t\d$",
}


@cache
def drawn() -> str:
    """The text of many cases, one statement per line."""
    return "\n".join(line for seed in range(SEEDS) for line in lines_of(draw_case(Seeded(seed), extras=60)))


def lines_of(case: Case) -> list[str]:
    changes = [statement for window in case.windows for change in window.changes for statement in change]
    return [*case.schema, *(each.query for each in case.stream_tables), *changes]


def words_of(construct: str) -> list[str]:
    """The words of `WORDS` in a row, the longest first: what a longer one covers is not looked for again."""
    found = []
    for word in sorted(WORDS, key=len, reverse=True):
        pattern = rf"(?<![\w-]){re.escape(word)}(?![\w-])" if word[-1].isalnum() else re.escape(word)
        if re.search(pattern, construct):
            found.append(word)
            construct = re.sub(pattern, " ", construct)
    return found


@pytest.mark.parametrize("construct", [row.construct for row in SUPPORT if row.differential])
def test_every_promise_of_the_matrix_is_drawn(construct: str) -> None:
    words = words_of(construct)
    assert words, "the generator, or this test, does not know the construct: teach both"
    missing = [word for word in words if not re.search(WORDS[word], drawn(), re.MULTILINE)]
    assert not missing


@pytest.mark.parametrize("name", ALSO)
def test_what_was_wrong_once_is_drawn(name: str) -> None:
    assert re.search(ALSO[name], drawn(), re.MULTILINE)
