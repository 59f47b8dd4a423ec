"""``pgtrickle health``: is everything well?"""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.monitor.health import fetch_health

HELP = "Say whether everything is well: stream tables, runners, change buffers. Exits with 5 if not."


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(context: Context) -> Exit:
    """Print the verdict and what is wrong."""
    with context.catalog("pgtrickle health") as conn:
        health = fetch_health(conn)
    if context.json:
        context.print_json(health)
    else:
        context.print(f"{health.status}: {health.summary}")
        rows = [(problem.severity, problem.object_name, problem.text, problem.hint) for problem in health.problems]
        if rows:
            context.print_table(("severity", "object", "problem", "hint"), rows)
    return Exit.OK if health.well else Exit.UNHEALTHY
