"""Changes that take each other back, or are the same, made one."""

from __future__ import annotations

from psycopg.sql import SQL, Composable

from pgtrickle.emit.fragments import WEIGHT, Name, commas, image, names
from pgtrickle.ir.schema import Column, Equality
from pgtrickle.names import fit_identifier


def consolidate(columns: tuple[Column, ...], weighted: Composable) -> Composable:
    """Net changes: the weights of rows that look the same added up, rows of weight 0 dropped.

    Grouping by the columns themselves would take 1.0 for 1.00, so columns whose ``=`` is coarser than what a user
    sees are told apart by their image; which of the (indistinguishable) rows is kept does not matter.
    """
    shown = names(columns)
    if not columns:  # all rows are alike
        return SQL(
            "SELECT pg_catalog.sum({})::pg_catalog.int8 AS {} FROM ({}) AS w HAVING pg_catalog.sum({}) <> 0.0"
        ).format(WEIGHT, WEIGHT, weighted, WEIGHT)
    if all(column.type.equality is Equality.EXACT for column in columns):
        return SQL(
            "SELECT {}, pg_catalog.sum({})::pg_catalog.int8 AS {} FROM ({}) AS w"
            " GROUP BY {} HAVING pg_catalog.sum({}) <> 0.0"
        ).format(shown, WEIGHT, WEIGHT, weighted, shown, WEIGHT)
    images = commas(image(column, Name(column.name)) for column in columns)
    taken = frozenset(column.name for column in columns)
    total, number = (Name(fit_identifier(name, taken)) for name in ("__total", "__number"))
    summed = SQL(
        "SELECT {}, pg_catalog.sum({}) OVER same AS {}, pg_catalog.row_number() OVER same AS {}"
        " FROM ({}) AS w WINDOW same AS (PARTITION BY {})"
    ).format(shown, WEIGHT, total, number, weighted, images)
    return SQL("SELECT {}, {}::pg_catalog.int8 AS {} FROM ({}) AS s WHERE {} = 1 AND {} <> 0").format(
        shown, total, WEIGHT, summed, number, total
    )
