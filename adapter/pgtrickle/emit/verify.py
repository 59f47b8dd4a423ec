"""Compare a stream table with its defining query, as multisets, column by column as strictly as its class allows."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Composed

from pgtrickle.emit.fragments import Name, commas, image, names, table, verbatim
from pgtrickle.ir.schema import Column
from pgtrickle.plan import Bindings, Plan
from pgtrickle.rewrite.classes import ColumnClass, column_classes

#: Difference that approximate numbers may have, relative to the larger of them and 1; the order of addition is free.
TOLERANCE = "1e-9"
#: The same for real: PostgreSQL adds up real in real, which has seven digits.
REAL_TOLERANCE = "1e-4"
_REAL = 700


def verify_query(plan: Plan, bindings: Bindings) -> Composed:
    """A SELECT of two counts: rows that the query has and the stream table lacks, and the other way round."""
    columns = plan.root.columns
    classes = column_classes(plan)
    strict: list[Composable] = []
    loose: list[tuple[Name, str]] = []
    compared: list[Composable] = []
    for number, (column, kind) in enumerate(zip(columns, classes, strict=True), 1):
        name = Name(f"v{number}")
        value, tolerance = _comparable(column, kind)
        compared.append(SQL("{} AS {}").format(value, name))
        if tolerance is None:
            strict.append(name)
        else:
            loose.append((name, tolerance))
    target = bindings.stages[plan.root.number].output
    rows = commas(compared)
    query = SQL("SELECT {}, 1 AS w FROM ({}) AS q ({})").format(rows, verbatim(plan.reference), names(columns))
    stored = SQL("SELECT {}, -1 AS w FROM {} AS t").format(rows, table(target))
    both = SQL("{} UNION ALL {}").format(query, stored)
    counted = _paired(both, strict, loose) if loose else _netted(both, strict)
    return SQL(
        "SELECT COALESCE(pg_catalog.sum(missing), 0)::pg_catalog.int8 AS missing,"
        " COALESCE(pg_catalog.sum(extra), 0)::pg_catalog.int8 AS extra FROM ({}) AS s"
    ).format(counted)


def _netted(both: Composable, strict: list[Composable]) -> Composable:
    """How often each row is missing or too many."""
    return SQL(
        "SELECT GREATEST(pg_catalog.sum(w), 0) AS missing, GREATEST(-pg_catalog.sum(w), 0) AS extra"
        " FROM ({}) AS both_sides GROUP BY {}"
    ).format(both, commas(strict))


def _paired(both: Composable, strict: list[Composable], loose: list[tuple[Name, str]]) -> Composable:
    """The same with numbers that may differ a little: rows that agree in the rest are paired in the order of these."""
    numbers = commas(name for name, _ in loose)
    placed = SQL(
        "SELECT b.*, pg_catalog.row_number() OVER (PARTITION BY {} ORDER BY {}) AS place FROM ({}) AS b"
    ).format(commas([SQL("w"), *strict]), numbers, both)
    close = SQL(" AND ").join(_close(name, tolerance) for name, tolerance in loose)
    matched = SQL("SELECT count(*) FILTER (WHERE w > 0) AS q, count(*) FILTER (WHERE w < 0) AS s, {} AS close")
    pairs = SQL("{} FROM ({}) AS p GROUP BY {}").format(matched.format(close), placed, commas([*strict, SQL("place")]))
    return SQL(
        "SELECT CASE WHEN q = s AND close THEN 0 ELSE q END AS missing,"
        " CASE WHEN q = s AND close THEN 0 ELSE s END AS extra FROM ({}) AS m"
    ).format(pairs)


def _close(name: Name, tolerance: str) -> Composable:
    """Whether two numbers are NULL, the same (NaN and infinities too), or near each other; halved against overflow."""
    least, most = SQL("pg_catalog.min({})").format(name), SQL("pg_catalog.max({})").format(name)
    finite = SQL("{} > '-Infinity' AND {} < 'Infinity'").format(least, most)
    size = SQL("GREATEST(1, pg_catalog.abs({}), pg_catalog.abs({}))").format(least, most)
    near = SQL("{} / 2 - {} / 2 <= {} / 2 * {}").format(most, least, verbatim(tolerance), size)
    return SQL("(count({}) = 0 OR count({}) = count(*) AND ({} = {} OR {} AND {}))").format(
        name, name, least, most, finite, near
    )


def _comparable(column: Column, kind: ColumnClass) -> tuple[Composable, str | None]:
    """What is compared of a value, and how much it may differ if it is a number."""
    value = Name(column.name)
    match kind:
        case ColumnClass.EXACT:
            return image(column, value), None
        case ColumnClass.REPRESENTATIVE if column.type.sortable:
            return value, None
        case ColumnClass.REPRESENTATIVE:  # numbers are paired by windows, which sort
            return image(column, value), None
        case ColumnClass.APPROXIMATE if column.type.category == "N":
            tolerance = REAL_TOLERANCE if column.type.base_oid == _REAL else TOLERANCE
            return SQL("{}::pg_catalog.float8").format(value), tolerance
        case ColumnClass.APPROXIMATE if column.type.category == "B":
            return value, None
        case _:
            return SQL("NULL::pg_catalog.int4"), None
