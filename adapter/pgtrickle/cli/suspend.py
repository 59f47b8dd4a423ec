"""``pgtrickle suspend``: stop refreshing until it is resumed."""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.create import show
from pgtrickle.cli.exits import Exit

HELP = "Stop scheduled and manual refreshes of stream tables until they are resumed; capture goes on."


def configure(parser: argparse.ArgumentParser) -> None:
    """Which ones."""
    parser.add_argument("names", metavar="NAME", nargs="+", help="stream tables")


def run(context: Context) -> Exit:
    """One after the other."""
    with context.engine() as engine:
        results = [engine.suspend(context.name(engine, name)) for name in context.args.names]
    if context.json:
        context.print_json(results)
        return Exit.OK
    for result in results:
        show(context, result)
    return Exit.OK
