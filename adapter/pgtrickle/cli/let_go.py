"""``pgtrickle let-go``: keep no more changes for a stream table."""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit

HELP = "Keep no more changes for stream tables that nobody refreshes: their next refresh recomputes."


def configure(parser: argparse.ArgumentParser) -> None:
    """Which ones."""
    parser.add_argument("names", nargs="+", metavar="NAME")


def run(context: Context) -> Exit:
    """One after the other."""
    with context.engine() as engine:
        for name in context.args.names:
            engine.let_go(context.name(engine, name))
    return Exit.OK
