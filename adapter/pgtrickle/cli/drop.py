"""``pgtrickle drop``: drop stream tables."""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress

HELP = "Drop stream tables with their triggers, buffers and state."


def configure(parser: argparse.ArgumentParser) -> None:
    """Which ones, and how far."""
    parser.add_argument("names", metavar="NAME", nargs="+", help="stream tables to drop")
    parser.add_argument("--cascade", action="store_true", help="drop dependent stream tables too (nothing else, ever)")
    parser.add_argument("--if-exists", action="store_true", help="an unknown name is no error")


def run(context: Context) -> Exit:
    """One after the other."""
    args = context.args
    dropped: list[str] = []
    with context.engine() as engine:
        for name in args.names:
            with progress(f"dropping {name}"):
                known = context.name(engine, name)
                dropped += engine.drop_stream_table(known, args.cascade, if_exists=args.if_exists).dropped
    if context.json:
        context.print_json({"dropped": dropped})
    else:
        context.print("\n".join(f"dropped {name}" for name in dropped) or "nothing to drop")
    return Exit.OK
