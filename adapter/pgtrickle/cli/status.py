"""``pgtrickle status``: the state of stream tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.render import age
from pgtrickle.errors import InvalidOption
from pgtrickle.monitor.freshness import complaint
from pgtrickle.results import StatusRow
from pgtrickle.schedule import parse
from pgtrickle.schedule.kinds.duration import format_duration

HELP = "Show the state of stream tables."
_HEADERS = ("name", "status", "mode", "schedule", "age", "stale", "errors", "note")


def configure(parser: argparse.ArgumentParser) -> None:
    """Which ones, and whether to complain."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="stream tables; default all")
    parser.add_argument("--check", action="store_true", help="exit with 5 if one is not healthy")
    parser.add_argument("--max-age", metavar="DURATION", help="with --check: older than this is not healthy, e.g. 5m")


def run(context: Context) -> Exit:
    """Print a row for each; with ``--check`` say what is wrong."""
    args = context.args
    limit = _max_age(args.max_age)
    with context.engine() as engine:
        names = [context.name(engine, name) for name in args.names]
        rows = [row for name in names for row in engine.status(name)] if names else list(engine.status())
    effective = _effective(context)
    complaints = {row.name: complaint(row, limit) for row in rows} if args.check else {}
    if context.json:
        context.print_json([_document(row, effective, complaints) for row in rows])
    else:
        context.print_table(
            _HEADERS, [_cells(row, effective, complaints) for row in rows], "there are no stream tables"
        )
    return Exit.UNHEALTHY if any(complaints.values()) else Exit.OK


def _max_age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    schedule = parse(text)
    if schedule.kind != "duration":
        raise InvalidOption(f"'{text}' is not a duration.", object_name="--max-age", hint="Such as 30s or 1h.")
    return schedule.period


def _effective(context: Context) -> dict[int, timedelta | None]:
    """Effective periods by OID, to show what ``calculated`` amounts to."""
    situation = context.situation()
    return {state.relid: situation.periods[key] for key, state in situation.tables.items()}


def _document(
    row: StatusRow, effective: dict[int, timedelta | None], complaints: dict[str, str | None]
) -> dict[str, Any]:
    document = {**asdict(row), "effective_period_seconds": effective.get(row.relid)}
    return {**document, "complaint": complaints[row.name]} if complaints else document


def _cells(row: StatusRow, effective: dict[int, timedelta | None], complaints: dict[str, str | None]) -> Sequence[Any]:
    note = complaints.get(row.name) or row.last_error or row.mode_reason
    mode = row.effective_mode if row.refresh_mode == row.effective_mode else f"{row.refresh_mode}/{row.effective_mode}"
    return (
        row.name,
        row.status,
        mode,
        _schedule(row, effective.get(row.relid)),
        age(row.staleness_seconds) or "never",
        row.stale,
        row.consecutive_errors,
        note,
    )


def _schedule(row: StatusRow, period: timedelta | None) -> str:
    if row.schedule != "calculated":
        return row.schedule
    if period is None:
        return "calculated (with dependents)"
    return f"calculated ({'continuous' if period == timedelta(0) else format_duration(period)})"
