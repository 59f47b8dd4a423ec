"""``pgtrickle init``: install or upgrade the catalog."""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress

HELP = "Install or upgrade the schemas pgtrickle, pgtrickle_changes and pgtrickle_state."


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(context: Context) -> Exit:
    """Idempotent."""
    with context.engine() as engine, progress("installing"):
        applied = engine.install()
    if context.json:
        context.print_json({"applied": applied})
    else:
        context.print("\n".join(f"applied {name}" for name in applied) or "nothing to do: the catalog is up to date")
    return Exit.OK
