"""``pgtrickle refresh``: refresh now."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pgtrickle.cli.arguments import add_names, need_names
from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress
from pgtrickle.results import RefreshResult

HELP = "Refresh stream tables now, together with the stale stream tables they read."
_HEADERS = ("name", "action", "inserted", "updated", "deleted", "ms", "reason")


def configure(parser: argparse.ArgumentParser) -> None:
    """Which ones, and how."""
    add_names(parser, "refresh")
    parser.add_argument("--full", action="store_true", help="recompute by difference instead of applying the changes")


def run(context: Context) -> Exit:
    """One refresh for one name; several go in dependency order and do not stop each other."""
    args = context.args
    need_names(args)
    with context.engine() as engine:
        names = [context.name(engine, name) for name in args.names]
        with progress("refreshing " + (", ".join(args.names) or "all stream tables")):
            if len(names) == 1:
                results: Sequence[RefreshResult] = (engine.refresh_stream_table(names[0], full=args.full),)
            else:
                results = engine.refresh_all(names or None, full=args.full)
    if context.json:
        context.print_json(results)
    else:
        _show(context, results)
    return Exit.ERROR if any(result.action == "FAILED" for result in results) else Exit.OK


def _show(context: Context, results: Sequence[RefreshResult]) -> None:
    flat = [one for result in results for one in (*result.members, result)]
    rows = [
        (r.name, r.action, r.rows_inserted, r.rows_updated, r.rows_deleted, r.duration_ms, r.fallback_reason)
        for r in flat
    ]
    context.print_table(_HEADERS, rows, "there are no stream tables")
    for result in flat:
        context.notices(result.notices)
