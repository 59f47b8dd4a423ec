"""``pgtrickle validate``: what would become of a query, without creating anything."""

from __future__ import annotations

import argparse

from pgtrickle.cli.arguments import add_query
from pgtrickle.cli.context import Context, read_query
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.explain import add_form, show

HELP = "Show how a query would be maintained, without creating anything."


def configure(parser: argparse.ArgumentParser) -> None:
    """The query."""
    add_query(parser, required=True)
    parser.add_argument("--mode", default="AUTO", metavar="MODE", help="AUTO (default), DIFFERENTIAL or FULL")
    add_form(parser)


def run(context: Context) -> Exit:
    """Print the explanation; an error of the query is an error."""
    with context.engine() as engine:
        explanation = engine.validate_query(read_query(context.args) or "", context.args.mode)
    show(context, explanation)
    return Exit.OK
