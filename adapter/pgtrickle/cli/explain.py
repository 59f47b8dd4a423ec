"""``pgtrickle explain``: how a stream table is maintained."""

from __future__ import annotations

import argparse

from pgtrickle import explain
from pgtrickle.cli.arguments import add_name
from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.explain.model import Explanation

HELP = "Show how a stream table is maintained: operators, rules, rewrites, delta SQL, tables and their cost, gates."


def configure(parser: argparse.ArgumentParser) -> None:
    """Which one, and how much."""
    add_name(parser)
    add_form(parser)


def add_form(parser: argparse.ArgumentParser) -> None:
    """How an explanation is shown."""
    parser.add_argument("--sql", action="store_true", help="show the delta SQL per changed source too")
    parser.add_argument(
        "--format",
        choices=("text", "json", "mermaid", "dot"),
        default="text",
        help="text (default), json (as --json), or a picture of the operators: mermaid, dot",
    )


def run(context: Context) -> Exit:
    """Print the explanation."""
    with context.engine() as engine:
        explanation = engine.explain(context.name(engine, context.args.name))
    show(context, explanation)
    return Exit.OK


def show(context: Context, explanation: Explanation) -> None:
    """An explanation for people or machines."""
    if context.json or context.args.format == "json":
        context.print_json(explanation)
    else:
        context.print(explain.render(explanation, context.args.format, sql=context.args.sql))
