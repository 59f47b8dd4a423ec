"""Compare a stream table with its defining query, as multisets, column by column as strictly as its class allows."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Composed

from pgtrickle.emit.fragments import Name, commas, image, names, table, verbatim
from pgtrickle.ir.schema import Column
from pgtrickle.plan import Bindings, Plan
from pgtrickle.rewrite.classes import ColumnClass, column_classes

#: Relative difference that sums of floating-point numbers may have, for the order of addition is free.
TOLERANCE = "1e-9"


def verify_query(plan: Plan, bindings: Bindings) -> Composed:
    """A SELECT of two counts: rows that the query has and the stream table lacks, and the other way round."""
    columns = plan.root.columns
    classes = column_classes(plan)
    compared = [
        SQL("{} AS {}").format(_comparable(column, kind), Name(f"v{i + 1}"))
        for i, (column, kind) in enumerate(zip(columns, classes, strict=True))
    ]
    target = bindings.stages[plan.root.number].output
    rows = commas(compared)
    query = SQL("SELECT {}, 1 AS w FROM ({}) AS q ({})").format(rows, verbatim(plan.reference), names(columns))
    stored = SQL("SELECT {}, -1 AS w FROM {} AS t").format(rows, table(target))
    shown = commas(Name(f"v{i + 1}") for i in range(len(columns)))
    summed = SQL("SELECT pg_catalog.sum(w) AS w FROM ({} UNION ALL {}) AS both_sides GROUP BY {}").format(
        query, stored, shown
    )
    return SQL(
        "SELECT COALESCE(pg_catalog.sum(w) FILTER (WHERE w > 0), 0)::pg_catalog.int8 AS missing,"
        " COALESCE(-pg_catalog.sum(w) FILTER (WHERE w < 0), 0)::pg_catalog.int8 AS extra FROM ({}) AS s"
    ).format(summed)


def _comparable(column: Column, kind: ColumnClass) -> Composable:
    value = Name(column.name)
    match kind:
        case ColumnClass.EXACT:
            return image(column, value)
        case ColumnClass.REPRESENTATIVE:
            return value
        case ColumnClass.ORDERED:
            return SQL("NULL::pg_catalog.int4")
        case ColumnClass.APPROXIMATE:
            # Nine significant digits, as text, so that NaN and infinities compare too.
            return SQL("pg_catalog.to_char({}::pg_catalog.float8, {})").format(value, SQL("'9.99999999EEEE'"))
