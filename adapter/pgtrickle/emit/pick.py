"""Strategy PICK: the first rows in an order, kept without reading the input again unless one of them leaves.

What is stored either is the whole input (there are fewer rows than LIMIT allows), or its last row is a boundary: a
change behind it cannot matter. Rows that come before it are merged with the stored ones; only where one of these has
left, the rows that move up have to be fetched from the input (Yi et al., "Efficient Maintenance of Materialized Top-k
Views", ICDE 2003).
"""

from __future__ import annotations

from psycopg.sql import SQL, Composable

from pgtrickle.emit.consolidate import consolidate
from pgtrickle.emit.fragments import WEIGHT, commas, names, scalar
from pgtrickle.emit.net import changed_rows, compared, stored_rows
from pgtrickle.emit.relational import Printer
from pgtrickle.emit.target import Target
from pgtrickle.errors import InternalError
from pgtrickle.ir.operators import InputKey, Pick
from pgtrickle.plan import Stage


def picked_rows(stage: Stage, target: Target, changed: frozenset[InputKey], printer: Printer) -> Composable | None:
    """The weighted rows by which the kept rows change; None if nothing can have changed."""
    pick = stage.operator
    if not isinstance(pick, Pick):
        raise InternalError("a stage of this strategy keeps the first rows in an order")
    rows = changed_rows(pick.child, changed, printer)
    if rows is None:
        return None
    shown, order, limit = names(pick.columns), commas(map(scalar, pick.items)), scalar(pick.limit)
    stored = stored_rows(target, pick.columns)
    printer.define("news", consolidate(pick.columns, rows))
    printer.define("kept", stored)
    merged = SQL(
        "SELECT {}, 1::pg_catalog.int8 AS {}, 0 AS __new FROM kept UNION ALL SELECT {}, {}, 1 FROM news"
    ).format(shown, WEIGHT, shown, WEIGHT)
    # Among equals a change stands first, so that the loss of the last row is seen.
    placed = SQL(
        "SELECT __new, {}, pg_catalog.row_number() OVER (ORDER BY {}, __new DESC) AS __place FROM ({}) AS m"
    ).format(WEIGHT, order, merged)
    printer.define("placed", placed)
    printer.define(
        "refill",
        SQL(
            "SELECT 1 WHERE (SELECT count(*) FROM kept) >= ({}) AND EXISTS (SELECT 1 FROM placed WHERE __new = 1"
            " AND {} < 0 AND __place < (SELECT pg_catalog.max(__place) FROM placed WHERE __new = 0))"
        ).format(limit, WEIGHT),
    )
    net = consolidate(pick.columns, SQL("SELECT {}, {} FROM ({}) AS m").format(shown, WEIGHT, merged))
    copies = SQL(
        "SELECT {} FROM ({}) AS n CROSS JOIN pg_catalog.generate_series(1, n.{}) AS copy"
        " WHERE n.{} > 0 AND NOT EXISTS (SELECT 1 FROM refill) ORDER BY {} LIMIT ({})"
    ).format(shown, net, WEIGHT, WEIGHT, order, limit)
    printer.plan_sharing(pick)
    again = SQL("SELECT * FROM ({}) AS q WHERE EXISTS (SELECT 1 FROM refill)").format(printer.select(pick))
    new = SQL("SELECT * FROM ({}) AS merged UNION ALL SELECT * FROM ({}) AS refilled").format(copies, again)
    return compared(new, SQL("SELECT {} FROM kept").format(shown), pick.columns)
