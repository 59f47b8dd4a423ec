"""``pgtrickle history``: what was refreshed, how, and why."""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit

HELP = "Show the last refreshes, newest first."
_HEADERS = ("started", "name", "action", "by", "inserted", "updated", "deleted", "ms", "reason")


def configure(parser: argparse.ArgumentParser) -> None:
    """Of whom, and how many."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="stream table; default all")
    parser.add_argument("--limit", "-n", type=int, default=20, help="rows to show (default 20)")


def run(context: Context) -> Exit:
    """Print a row for each refresh."""
    with context.engine() as engine:
        name = context.args.name
        rows = engine.history(name and context.name(engine, name), context.args.limit)
    if context.json:
        context.print_json(rows)
        return Exit.OK
    cells = [
        (
            row.started_at,
            row.name,
            row.action,
            row.initiated_by,
            row.rows_inserted,
            row.rows_updated,
            row.rows_deleted,
            row.duration_ms,
            row.error or row.reason,
        )
        for row in rows
    ]
    context.print_table(_HEADERS, cells, "no refreshes yet")
    return Exit.OK
