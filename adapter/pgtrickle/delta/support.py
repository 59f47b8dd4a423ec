"""What can be maintained differentially, construct by construct; docs/reference/sql-support.md is made from it."""

from __future__ import annotations

from typing import NamedTuple


class Support(NamedTuple):
    """One row of the matrix: a construct, whether DIFFERENTIAL takes it, how, and what to know."""

    construct: str
    differential: bool
    how: str
    note: str = ""


_DELTA = "delta"
_STATE = "delta with state"
_KEYS = "recompute affected keys"
_ALL = "recompute and compare"
_RECURSION = "delta by recursion"
_REFUSED = "AUTO: FULL; DIFFERENTIAL: refused"

SUPPORT: tuple[Support, ...] = (
    Support("expressions, casts, CASE, functions that are immutable or depend on session settings only", True, _DELTA),
    Support("WHERE", True, _DELTA),
    Support("inner, cross, comma, self and non-equi joins", True, _DELTA, "any number of tables"),
    Support("JOIN ... USING, NATURAL JOIN", True, _DELTA),
    Support(
        "LEFT, RIGHT and FULL JOIN", True, _DELTA, "stateless; conditions other than equalities look up row by row"
    ),
    Support("subqueries in FROM", True, "that of the subquery"),
    Support("views, nested views", True, "that of the view's query"),
    Support("WITH, used once or more often", True, "that of its query", "a shared grouping is kept once"),
    Support("VALUES", True, _DELTA),
    Support("UNION ALL", True, _DELTA),
    Support("UNION, INTERSECT, EXCEPT", True, _STATE, "columns of which equal values look different: by key"),
    Support("DISTINCT", True, _STATE, "columns of which equal values look different: by key"),
    Support("GROUP BY, HAVING", True, _STATE, "by key if an aggregate is computed again per group"),
    Support("count, bool_and, bool_or, every", True, _STATE),
    Support("sum, avg, variance, stddev of integers and numeric", True, _STATE),
    Support(
        "sum, avg, variance, stddev of floats", True, _STATE, "equal up to rounding; totals kept as exact decimals"
    ),
    Support("covar_pop, covar_samp, regr_count, regr_avg*, regr_sxx, regr_sxy, regr_syy", True, _STATE),
    Support(
        "corr, regr_r2, regr_slope, regr_intercept", True, _STATE, "groups of nearly equal values are looked at again"
    ),
    Support("sum and avg of interval, sum of money", True, _STATE),
    Support(
        "min, max, any_value, bit_and, bit_or",
        True,
        _STATE,
        "a group is looked at again if the row that decided it left",
    ),
    Support(
        "array_agg, string_agg, json_agg ...", True, _KEYS, "ordered by their arguments where the query leaves it free"
    ),
    Support("all other aggregates, user-defined ones included", True, _KEYS),
    Support(
        "DISTINCT in count, sum, avg, variance, stddev",
        True,
        _STATE,
        "types of which equal values look different: by key",
    ),
    Support("DISTINCT, ORDER BY, WITHIN GROUP in other aggregates", True, _KEYS),
    Support("FILTER", True, "that of the aggregate"),
    Support("aggregates without GROUP BY", True, _STATE, "if one of them cannot be added up: the one group by key"),
    Support("ORDER BY without LIMIT", True, "ignored, with a notice"),
    Support(
        "EXISTS, NOT EXISTS, IN, NOT IN as conditions of WHERE or an inner join", True, _DELTA, "semi and anti joins"
    ),
    Support(
        "EXISTS, IN, op ANY, op ALL, scalar subqueries anywhere else (SELECT, HAVING, OR, NOT, CASE, arguments)",
        True,
        _STATE,
        "asked once for all distinct outer values; a look-up by key is an outer join",
    ),
    Support("ARRAY(...)", True, _KEYS, "per distinct outer values, as array_agg"),
    Support(
        "correlated subqueries with set operations, windows, outer columns inside FROM or WITH, or outer columns of"
        " which equal values look different",
        True,
        _KEYS,
        "per distinct outer values; all of them if tables inside change",
    ),
    Support("subqueries in ON of outer joins, in window functions, in GROUP BY and in VALUES", True, _KEYS),
    Support(
        "a subquery in ON of a FULL JOIN that reads columns of both sides",
        True,
        _KEYS,
        "a left join, and the right rows without a partner",
    ),
    Support(
        "functions in FROM, WITH ORDINALITY, ROWS FROM, JSON_TABLE, XMLTABLE", True, _DELTA, "LEFT JOIN LATERAL too"
    ),
    Support("set-returning functions in the select list, in GROUP BY and in ORDER BY", True, _DELTA),
    Support("LATERAL subqueries, inner and LEFT JOIN", True, _DELTA, "asked once for all outer values"),
    Support("window functions with PARTITION BY", True, _KEYS, "several partitionings: one stage each"),
    Support("window functions without PARTITION BY", True, _KEYS, "all rows are one partition, computed again"),
    Support("a subquery as the offset of a window frame", True, _ALL, "the query around it is computed as a whole"),
    Support("DISTINCT ON", True, _KEYS, "ties are broken by the output columns"),
    Support(
        "ORDER BY ... LIMIT, OFFSET, FETCH FIRST",
        True,
        _STATE,
        "the input is read again when a kept row leaves; ties are broken by the output columns",
    ),
    Support("FETCH FIRST ... WITH TIES, OFFSET without LIMIT", True, _KEYS, "all rows are one partition"),
    Support("LIMIT and OFFSET of a subquery", True, _KEYS, "all rows are one partition"),
    Support(
        "LIMIT of an ordered subquery",
        True,
        _STATE,
        "in FROM or WITH: its order counts, as PostgreSQL keeps it; for array_agg, row_number() ... too",
    ),
    Support("OFFSET 0, LIMIT ALL, LIMIT 0, LIMIT of one row, of constants, of what reads no table", True, _DELTA),
    Support("LIMIT without ORDER BY", False, _REFUSED, "which rows are returned is left to chance"),
    Support("GROUPING SETS, CUBE, ROLLUP, GROUPING()", True, _STATE, "one grouping per set"),
    Support("INTERSECT ALL, EXCEPT ALL", True, _STATE),
    Support("WITH RECURSIVE", True, _RECURSION, "a window function or LIMIT over the recursion itself: as a whole"),
    Support("WITH RECURSIVE ... UNION of types of which equal values look different", True, _ALL),
    Support(
        "WITH RECURSIVE ... SEARCH, CYCLE", True, _RECURSION, "if the path or sort column itself is read: as a whole"
    ),
    Support(
        "now(), CURRENT_DATE, CURRENT_USER, stable user-defined functions", False, _REFUSED, "recomputed on schedule"
    ),
    Support(
        "names of objects: regclass::text, text::regclass, pg_get_userbyid(), has_table_privilege() ...",
        False,
        _REFUSED,
        "a regclass as a column, and tableoid::regclass::text, are differential",
    ),
    Support("random(), nextval() and other volatile functions", False, _REFUSED, "recomputed on schedule"),
    Support("TABLESAMPLE", False, _REFUSED),
    Support(
        "FROM ONLY, tables that inherit from others",
        True,
        _DELTA,
        "updated and deleted rows are captured one by one, in all tables of the hierarchy that are read",
    ),
    Support("tableoid", True, _DELTA, "of partitioned tables and inheritance parents rows are captured one by one"),
    Support("materialized views, foreign tables, system catalogs, temporary tables", False, _REFUSED, "not watched"),
    Support("whole rows of tables, subqueries and common table expressions (count(t), row_to_json(t))", True, _DELTA),
    Support(
        "whole rows of functions, whole rows of LATERAL subqueries, of joins with an alias",
        True,
        _DELTA,
        "FULL where two columns of the row have one name and one of them is read alone, too",
    ),
    Support("the system columns ctid, xmin, xmax, cmin, cmax", False, _REFUSED),
    Support(
        "virtual generated columns (PostgreSQL 18)",
        True,
        _DELTA,
        "read as their expressions; computed from tableoid, or an array of strings of limited length: FULL",
    ),
    Support("FOR UPDATE, FOR SHARE, data-modifying WITH", False, "refused by PostgreSQL or FULL"),
)
