"""``pgtrickle plan``: what would run now, and what holds the others back. Writes nothing."""

from __future__ import annotations

import argparse

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.schedule.preview import Preview, fetch_preview

HELP = "Show what the runner would refresh now, in which order, group and mode, and what holds the others back."


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(context: Context) -> Exit:
    """Look as the runner looks."""
    with context.catalog("pgtrickle plan") as conn:
        preview = fetch_preview(conn)
    if context.json:
        context.print_json(preview)
    else:
        _show(context, preview)
    return Exit.OK


def _show(context: Context, preview: Preview) -> None:
    context.print("would be refreshed now, in this order:")
    due = [(e.order, e.group, e.name, e.mode, e.changes, e.why, e.mode_reason) for e in preview.due]
    context.print_table(("order", "group", "name", "mode", "changes", "why", "mode because"), due, "  nothing")
    context.print("\nwait:")
    held = [
        (
            entry.name,
            entry.gate,
            entry.decision,
            entry.until or ("when somebody acts" if entry.final else ""),
            entry.why,
        )
        for entry in preview.held
    ]
    context.print_table(("name", "gate", "decision", "until", "why"), held, "  nothing")
