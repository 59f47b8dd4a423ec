"""``pgtrickle create``: create a stream table."""

from __future__ import annotations

import argparse

from pgtrickle.cli.arguments import add_definition, add_name, add_query
from pgtrickle.cli.context import Context, read_options, read_query
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress
from pgtrickle.results import CreateResult, ReplaceResult

HELP = "Create a stream table: capture its sources and load it."


def configure(parser: argparse.ArgumentParser) -> None:
    """Name, query and how it is maintained."""
    add_name(parser)
    add_query(parser, required=True)
    add_definition(parser)
    parser.add_argument("--no-initialize", action="store_true", help="register only; the first refresh loads")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--if-not-exists", action="store_true", help="leave an existing stream table as it is")
    group.add_argument("--or-replace", action="store_true", help="change an existing one to what is said here")


def run(context: Context) -> Exit:
    """Create, create if it is not there, or compare and do the least."""
    args = context.args
    with context.engine() as engine, progress(f"creating {args.name}"):
        name = context.new_name(args.name)
        query = read_query(args) or ""
        given = {"schedule": args.schedule, "refresh_mode": args.mode}
        settings = {key: value for key, value in given.items() if value is not None}
        options = {**read_options(args.option), "initialize": not args.no_initialize}
        result: CreateResult | ReplaceResult
        if args.or_replace:
            result = engine.create_or_replace_stream_table(name, query, **settings, **options)
        elif args.if_not_exists:
            result = engine.create_stream_table_if_not_exists(name, query, **settings, **options)
        else:
            result = engine.create_stream_table(name, query, **settings, **options)
    show(context, result)
    return Exit.OK


def show(context: Context, result: CreateResult | ReplaceResult) -> None:
    """What was done."""
    if context.json:
        context.print_json(result)
        return
    context.notices(result.notices)
    rows = result.rows if isinstance(result, CreateResult) else result.rows_changed
    context.print(f"{result.name}: {', '.join(result.actions)} ({rows} rows), {result.effective_mode}")
    if result.mode_reason:
        context.print(f"  not DIFFERENTIAL because {result.mode_reason}")
