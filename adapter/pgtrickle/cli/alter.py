"""``pgtrickle alter``: change a stream table."""

from __future__ import annotations

import argparse

from pgtrickle.cli.arguments import add_definition, add_name, add_query
from pgtrickle.cli.context import Context, read_options, read_query
from pgtrickle.cli.create import show
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress

HELP = "Change query, schedule, mode or options of a stream table; what is not said stays."


def configure(parser: argparse.ArgumentParser) -> None:
    """What to change."""
    add_name(parser)
    add_query(parser, required=False)
    add_definition(parser)
    parser.add_argument("--status", help="ACTIVE or SUSPENDED")


def run(context: Context) -> Exit:
    """Change what is given and keep the rest."""
    args = context.args
    with context.engine() as engine, progress(f"altering {args.name}"):
        result = engine.alter_stream_table(
            context.name(engine, args.name),
            query=read_query(args),
            schedule=args.schedule,
            refresh_mode=args.mode,
            status=args.status,
            **read_options(args.option),
        )
    show(context, result)
    return Exit.OK
