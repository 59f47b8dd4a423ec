"""``pgtrickle uninstall``: leave no trace."""

from __future__ import annotations

import argparse
import sys

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress
from pgtrickle.errors import InvalidOption

HELP = "Remove triggers, change buffers, state and catalog; stream tables stay as ordinary tables."


def configure(parser: argparse.ArgumentParser) -> None:
    """How far."""
    parser.add_argument("--drop-stream-tables", action="store_true", help="drop the stream tables too")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def run(context: Context) -> Exit:
    """Ask, then remove."""
    args = context.args
    if not args.yes and not _confirmed(args.drop_stream_tables):
        context.say("nothing was done")
        return Exit.ERROR
    with context.engine() as engine, progress("uninstalling"):
        names = engine.uninstall(drop_stream_tables=args.drop_stream_tables)
    verb = "dropped" if args.drop_stream_tables else "released"
    if context.json:
        context.print_json({verb: names})
    else:
        context.print("\n".join([*(f"{verb} {name}" for name in names), "uninstalled"]))
    return Exit.OK


def _confirmed(drop: bool) -> bool:
    if not sys.stdin.isatty():
        raise InvalidOption(
            "This needs a confirmation.", object_name="--yes", hint="Say --yes where nobody can answer."
        )
    what = "catalog, triggers, change buffers AND ALL STREAM TABLES" if drop else "catalog, triggers and change buffers"
    return input(f"Remove {what}? [y/N] ").strip().lower() in ("y", "yes")
