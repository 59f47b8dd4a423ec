"""``pgtrickle dag``: a picture of the stream tables and their sources."""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.monitor.picture import FORMATS, fetch_lineage

HELP = "Draw which stream table reads what, as Mermaid, DOT or text."


def configure(parser: argparse.ArgumentParser) -> None:
    """How."""
    parser.add_argument("--format", choices=sorted(FORMATS), default="text", help="default text")


def run(context: Context) -> Exit:
    """Print the picture."""
    with context.catalog("pgtrickle dag") as conn:
        lineage = fetch_lineage(conn)
    if context.json:
        context.print_json(lineage)
    else:
        context.print(FORMATS[context.args.format](lineage))
    return Exit.OK
